"""Grouping of entries into overpasses, and mosaics that merge the entries of an overpass into one date."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

PASS_GAP = np.timedelta64(10, "m")
"""Largest time between successive entries of one overpass."""


def solar_days(times: np.ndarray, longitude: float | np.ndarray) -> np.ndarray:
    """Return days in local solar time, in which midnight does not divide an overpass.

    Args:
        times: times in UTC, datetime64 (T,).
        longitude: degrees east, one for all times or (T,).

    Returns:
        Days, datetime64[D] (T,).
    """
    hours = np.asarray(longitude, float) / 15
    shift = (hours * 3600e9).astype("timedelta64[ns]")
    return (times.astype("datetime64[ns]") + shift).astype("datetime64[D]")


def overpass_groups(times: np.ndarray, days: np.ndarray, orbits: Sequence[Hashable]) -> list[list[int]]:
    """Group the entries of each overpass.

    An overpass consists of the entries of one orbit on one solar day without a gap longer than `PASS_GAP`. Groups that
    start at the same time are merged, since a cube has each time once.

    Args:
        times: times of the entries, datetime64 (T,).
        days: solar days (T,), as `solar_days` returns them.
        orbits: known facts about the orbit of each entry (T,); equal for entries without any.

    Returns:
        Indices of the entries of each overpass, in the order of time.
    """
    groups: dict[Hashable, list[list[int]]] = {}
    for index in np.argsort(times, kind="stable").tolist():
        passes = groups.setdefault((days[index], orbits[index]), [])
        if passes and times[index] - times[passes[-1][-1]] <= PASS_GAP:
            passes[-1].append(index)
        else:
            passes.append([index])
    ordered = sorted((group for passes in groups.values() for group in passes), key=lambda group: times[group[0]])
    joined: list[list[int]] = []
    for group in ordered:
        if joined and times[joined[-1][0]] == times[group[0]]:
            joined[-1] += group
        else:
            joined.append(group)
    return joined


class Mosaic:
    """Mosaic of layers: each pixel takes all of its values from the first layer that has data there."""

    def __init__(self, empty: Mapping[str, np.ndarray]) -> None:
        """Start from arrays (..., H, W) of fill values by name, which are filled in place."""
        self.arrays = dict(empty)
        self._open = np.ones(next(iter(empty.values())).shape[-2:], bool)

    @property
    def is_full(self) -> bool:
        """Full, when every pixel has data."""
        return not self._open.any()

    def add(self, layer: Mapping[str, np.ndarray], has_data: np.ndarray) -> bool:
        """Add a layer below the others.

        Args:
            layer: arrays (..., H, W) by the names of the mosaic's arrays; arrays that it lacks stay unchanged.
            has_data: pixels where the layer has data, boolean (H, W).

        Returns:
            Whether the layer contributes any pixel.
        """
        taken = self._open & has_data
        for name, values in layer.items():
            self.arrays[name][..., taken] = values[..., taken]
        self._open &= ~has_data
        return bool(taken.any())
