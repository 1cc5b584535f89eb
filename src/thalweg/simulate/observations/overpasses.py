"""Overpasses of the satellites: times, and angles of the sun and the sensor."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.simulate.radiative_transfer.canopy import ViewGeometry
from thalweg.simulate.weather.climates import ClimateSpec
from thalweg.simulate.weather.sun import sun_position


@dataclass(frozen=True)
class OpticalOverpasses:
    """Overpasses of an optical sensor; arrays are (time,), in degrees, azimuths clockwise from north."""

    times: pd.DatetimeIndex
    sun_zenith: NDArray
    sun_azimuth: NDArray
    view_zenith: NDArray
    view_azimuth: NDArray

    def on(self, dates: NDArray[np.bool_]) -> "OpticalOverpasses":
        """Return the overpasses where ``dates`` is true."""
        return replace(self, **{item.name: getattr(self, item.name)[dates] for item in fields(self)})

    def views(self) -> list[ViewGeometry]:
        """Return the geometry of every overpass."""
        return [
            ViewGeometry(*angles)
            for angles in zip(self.sun_zenith, self.view_zenith, self.sun_azimuth - self.view_azimuth, strict=True)
        ]


@dataclass(frozen=True)
class RadarOverpasses:
    """Overpasses of Sentinel-1; arrays are (time,)."""

    times: pd.DatetimeIndex
    ascending: NDArray[np.bool_]
    incidence: NDArray  # degrees

    def on(self, dates: NDArray[np.bool_]) -> "RadarOverpasses":
        """Return the overpasses where ``dates`` is true."""
        return replace(self, **{item.name: getattr(self, item.name)[dates] for item in fields(self)})


def sentinel2_overpasses(rng: np.random.Generator, climate: ClimateSpec, days: pd.DatetimeIndex) -> OpticalOverpasses:
    """Draw overpasses every five days from one or two orbits, with gaps; mean local solar time near 10:30."""
    orbits = [(int(rng.integers(5)), 1)] if rng.random() < 0.6 else [(0, 1), (int(rng.integers(2, 4)), -1)]
    views = {1: (rng.uniform(2.2, 8.5), 105.0 + rng.uniform(-5, 60)), -1: (rng.uniform(4.5, 9.0), 283.0)}
    events = []
    for start, side in orbits:
        for day in range(start, len(days), 5):
            if rng.random() > 0.09:
                minutes = 60 * _local_to_utc(10.52 + 0.011 * climate.latitude, climate) - 5 * side
                events.append((day, minutes + rng.normal(0, 1.5), side))
    events.sort()
    zenith = np.array([views[side][0] for *_, side in events]) + rng.normal(0, 0.02, len(events))
    azimuth = np.array([views[side][1] for *_, side in events]) + rng.normal(0, 0.4, len(events))
    return _optical(climate, days, events, zenith, azimuth)


def landsat_overpasses(rng: np.random.Generator, climate: ClimateSpec, days: pd.DatetimeIndex) -> OpticalOverpasses:
    """Draw overpasses every sixteen days, with gaps; mean local solar time near 10:10."""
    minutes = 60 * _local_to_utc(10.2 + 0.011 * climate.latitude, climate)
    starts = range(int(rng.integers(16)), len(days), 16)
    events = [(day, minutes + rng.normal(0, 0.2), 1) for day in starts if rng.random() > 0.06]
    count = len(events)
    return _optical(climate, days, events, np.full(count, rng.uniform(0.5, 6.0)), np.full(count, 104.0))


def sentinel1_overpasses(rng: np.random.Generator, climate: ClimateSpec, days: pd.DatetimeIndex) -> RadarOverpasses:
    """Draw overpasses every six days ascending, in the evening, and every six days descending, in the morning."""
    events = []
    first = int(rng.integers(6))
    for ascending, start in ((True, first), (False, (first + int(rng.integers(1, 6))) % 6)):
        hour = _local_to_utc(17.75 if ascending else 5.9, climate)
        incidence = rng.uniform(33, 43)
        for day in range(start, len(days), 6):
            if rng.random() > 0.02:
                events.append(
                    (
                        days[day] + pd.Timedelta(seconds=round(3600 * hour + rng.normal(0, 20))),
                        ascending,
                        incidence + rng.normal(0, 0.01),
                    )
                )
    events.sort(key=lambda event: event[0])
    return RadarOverpasses(
        times=pd.DatetimeIndex([event[0] for event in events]),
        ascending=np.array([event[1] for event in events]),
        incidence=np.array([event[2] for event in events]),
    )


def _local_to_utc(hour: float, climate: ClimateSpec) -> float:
    return (hour - climate.longitude / 15) % 24


def _optical(
    climate: ClimateSpec,
    days: pd.DatetimeIndex,
    events: list[tuple[int, float, int]],
    zenith: NDArray,
    azimuth: NDArray,
) -> OpticalOverpasses:
    times = pd.DatetimeIndex([days[day] + pd.Timedelta(seconds=round(60 * minutes)) for day, minutes, _ in events])
    sun_zenith, sun_azimuth = sun_position(times, climate.latitude, climate.longitude)
    return OpticalOverpasses(times, sun_zenith, sun_azimuth, zenith, azimuth)
