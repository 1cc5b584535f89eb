"""Series, decoded bands and counterfactuals of one pixel, as JSON values."""

import base64
import io
from functools import lru_cache
from typing import Any

import numpy as np

from thalweg.app.earth.open_stores import OpenStore
from thalweg.app.earth.tiles import QUALITY_LABELS
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import WGS84, PixelIndex, dataset_geobox, lon_lat, map_point
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError

GRID_POINTS = 33
"""Points per side of the grid of longitudes and latitudes."""


def pixel_series(store: OpenStore, pixel: PixelIndex) -> dict[str, Any]:
    """Return the embedding of a pixel on every date, with its uncertainty and the reasons of missing dates.

    Returns:
        JSON values: `row`, `column`, `x`, `y` (m), `longitude`, `latitude` (degrees); per date `values` and
        `half_width` (lists of K numbers, null where there is no embedding), `quality`, `context_dates`, and by sensor
        `gaps` (days).

    Raises:
        UsageError: The pixel lies outside the grid.
    """
    store.check_pixel(pixel)
    series = store.dataset.isel(y=pixel.row, x=pixel.column)
    grid = dataset_geobox(store.dataset)
    point, degrees = map_point(pixel, grid), lon_lat(pixel, grid)
    return {
        "row": pixel.row,
        "column": pixel.column,
        "x": point.x,
        "y": point.y,
        "longitude": degrees.longitude,
        "latitude": degrees.latitude,
        "values": _json_numbers(series.embeddings.values),
        "half_width": _json_numbers(series.uncertainty.values),
        "quality": [Quality(int(flag)).name.lower() for flag in series.quality.values],
        "context_dates": [int(count) for count in series.valid_context_dates.values],
        "gaps": {
            str(name).removeprefix("gap_"): _json_numbers(series[name].values)
            for name in series.data_vars
            if str(name).startswith("gap_")
        },
    }


def series_table(store: OpenStore, pixel: PixelIndex) -> str:
    """Return the series of a pixel as a CSV table with one row per date.

    Columns: `time`, `row`, `column`, `x`, `y`, `longitude`, `latitude`, `quality`, `context_dates`, `gap_SENSOR`, and
    per dimension `e1`, ... with `e1_uncertainty` (half-width of the 68 % interval); empty without an embedding.

    Raises:
        UsageError: The pixel lies outside the grid.
    """
    import pandas as pd

    series = pixel_series(store, pixel)
    columns: dict[str, Any] = {"time": [np.datetime_as_string(time, "s") for time in store.dataset.time.values]}
    columns |= {name: series[name] for name in ("row", "column", "x", "y", "longitude", "latitude")}
    columns |= {name: series[name] for name in ("quality", "context_dates")}
    columns |= {f"gap_{sensor}": days for sensor, days in series["gaps"].items()}
    values, half_widths = (np.array(series[name], float) for name in ("values", "half_width"))
    for index in range(values.shape[1]):
        columns |= {f"e{index + 1}": values[:, index], f"e{index + 1}_uncertainty": half_widths[:, index]}
    return pd.DataFrame(columns).to_csv(index=False)


def degree_grid(store: OpenStore) -> dict[str, Any]:
    """Return the longitude and latitude of evenly spaced points, between which the page interpolates.

    Within 40 km the interpolated position is less than 0.1 m off, within 200 km less than 3 m.

    Returns:
        JSON values: `rows` and `columns`, positions in pixels from the upper left corner; `longitude`, in degrees
        without a jump at 180, and `latitude`, lists of lists by row, null where the reference system has none.
    """
    from pyproj import Transformer

    grid = dataset_geobox(store.dataset)
    affine: Any = grid.affine  # its types know numbers alone, not arrays
    rows, columns = (np.linspace(0, size, GRID_POINTS) for size in store.shape)
    across, down = np.meshgrid(columns, rows)
    transformer = Transformer.from_crs(str(grid.crs), WGS84, always_xy=True)
    longitude, latitude = (np.asarray(one) for one in transformer.transform(*(affine @ (across, down))))
    with np.errstate(invalid="ignore"):
        longitude = np.unwrap(np.unwrap(longitude, period=360, axis=0), period=360, axis=1)
    return {
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "longitude": _json_numbers(longitude, 7),
        "latitude": _json_numbers(latitude, 7),
    }


def decoded_bands(store: OpenStore, pixel: PixelIndex, date: int) -> dict[str, Any]:
    """Return the decoded bands of each sensor at a pixel on a date, with 90 % intervals.

    The intervals are those of `thalweg.earth.counterfactual.counterfactual.decoded_spectra`: they hold the uncertainty
    of the embedding, not the error of the decoder.

    Args:
        store: the store.
        pixel: the pixel.
        date: index of the date, from 0.

    Raises:
        UsageError: The pixel has no embedding on the date, or another model made the store.
    """
    from thalweg.earth.counterfactual.counterfactual import decoded_spectra

    store.check_pixel(pixel)
    store.check_date(date)
    model = _shipped_model()
    model.check_made(store.dataset)
    located = store.dataset.isel(time=date, y=pixel.row, x=pixel.column)
    vector = located.embeddings.values
    if not np.isfinite(vector).all():
        label = QUALITY_LABELS[Quality(int(located.quality.values))]
        raise UsageError(f"no embedding at this pixel on this date ({label}): choose another date")
    sensors = []
    for name, table in decoded_spectra(model, vector, located.uncertainty.values).items():
        declared = model.autoencoder(name).sensor
        bands = [
            {"name": band, "value": float(value), "low": float(low), "high": float(high)}
            for band, value, low, high in zip(table.band, table.value, table.low, table.high, strict=True)
        ]
        sensors.append({"name": name, "title": declared.title, "units": declared.units, "bands": bands})
    return {"date": date, "sensors": sensors}


def pixel_counterfactual(store: OpenStore, pixel: PixelIndex, date: int, target: str) -> dict[str, Any]:
    """Return the counterfactual of a pixel on a date that reaches a target, with its figure as a data URL.

    Args:
        store: the store.
        pixel: the pixel.
        date: index of the date, from 0.
        target: such as `ndvi+0.1` (`thalweg.earth.counterfactual.target`).

    Raises:
        UsageError: The pixel has no embedding on the date, the target is invalid, or another model made the store.
    """
    from thalweg.earth.counterfactual.counterfactual import find_counterfactual
    from thalweg.earth.counterfactual.counterfactual_plots import draw_counterfactual

    store.check_pixel(pixel)
    store.check_date(date)
    result = find_counterfactual(store.dataset, pixel, date, target, _shipped_model(), store.distribution())
    png = io.BytesIO()
    draw_counterfactual(result).savefig(png, format="png")
    return {
        "text": result.summary,
        "reached": bool(result.reached),
        "plausible": bool(result.plausible),
        "figure": "data:image/png;base64," + base64.b64encode(png.getvalue()).decode(),
    }


@lru_cache(maxsize=1)
def _shipped_model() -> EarthModel:
    return EarthModel.load()


def _json_numbers(values: np.ndarray, decimals: int = 5) -> list[Any]:
    """Return numbers for JSON, rounded, None for those that are not finite."""
    rounded = np.round(values.astype(float), decimals).astype(object)
    rounded[~np.isfinite(values)] = None
    listed: list[Any] = rounded.tolist()
    return listed
