"""Sources of cubes: every container, layout and spelling of dates is read, or refused in one line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from pyproj import CRS

from thalweg.earth.cube.cube import Cube
from thalweg.errors import DataWarning, MissingPathError, ThalwegError, UsageError

BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def assert_same(source: object, expected: object, tolerance: float = 0) -> None:
    cube, right = Cube.open(source), Cube.open(expected)
    np.testing.assert_array_equal(cube.x, right.x)
    np.testing.assert_array_equal(cube.y, right.y)
    assert cube.grid.crs.epsg == right.grid.crs.epsg
    assert list(cube.series) == list(right.series)
    for name, series in right.series.items():
        np.testing.assert_array_equal(cube.series[name].dates, series.dates)
        seen, wanted = cube.series[name].read(cube.whole), series.read(right.whole)
        np.testing.assert_array_equal(seen.quality, wanted.quality)
        np.testing.assert_allclose(seen.values, wanted.values, rtol=0, atol=tolerance)


# Containers


@pytest.mark.parametrize("name", ["cube.nc", "cube.nc4", "cube.h5", "cube.cdf"])
def test_netcdf_4_under_any_name(make_s2: Callable, tmp_path: Path, name: str) -> None:
    make_s2().to_netcdf(tmp_path / name, engine="h5netcdf")
    assert_same(tmp_path / name, make_s2())
    assert_same(tmp_path, make_s2())


def test_netcdf_3(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    data["SCL"] = data["SCL"].astype(np.int8)
    data.to_netcdf(tmp_path / "cube.nc", engine="scipy")
    assert (tmp_path / "cube.nc").read_bytes()[:3] == b"CDF"
    assert_same(tmp_path / "cube.nc", make_s2())


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_of_both_formats(make_s2: Callable, tmp_path: Path, zarr_format: int, consolidated: bool) -> None:
    store = tmp_path / "cube"  # without a suffix: its metadata identify it
    make_s2().to_zarr(store, zarr_format=zarr_format, consolidated=consolidated)
    assert_same(store, make_s2())
    assert_same(tmp_path, make_s2())


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_outdated_consolidated_metadata_are_ignored(make_s2: Callable, tmp_path: Path, zarr_format: int) -> None:
    data = make_s2()
    first, last = data.isel(time=slice(2)), data.isel(time=slice(2, None))
    first.to_zarr(tmp_path / "cube.zarr", zarr_format=zarr_format, consolidated=True)
    last.drop_vars("spatial_ref").to_zarr(tmp_path / "cube.zarr", append_dim="time", consolidated=False)
    assert_same(tmp_path / "cube.zarr", data)


def test_zipped_zarr(make_s2: Callable, tmp_path: Path) -> None:
    make_s2().to_zarr(tmp_path / "cube.zarr", zarr_format=3, consolidated=False)
    shutil.make_archive(str(tmp_path / "cube.zarr"), "zip", tmp_path / "cube.zarr")
    shutil.rmtree(tmp_path / "cube.zarr")
    assert_same(tmp_path / "cube.zarr.zip", make_s2())
    assert_same(tmp_path, make_s2())


@pytest.mark.parametrize("start", [b"CDF\x05\x00\x00\x00\x00", b"\x93NUMPY\x01\x00", b""])
def test_other_files_are_refused_by_their_first_bytes(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "cube.nc").write_bytes(start)
    with pytest.raises(UsageError, match=r"cube.nc: not a readable cube .* expected NetCDF, Zarr or GeoTIFF"):
        Cube.open(tmp_path / "cube.nc")


def test_a_missing_path_is_also_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cube.nc: no such file or folder") as caught:
        Cube.open(tmp_path / "cube.nc")
    assert isinstance(caught.value, MissingPathError)


def test_other_files_of_a_folder_are_reported(make_s2: Callable, make_s1: Callable, tmp_path: Path) -> None:
    make_s2().to_netcdf(tmp_path / "s2.nc", engine="h5netcdf")
    make_s1()[["VV"]].rename(VV="rain").to_netcdf(tmp_path / "weather.nc", engine="h5netcdf")
    (tmp_path / "readme.txt").write_text("about")
    with pytest.warns(DataWarning) as caught:
        Cube.open(tmp_path)
    messages = [str(warning.message) for warning in caught]
    assert any("readme.txt" in line for line in messages)
    assert any("weather.nc" in line for line in messages)


def test_a_damaged_chunk_is_reported_with_file_and_variable(make_s2: Callable, tmp_path: Path) -> None:
    make_s2(size=8).chunk(time=4, y=4, x=4).to_zarr(tmp_path / "s2.zarr", zarr_format=3, consolidated=False)
    (tmp_path / "s2.zarr" / "B06" / "c" / "0" / "1" / "1").write_bytes(b"damaged")
    with pytest.raises(ThalwegError, match=r"s2.zarr: B06 cannot be read .*: the file is damaged"):
        opened = Cube.open(tmp_path)
        opened.reference.read(opened.whole)


# Layouts


def stacked(data: xr.Dataset, axis: str) -> xr.DataArray:
    names = [*BANDS, "SCL"]
    return xr.concat([data[name].astype(np.float32) for name in names], axis).assign_coords({axis: names})


@pytest.mark.parametrize("axis", ["bands", "band", "variable"])
def test_bands_as_an_axis(make_s2: Callable, tmp_path: Path, axis: str) -> None:
    data = make_s2()
    array = stacked(data, axis).transpose("time", axis, "y", "x")
    for name in (None, "bands of a scene", "x", axis):
        assert_same(array.rename(name), data)
    assert_same({"sentinel-2": array}, data)
    array.drop_vars("spatial_ref").to_dataset(name="var").assign(crs=((), 0, {"crs_wkt": CRS(32631).to_wkt()})).rename(
        time="t"
    ).to_netcdf(tmp_path / "openEO.nc", engine="h5netcdf")
    assert_same(tmp_path / "openEO.nc", data)


def test_bands_as_variables_of_openeo(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    bare = data.drop_vars("spatial_ref").rename(time="t").assign(crs=((), b"", {"crs_wkt": CRS(32631).to_wkt()}))
    for name in (*BANDS, "SCL"):
        bare[name].encoding.pop("grid_mapping", None)
        bare[name].attrs["grid_mapping"] = "crs"
    bare.to_netcdf(tmp_path / "openEO.nc", engine="h5netcdf")
    assert_same(tmp_path / "openEO.nc", data)


def test_numbered_bands_take_their_descriptions_or_are_refused(make_s2: Callable) -> None:
    data = make_s2()
    numbered = stacked(data, "band").assign_coords(band=np.arange(1, 12))
    with pytest.raises(UsageError, match="11 bands along band without names"):
        Cube.open(numbered)
    assert_same(numbered.assign_attrs(long_name=(*BANDS, "SCL")), data)


def test_attributes_per_band_belong_to_the_band(make_s2: Callable) -> None:
    data = make_s2()
    array = (stacked(data, "band") * xr.DataArray([20_000.0] * 10 + [1], dims="band")).round()
    array = array.astype(np.uint16).assign_coords(scale_factor=("band", [5e-5] * 10 + [1.0]))
    assert_same(array.assign_attrs(crs="EPSG:32631"), data, tolerance=3e-5)


def test_a_stack_with_its_coordinates(make_s2: Callable) -> None:
    data = make_s2()
    array = stacked(data.drop_vars("spatial_ref"), "band").transpose("time", "band", "y", "x")
    array = array.assign_coords(
        id=("time", [f"S2_{index}" for index in range(4)]),
        epsg=32631,
        common_name=("band", [*"abcdefghij", "k"]),
        gsd=("band", [10.0] * 11),
    ).assign_attrs(crs="epsg:32631", resolution=10.0, transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_600_000.0))
    assert_same(array, data)
    assert Cube.open(array).reference.items == [f"S2_{index}" for index in range(4)]


def test_axes_of_length_one_are_removed_and_others_reported(make_s2: Callable) -> None:
    data = make_s2()
    assert_same(data.expand_dims("number"), data)
    longer = data.assign(B05=data["B05"].expand_dims(expver=2))
    with pytest.raises(UsageError, match=r"B05 has dimensions .*expver.*, expected time, y, x"):
        Cube.open(longer)


# Dates


def dated(data: xr.Dataset, values: object, **attrs: object) -> xr.Dataset:
    return data.drop_vars("time").assign_coords(time=("time", np.asarray(values), attrs))


@pytest.mark.parametrize(
    "values",
    [
        [20180501, 20180506, 20180511, 20180516],
        [20180501.0, 20180506.0, 20180511.0, 20180516.0],
        ["20180501", "20180506", "20180511", "20180516"],
        ["2018-05-01", "2018-05-06", "2018-05-11", "2018-05-16"],
        ["2018-05-01T00:00:00Z", "2018-05-06T02:00:00+02:00", "2018-05-11", "2018-05-15T22:00:00-02:00"],
        [b"2018-05-01", b"2018-05-06", b"2018-05-11", b"2018-05-16"],
    ],
    ids=["integers", "floats", "compact text", "text", "time zones", "bytes"],
)
def test_dates_in_several_spellings(make_s2: Callable, values: list, tmp_path: Path) -> None:
    assert_same(dated(make_s2(), values), make_s2())
    dated(make_s2(), values).to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    assert_same(tmp_path / "cube.nc", make_s2())


def test_dates_with_a_time_zone_of_pandas(make_s2: Callable) -> None:
    data = make_s2()
    zoned = pd.DatetimeIndex(data.time.values).tz_localize("UTC").tz_convert("Europe/Brussels")
    assert_same(data.assign_coords(time=zoned), data)


def test_packed_dates_are_decoded(make_s2: Callable) -> None:
    packed = dated(make_s2(), [0, 10, 20, 30], units="days since 2018-05-01", scale_factor=0.5)
    assert_same(packed, make_s2())


@pytest.mark.parametrize(
    ("values", "attrs", "words"),
    [
        ([0, 5, 10, 15], {"units": "days since 2018-05-01", "calendar": "noleap"}, "calendar 'noleap'"),
        ([0, 5, 10, 15], {"units": "days since 2018-05-01", "calendar": "360_day"}, "calendar '360_day'"),
        ([0, 5, 10, 15], {"units": "days since yesterday"}, "cannot be read in units 'days since yesterday'"),
        ([0, 5, 10, 15], {"units": "days"}, "expected dates"),
        ([0, 5, 10, 15], {"units": "days since 2900-01-01"}, "2900"),
        (["01/05/2018", "06/05/2018", "11/05/2018", "16/05/2018"], {}, "time holds '01/05/2018'"),
        (["01052018", "06052018", "11052018", "16052018"], {}, "time holds '01052018'"),
        ([20180501, 20180506, 20180511, 20181332], {}, "time holds '20180501'|expected dates"),
    ],
)
def test_ambiguous_dates_raise_one_line_error(make_s2: Callable, values: list, attrs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Cube.open(dated(make_s2(), values, **attrs))


# One file per date


def test_one_file_per_date(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    for index, day in enumerate(np.datetime_as_string(data.time.values, "D")):
        data.isel(time=index).to_netcdf(tmp_path / f"date_{index}.nc", engine="h5netcdf")
        data.isel(time=index, drop=True).to_netcdf(tmp_path / f"S2_{day}.nc", engine="h5netcdf")
    for pattern in ("date_*", "S2_*"):
        folder = tmp_path / re.sub(r"\W", "", pattern)
        folder.mkdir()
        for file in tmp_path.glob(f"{pattern}.nc"):
            shutil.move(file, folder)
        assert_same(folder, data)
        assert len(Cube.open(folder).reference.parts) == 1


def test_attributes_of_single_dates_stay_with_their_dates(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    for name in BANDS:
        data[name] = (data[name] * 10_000).round().astype(np.uint16)
    for index, baseline in enumerate(("02.08", "03.00", "04.00", "05.00")):
        date = data.isel(time=index).copy(deep=True)
        if index > 1:
            for name in BANDS:
                date[name] += 1000
        date.assign_attrs(processing_baseline=baseline).to_netcdf(tmp_path / f"{index}.nc", engine="h5netcdf")
    assert_same(tmp_path, data.assign_attrs(processing_baseline="03.00"), tolerance=1e-6)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_impossible_shapes_are_refused_before_they_are_read(
    make_s2: Callable, tmp_path: Path, zarr_format: int
) -> None:
    make_s2().to_zarr(tmp_path / "cube.zarr", zarr_format=zarr_format, consolidated=False)
    group = zarr.open_group(tmp_path / "cube.zarr", mode="r+", use_consolidated=False)
    for name in ("x", "B02"):
        array = group[name]
        assert isinstance(array, zarr.Array)
        array.resize((*array.shape[:-1], 10**12))
    with pytest.raises(UsageError, match="1000000000000"):
        Cube.open(tmp_path / "cube.zarr")
