"""Mosaics: entries of one overpass are one date, and files of one sensor are one series or are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.mosaics import Mosaic, overpass_groups, solar_days
from thalweg.earth.sensors import Quality
from thalweg.errors import DataWarning, UsageError


def times(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[ns]")


def grouped(texts: list[str], orbits: list[object] | None = None, longitude: float = 3) -> list[list[int]]:
    at = times(*texts)
    return overpass_groups(at, solar_days(at, longitude), orbits or [None] * len(at))


def halves(data: xr.Dataset, seconds: int = 14) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the upper half of a dataset, and the lower half `seconds` later, both on the whole grid."""
    upper, lower = data.copy(deep=True), data.copy(deep=True)
    for part, rows in ((upper, slice(3, None)), (lower, slice(None, 3))):
        for name in part.data_vars:
            part[name][:, rows] = 0 if name == "SCL" else np.nan
    return upper, lower.assign_coords(time=lower.time + np.timedelta64(seconds, "s"))


def assert_same_series(cube: Cube, expected: Cube, sensor: str = "sentinel-2") -> None:
    series, whole = cube.series[sensor], expected.series[sensor]
    np.testing.assert_array_equal(series.dates, whole.dates)
    seen, right = series.read(cube.whole), whole.read(expected.whole)
    np.testing.assert_array_equal(seen.quality, right.quality)
    np.testing.assert_array_equal(seen.values, right.values)


# The rule


def test_entries_seconds_apart_are_one_overpass() -> None:
    assert grouped(["2018-06-30T10:50:31", "2018-07-05T10:50:29", "2018-06-30T10:50:45"]) == [[0, 2], [1]]


def test_morning_and_evening_are_two_overpasses() -> None:
    assert grouped(["2018-06-30T05:50:00", "2018-06-30T17:30:00"]) == [[0], [1]]


def test_orbits_separate_entries_that_are_near_in_time() -> None:
    texts = ["2018-06-30T05:50:00", "2018-06-30T05:55:00", "2018-06-30T05:50:25"]
    assert grouped(texts, ["descending 8", "ascending 30", "descending 8"]) == [[0, 2], [1]]


def test_entries_at_the_same_time_are_one_date_regardless_of_the_orbit() -> None:
    assert grouped(["2018-06-30", "2018-06-30"], ["descending", "ascending"]) == [[0, 1]]


def test_midnight_utc_does_not_divide_an_overpass() -> None:
    assert grouped(["2018-06-30T23:59:55", "2018-07-01T00:00:09"], longitude=170) == [[0, 1]]


def test_a_pixel_takes_all_its_values_from_the_first_layer_with_data() -> None:
    mosaic = Mosaic({"a": np.zeros((2, 1, 3)), "b": np.zeros((1, 3))})
    assert mosaic.add({"a": np.full((2, 1, 3), 1.0), "b": np.full((1, 3), 10.0)}, np.array([[True, False, False]]))
    assert not mosaic.is_full
    assert mosaic.add({"a": np.full((2, 1, 3), 2.0)}, np.array([[True, True, False]]))
    assert not mosaic.add({"b": np.full((1, 3), 30.0)}, np.array([[True, False, False]]))
    np.testing.assert_array_equal(mosaic.arrays["a"], [[[1, 2, 0]], [[1, 2, 0]]])
    np.testing.assert_array_equal(mosaic.arrays["b"], [[10, 0, 0]])


# One file


@pytest.mark.parametrize("seconds", [0, 14])
def test_two_tiles_of_an_overpass_in_one_file(make_s2: Callable, seconds: int) -> None:
    data = make_s2()
    both = xr.concat(halves(data, seconds), "time", data_vars="minimal").sortby("time")
    assert both.sizes["time"] == 8
    assert_same_series(Cube.open(both), Cube.open(data))


def test_slices_of_sentinel_1_are_joined_before_overpasses_are_averaged(make_s2: Callable, make_s1: Callable) -> None:
    optical, radar = make_s2(), make_s1()
    both = xr.concat(halves(radar, 25), "time", data_vars="minimal").sortby("time")
    cube, expected = (Cube.open({"sentinel-2": optical, "sentinel-1": part}) for part in (both, radar))
    assert_same_series(cube, expected, "sentinel-1")


def test_the_newer_baseline_is_preferred_where_entries_overlap(make_s2: Callable) -> None:
    data = make_s2()
    for name in data.data_vars:
        if name != "SCL":
            data[name] = (data[name] * 10_000).round().astype(np.uint16)
    older, newer = data.copy(deep=True), data.copy(deep=True)
    for name in data.data_vars:
        if name != "SCL":
            older[name] += 7
            newer[name] += 1000
    older = older.assign_coords(processing_baseline=("time", ["02.08"] * 4))
    newer = newer.assign_coords(processing_baseline=("time", ["05.00"] * 4), time=newer.time + np.timedelta64(1, "s"))
    both = xr.concat([older, newer], "time", data_vars="minimal").sortby("time")
    assert_same_series(Cube.open(both), Cube.open(data))


