"""What one pixel says: its series, what each sensor would see there, and what if it were something else."""

import base64
import io
from functools import lru_cache
from typing import Any

import numpy as np

from thalweg.app.earth.open_stores import OpenStore
from thalweg.app.earth.tiles import QUALITY_WORDS
from thalweg.earth.counterfactual.generator import check_made_by
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError


def series(scene: OpenStore, row: int, column: int) -> dict[str, Any]:
    """A pixel's embedding on every date, with its uncertainty and why a date is not there; JSON values only."""
    scene.check_pixel(row, column)
    here = scene.dataset.isel(y=row, x=column)
    longitude, latitude = _degrees(scene, float(here.x), float(here.y))
    return {
        "row": row,
        "column": column,
        "x": float(here.x),
        "y": float(here.y),
        "longitude": longitude,
        "latitude": latitude,
        "values": _numbers(here.embeddings.values),
        "half_width": _numbers(here.uncertainty.values),
        "quality": [Quality(int(flag)).name.lower() for flag in here.quality.values],
        "context_dates": [int(count) for count in here.valid_context_dates.values],
        "gaps": {
            str(name).removeprefix("gap_"): _numbers(here[name].values)
            for name in here.data_vars
            if str(name).startswith("gap_")
        },
    }


def decoded(scene: OpenStore, row: int, column: int, date: int) -> dict[str, Any]:
    """The bands that each sensor of the model would show at a pixel on a date, with 90 % intervals (`whatif.spectra`).

    The intervals are of bands decoded from embeddings drawn within the embedding's own uncertainty; the decoder's error
    is not in them.

    Raises:
        UsageError: the pixel has no embedding on the date, or another model made the store.
    """
    from thalweg.earth.counterfactual.counterfactual import spectra

    scene.check_pixel(row, column)
    scene.check_date(date)
    model = _shipped()
    check_made_by(scene.dataset, model)
    here = scene.dataset.isel(time=date, y=row, x=column)
    vector = here.embeddings.values
    if not np.isfinite(vector).all():
        flag = QUALITY_WORDS[Quality(int(here.quality.values))]
        raise UsageError(f"no embedding at this pixel on this date ({flag}): choose another date")
    sensors = []
    for name, table in spectra(model, vector, here.uncertainty.values).items():
        declared = model.autoencoder(name).sensor
        bands = [
            {"name": band, "value": float(value), "low": float(low), "high": float(high)}
            for band, value, low, high in zip(table.band, table.value, table.low, table.high, strict=True)
        ]
        sensors.append({"name": name, "title": declared.title, "units": declared.units, "bands": bands})
    return {"date": date, "sensors": sensors}


def asked_what_if(scene: OpenStore, row: int, column: int, date: int, target: str) -> dict[str, Any]:
    """What would have to change at a pixel on a date for it to be as `target` says (`earth.whatif`)."""
    from thalweg.earth.counterfactual.counterfactual import draw, what_if

    scene.check_pixel(row, column)
    scene.check_date(date)
    result = what_if(scene.dataset, (column, row), date, target, _shipped(), scene.population)
    out = io.BytesIO()
    draw(result).savefig(out, format="png")
    return {
        "text": result.text,
        "reached": bool(result.reached),
        "plausible": bool(result.plausible),
        "figure": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode(),
    }


@lru_cache(maxsize=1)
def _shipped() -> EarthModel:
    return EarthModel.load()


def _degrees(scene: OpenStore, x: float, y: float) -> tuple[float, float]:
    from pyproj import Transformer

    transformer = Transformer.from_crs(scene.dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    longitude, latitude = transformer.transform(x, y)
    return float(longitude), float(latitude)


def _numbers(values: np.ndarray) -> list[Any]:
    """Numbers for JSON, rounded to what can be told apart, None for NaN."""
    rounded = np.round(values.astype(float), 5).astype(object)
    rounded[~np.isfinite(values)] = None
    listed: list[Any] = rounded.tolist()
    return listed
