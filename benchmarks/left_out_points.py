"""Points of regions that no model was trained on: all of Corsica, and every fourth reference set of `global49`.

A point is a single pixel: its neighbourhood is invalid. Points of equal dates are laid side by side, so far from each
other that none is in another's context. Dates are monthly composites; those too bright in the blue band for a surface
without cloud and snow are invalid.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from embedded_site import OPTICAL, RADAR
from thalweg.earth.model.context import HALO, SensorContext, days_since_epoch
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.tiles import TrainingSite

CORSICA, GLOBAL = "corsica_2022_monthly", "global49_monthly"
LEFT_OUT_STEP = 4
MAX_POINTS, MIN_POINTS = 150, 4
"""Points per table at most, and per group of equal dates at least."""

MIDDLE_OF_MONTH = np.timedelta64(15, "D")
"""Days from the date of a composite, the start of its month, to that of its observations."""

REFLECTANCE_SCALE, MAX_BLUE = 1e-4, 0.2


def left_out_sites(folder: Path) -> list[TrainingSite]:
    """Return the points of left-out regions in a folder of tables as sites of one row, one for each set of dates."""
    sites = []
    for name in (CORSICA, GLOBAL):
        table = pd.read_parquet(folder / f"{name}.parquet")
        table = table[table.sample_id.isin(left_out_places(table, name))]
        for dates, rows in groups_of_equal_dates(table):
            if len(rows) >= MIN_POINTS * len(dates):
                sites.append(as_site(f"{name}, {str(dates[0])[:7]}", dates, rows))
    return sites


def groups_of_equal_dates(table: pd.DataFrame) -> Iterator[tuple[NDArray, pd.DataFrame]]:
    """Yield dates (T,) and the rows of all places that have them, sorted by place and date."""
    table = table.sort_values(["sample_id", "time"])
    dates = table.groupby("sample_id").time.agg(tuple)
    for times, group in dates.groupby(dates):
        yield np.array(times, "datetime64[ns]"), table[table.sample_id.isin(group.index)]


def as_site(name: str, dates: NDArray, rows: pd.DataFrame) -> TrainingSite:
    """Return points with equal dates (T,) as a site of one row; the table is sorted by place and date."""
    days = torch.from_numpy(days_since_epoch(dates + MIDDLE_OF_MONTH).astype(np.float32))
    optical, radar = sensor_by_name(OPTICAL), sensor_by_name(RADAR)
    reflectance = rows[list(optical.band_names)].to_numpy(float) * REFLECTANCE_SCALE
    present: NDArray[np.bool_] = np.any(reflectance > 0, axis=0)
    bright = reflectance[:, optical.band_names.index("B02")] > MAX_BLUE
    clear: NDArray[np.bool_] = np.all(reflectance[:, present] > 0, axis=1) & ~bright
    backscatter = rows[[f"{band}_dB" for band in radar.band_names]].to_numpy(float)
    measured: NDArray[np.bool_] = np.all(np.isfinite(backscatter), axis=1)
    contexts = {
        OPTICAL: side_by_side(optical.scale(reflectance), clear, present, days),
        RADAR: side_by_side(radar.scale(backscatter), measured, np.ones(2, bool), days),
    }
    seen = contexts[OPTICAL].valid.amax((1, 2, 3)) > 0
    return TrainingSite(name, contexts, days[seen], (1, contexts[OPTICAL].valid.shape[-1] - 2 * HALO))


def left_out_places(table: pd.DataFrame, name: str) -> set[str]:
    """Return the identifiers of at most `MAX_POINTS` left-out places, evenly over their sorted list."""
    if name == GLOBAL:
        regions = sorted(table.ref_id.unique())[::LEFT_OUT_STEP]
        table = table[table.ref_id.isin(regions)]
    places = sorted(table.sample_id.unique())
    rows = np.linspace(0, len(places) - 1, min(MAX_POINTS, len(places))).round().astype(int)
    return {places[row] for row in rows}


def side_by_side(
    values: NDArray, valid: NDArray[np.bool_], present: NDArray[np.bool_], days: torch.Tensor
) -> SensorContext:
    """Lay out series (N * T, C) of N points on T days in one row, `HALO` invalid pixels between two points."""
    filled = np.where(valid[:, None] & present, values, 0.0).reshape(-1, len(days), len(present))
    points, step = len(filled), HALO + 1
    columns = HALO + step * np.arange(points)
    shape = (len(days), len(present), 1 + 2 * HALO, step * (points - 1) + 1 + 2 * HALO)
    layers = np.zeros(shape, np.float32), np.zeros((shape[0], 1, *shape[2:]), np.float32)
    layers[0][:, :, HALO, columns] = filled.transpose(1, 2, 0)
    layers[1][:, 0, HALO, columns] = valid.reshape(points, -1).T
    return SensorContext(torch.from_numpy(layers[0]), torch.from_numpy(layers[1]), days, torch.from_numpy(present))