def test_a_repeated_date_counts_once_and_causes_a_warning(make_s2: Callable) -> None:
    with pytest.warns(
        DataWarning, match=r"1 date\(s\) without a time of day occur more than once, the first 2018-05-06"
    ):
        cube = Cube.open(make_s2().isel(time=[0, 1, 1, 2, 3]))
    assert_same_series(cube, Cube.open(make_s2()))


def test_two_orbits_at_one_time_are_refused(make_s1: Callable) -> None:
    data = make_s1().isel(time=[0, 1, 1, 2])
    states = ["ascending", "ascending", "descending", "ascending"]
    with pytest.raises(UsageError, match=r"orbits ascending and descending have the same time 2018-05-08T00:00:00"):
        Cube.open(data.assign_coords(orbit_state=("time", states)))


def test_items_of_a_date_are_named_together(make_s2: Callable) -> None:
    both = xr.concat(halves(make_s2(dates=2)), "time", data_vars="minimal").sortby("time")
    named = both.assign_coords(id=("time", ["a1", "a2", "b1", "b2"]))
    assert Cube.open(named).reference.items == ["a1 a2", "b1 b2"]


# Several files


def written(folder: Path, **parts: xr.Dataset) -> Path:
    folder.mkdir(exist_ok=True)
    for name, part in parts.items():
        part.to_netcdf(folder / f"{name}.nc", engine="h5netcdf")
    return folder


def test_one_file_per_year_is_one_series(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    folder = written(tmp_path / "years", s2_b=data.isel(time=slice(2)), s2_a=data.isel(time=slice(2, None)))
    assert_same_series(Cube.open(folder), Cube.open(data))


def test_one_file_per_tile_of_an_overpass_is_one_series(make_s2: Callable, tmp_path: Path) -> None:
    upper, lower = halves(make_s2())
    assert_same_series(Cube.open(written(tmp_path / "tiles", a=upper, b=lower)), Cube.open(make_s2()))


def test_adjacent_tiles_are_joined(make_s2: Callable, make_s1: Callable, tmp_path: Path) -> None:
    data, radar = make_s2(size=10), make_s1(size=10)
    left, right = data.isel(x=slice(6)), data.isel(x=slice(4, None))
    right = right.assign_coords(time=right.time + np.timedelta64(3, "s"))
    cube = Cube.open(written(tmp_path / "tiles", a=right, b=left, s1=radar))
    expected = Cube.open({"sentinel-2": data, "sentinel-1": radar})
    assert cube.grid.shape == (10, 10)
    np.testing.assert_array_equal(cube.x, expected.x)
    assert_same_series(cube, expected)
    assert_same_series(cube, expected, "sentinel-1")


def test_pixels_outside_all_tiles_are_outside_and_outside_one_tile_missing(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2(size=10)
    one, other = data.isel(x=slice(6), time=[0, 1]), data.isel(x=slice(6, None), y=slice(5), time=[2, 3])
    cube = Cube.open(written(tmp_path / "tiles", a=one, b=other))
    quality = cube.reference.read(cube.whole).quality
    assert (quality[:2, :, :6] == Quality.CLEAR).all() and (quality[2:, :, :6] == Quality.MISSING).all()
    assert (quality[2:, :5, 6:] == Quality.CLEAR).all() and (quality[:, 5:, 6:] == Quality.OUTSIDE).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.drop_vars("B05"), "with other bands"),
        (lambda data: data.assign_coords(x=data.x + 5), "off: reproject one"),
        (lambda data: data.assign_coords(x=data.x + 5000), "is apart from it"),
        (lambda data: data.drop_vars("spatial_ref").rio.write_crs(32632), "in EPSG:32631 instead of EPSG:32632"),
        (
            lambda data: data.assign_coords(
                x=data.x.values[0] + 20 * np.arange(6), y=data.y.values[0] - 20 * np.arange(6)
            ),
            "20 m",
        ),
    ],
)
def test_files_of_different_series_are_refused(make_s2: Callable, tmp_path: Path, change: Callable, words: str) -> None:
    data = make_s2()
    folder = written(tmp_path / "cube", a=data.isel(time=slice(2)), b=change(data.isel(time=slice(2, None))))
    with pytest.raises(UsageError, match=f"b.nc: Sentinel-2 L2A is also in .*a.nc.*{words}"):
        Cube.open(folder)


def test_inspect_reports_own_pixels_and_joined_entries(
    make_s2: Callable, make_s1: Callable, tmp_path: Path, cli: Callable
) -> None:
    upper, lower = halves(make_s2())
    shown = cli("earth", "inspect", written(tmp_path / "cube", a=upper, b=lower, s1=make_s1(size=3, resolution=20)))
    assert shown.code == 0
    assert "8 entries in 2 file(s); those of one overpass are one date" in shown.out
    assert "own pixels of 20 m" in shown.out
