"""Points of regions that no model was trained on: all of Corsica, and every fourth reference set of `global49`.

A point is a single pixel: its neighbourhood is invalid. Points of equal dates are laid side by side, so far from each
other that none is in another's context. Dates are monthly composites, dated by the middle of the month.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from embedded_site import OPTICAL, RADAR
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.points import PointSite, read_points
from thalweg.earth.training.tiles import TrainingSite

CORSICA, GLOBAL = "corsica_2022_monthly", "global49_monthly"
LEFT_OUT_STEP = 4
MAX_POINTS, MIN_POINTS = 150, 4
"""Points per table at most, and per group of equal dates at least."""

DAYS_PER_MONTH = 30.0


def left_out_sites(folder: Path) -> list[TrainingSite]:
    """Return the points of left-out regions in a folder of tables as sites of one row, one for each set of dates."""
    sites = []
    for name in (CORSICA, GLOBAL):
        path = folder / f"{name}.parquet"
        regions = sorted(pd.read_parquet(path, columns=["ref_id"]).ref_id.unique())
        reported = regions if name == CORSICA else regions[::LEFT_OUT_STEP]
        others = set(regions) - set(reported)
        groups = read_points(path, [sensor_by_name(OPTICAL), sensor_by_name(RADAR)], DAYS_PER_MONTH, leave_out=others)
        chosen = evenly(sorted(place for group in groups for place in group.places))
        for group in groups:
            points = [number for number, place in enumerate(group.places) if place in chosen]
            if len(points) >= MIN_POINTS:
                sites.append(as_site(group, torch.tensor(points)))
    return sites


def evenly(places: list[str]) -> set[str]:
    """Return at most `MAX_POINTS` places, evenly over their sorted list."""
    numbers = np.linspace(0, len(places) - 1, min(MAX_POINTS, len(places))).round().astype(int)
    return {places[number] for number in numbers}


def as_site(group: PointSite, points: torch.Tensor) -> TrainingSite:
    """Return points (indices) as a site of one row."""
    contexts = {name: side_by_side(context, points) for name, context in group.contexts.items()}
    columns = contexts[OPTICAL].valid.shape[-1] - 2 * HALO
    return TrainingSite(group.name, contexts, group.centre_days, (1, columns))


def side_by_side(context: SensorContext, points: torch.Tensor) -> SensorContext:
    """Lay out points of a context (T, C, 1, N) in one row, `HALO` invalid pixels between two of them."""
    step = HALO + 1
    columns = HALO + step * torch.arange(len(points))
    laid_out = []
    for part in (context.values, context.valid):
        row = part.new_zeros(*part.shape[:2], 1 + 2 * HALO, step * (len(points) - 1) + 1 + 2 * HALO)
        row[:, :, HALO, columns] = part[:, :, 0, points]
        laid_out.append(row)
    return replace(context, values=laid_out[0], valid=laid_out[1])
