"""What one pixel says: its series, what each sensor would see there, and what if it were something else."""

import base64
import io
from functools import lru_cache
from typing import Any

import numpy as np

from thalweg.app.earth.scenes import Scene
from thalweg.earth.model import EarthModel
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError

DRAWS = 200
"""How often an embedding is drawn within its uncertainty to see how much the decoded bands move."""

_PERCENTILES = (16, 84)


def series(scene: Scene, row: int, column: int) -> dict[str, Any]:
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


def decoded(scene: Scene, row: int, column: int, date: int) -> dict[str, Any]:
    """The bands that each sensor of the model would show at a pixel on a date, with a 68 % range.

    The range is of the bands decoded from embeddings drawn within the embedding's own uncertainty; the decoder's error
    is not in it.

    Raises:
        UsageError: the pixel has no embedding on the date, or another model made the store.
    """
    import xarray as xr

    from thalweg.earth.accessor import Embeddings

    scene.check_pixel(row, column)
    scene.check_date(date)
    here = scene.dataset.isel(time=[date], y=[row], x=[column])
    vector, half_width = here.embeddings.values[0, :, 0, 0], here.uncertainty.values[0, :, 0, 0]
    if not np.isfinite(vector).all():
        flag = Quality(int(here.quality.values.item())).name.lower().replace("_", " ")
        raise UsageError(f"no embedding at this pixel on this date ({flag}): choose another date")
    noise = np.random.default_rng(0).normal(size=(DRAWS, len(vector)))
    drawn = vector + np.concatenate([np.zeros((1, len(vector))), noise * half_width])
    # The draws stand side by side in one row of pixels, so that the sensors' decoder sees them as a small map.
    pixels = xr.Dataset(
        {"embeddings": (("time", "embedding", "y", "x"), drawn.T[None, :, None, :].astype(np.float32))},
        coords={"time": here.time, "y": [0.0], "x": np.arange(len(drawn)), "spatial_ref": 0},
        attrs=scene.dataset.attrs,
    )
    model = _shipped()
    sensors = []
    for name in model.sensors:
        bands = Embeddings(pixels).decode(name, model=model)
        declared = model.autoencoder(name).sensor
        low, high = np.percentile(bands.values[0, :, 0, 1:], _PERCENTILES, axis=-1)
        sensors.append(
            {
                "name": name,
                "title": declared.title,
                "units": declared.units,
                "bands": [
                    {"name": band.name, "wavelength": band.wavelength, "value": value, "low": least, "high": most}
                    for band, value, least, most in zip(
                        declared.bands,
                        bands.values[0, :, 0, 0].tolist(),
                        low.tolist(),
                        high.tolist(),
                        strict=True,
                    )
                ],
            }
        )
    return {"date": date, "sensors": sensors}


def asked_what_if(scene: Scene, row: int, column: int, date: int, target: str) -> dict[str, Any]:
    """What would have to change at a pixel on a date for it to be as `target` says (`earth.whatif`)."""
    from thalweg.earth.whatif import draw, what_if

    scene.check_pixel(row, column)
    scene.check_date(date)
    result = what_if(scene.dataset, (column, row), date, target)
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


def _degrees(scene: Scene, x: float, y: float) -> tuple[float, float]:
    from pyproj import Transformer

    transformer = Transformer.from_crs(scene.dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    longitude, latitude = transformer.transform(x, y)
    return float(longitude), float(latitude)


def _numbers(values: np.ndarray) -> list[Any]:
    """Numbers for JSON, rounded to what can be told apart, None for NaN."""
    rounded = np.round(values.astype(float), 5)
    return np.where(np.isfinite(rounded), rounded, None).tolist()
