"""What becomes one date: the entries of one overpass, laid under one another."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

PASS_GAP = np.timedelta64(10, "m")
"""Entries further apart than this are not of one overpass, whatever they say of their orbit."""


def solar_days(times: np.ndarray, longitude: float | np.ndarray) -> np.ndarray:
    """Days in local solar time, datetime64[D] (T,): no pass is cut in two by midnight UTC.

    Args:
        times: instants in UTC, datetime64 (T,).
        longitude: degrees east, one for all or (T,).
    """
    hours = np.asarray(longitude, float) / 15
    shift = (hours * 3600e9).astype("timedelta64[ns]")
    return (times.astype("datetime64[ns]") + shift).astype("datetime64[D]")


def overpass_groups(times: np.ndarray, days: np.ndarray, orbits: Sequence[Hashable]) -> list[list[int]]:
    """Group the entries of each overpass, in the order of time.

    An overpass is what one orbit saw on one solar day without a gap of `PASS_GAP`. Groups that start at the very
    same instant are one: a cube has an instant once.

    Args:
        times: instants, datetime64 (T,).
        days: solar days (T,).
        orbits: what is known of each entry's orbit, (T,); equal where nothing is.
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
    """Layers laid under one another: a pixel takes all its numbers from the first layer that has any there."""

    def __init__(self, empty: Mapping[str, np.ndarray]) -> None:
        """Start from arrays (..., rows, columns) of "nothing here", which are filled in place."""
        self.arrays = dict(empty)
        self._open = np.ones(next(iter(empty.values())).shape[-2:], bool)

    @property
    def is_full(self) -> bool:
        """Whether every pixel has its numbers."""
        return not self._open.any()

    def add(self, layer: Mapping[str, np.ndarray], has: np.ndarray) -> bool:
        """Lay one more layer under the others, and say whether it shows anywhere.

        Args:
            layer: arrays under the names of the mosaic's; those it lacks stay empty.
            has: pixels where the layer has data, boolean (rows, columns).
        """
        taken = self._open & has
        for name, numbers in layer.items():
            self.arrays[name][..., taken] = numbers[..., taken]
        self._open &= ~has
        return bool(taken.any())
