"""Grids: units, resolution and pixel centres are checked; reference systems are read in every spelling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (gives datasets their .rio)
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import containing_pixels, pixel_centers, read_grid
from thalweg.errors import DataWarning, UsageError

UTM = CRS.from_epsg(32631)


def moved(data: xr.Dataset, x: np.ndarray, y: np.ndarray, crs: object = 32631) -> xr.Dataset:
    return data.drop_vars("spatial_ref").assign_coords(x=x, y=y).rio.write_crs(crs)


def values_of(cube: Cube, sensor: str = "sentinel-2") -> np.ndarray:
    return cube.series[sensor].read(cube.whole).values


# Units


@pytest.mark.parametrize(("x_name", "y_name"), [("x", "y"), ("lon", "lat"), ("longitude", "latitude")])
def test_degrees_are_refused_under_any_names_of_dimensions(make_s2: Callable, x_name: str, y_name: str) -> None:
    data = moved(make_s2(), 3 + 0.00014 * np.arange(6), 50.8 - 0.00014 * np.arange(6), 4326)
    with pytest.raises(UsageError, match=r"degrees \(EPSG:4326\).*estimate_utm_crs"):
        Cube.open(data.rename(x=x_name, y=y_name))
    square_on_the_ground = data.assign_coords(y=50.8 - 0.00009 * np.arange(6))
    with pytest.raises(UsageError, match=r"degrees \(EPSG:4326\).*estimate_utm_crs"):
        Cube.open(square_on_the_ground.rename(x=x_name, y=y_name))


def test_the_advice_for_degrees_leads_to_a_cube(make_s2: Callable) -> None:
    data = moved(make_s2(size=12), 3 + 0.00014 * np.arange(12), 50.8 - 0.00009 * np.arange(12), 4326)
    metres = data.rio.reproject(data.rio.estimate_utm_crs(), resolution=10)
    assert Cube.open(metres).grid.resolution.x == 10


def test_degrees_under_a_projected_reference_system_are_refused(make_s2: Callable) -> None:
    x, y = 3 + 0.00014 * np.arange(6), 50.8 - 0.00014 * np.arange(6)
    with pytest.raises(UsageError, match="in degrees, its reference system is EPSG:32631: name the true one"):
        Cube.open(moved(make_s2(), x, y))
    with pytest.raises(UsageError, match="in degrees, its reference system is none: name the true one"):
        Cube.open(make_s2().drop_vars("spatial_ref").assign_coords(x=x, y=y).rename(x="lon", y="lat"))
    data = make_s2()
    data.x.attrs["units"] = "degrees_east"
    with pytest.raises(UsageError, match="in degrees"):
        Cube.open(data)


@pytest.mark.parametrize("epsg", [2264, 2992])
def test_feet_are_refused(make_s2: Callable, epsg: int) -> None:
    with pytest.raises(UsageError, match=r"foot.*expected metres: reproject"):
        Cube.open(moved(make_s2(), 2e6 + 10.0 * np.arange(6), 6e5 - 10.0 * np.arange(6), epsg))


def test_a_reference_system_that_is_not_projected_is_refused(make_s2: Callable) -> None:
    with pytest.raises(UsageError, match="EPSG:4978 is no map projection, expected one in metres"):
        Cube.open(make_s2().drop_vars("spatial_ref").assign_attrs(crs="EPSG:4978"))


def test_kilometres_are_converted(make_s2: Callable) -> None:
    data = make_s2()
    far = moved(data, data.x.values / 1000, data.y.values / 1000)
    for name in ("x", "y"):
        far[name].attrs["units"] = "km"
    cube = Cube.open(far)
    np.testing.assert_allclose(cube.x, data.x.values)
    np.testing.assert_allclose(cube.y, data.y.values)
    assert cube.grid.resolution.x == pytest.approx(10)


def test_packed_coordinates_are_decoded(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    encoding = {
        "x": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 500_000.0},
        "y": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 5_600_000.0},
    }
    data.to_netcdf(tmp_path / "packed.nc", engine="h5netcdf", encoding=encoding)
    cube = Cube.open(tmp_path / "packed.nc")
    np.testing.assert_array_equal(cube.x, data.x.values)
    np.testing.assert_array_equal(cube.y, data.y.values)


# Resolution


@pytest.mark.parametrize("step", [20.0, 60.0, 10.5, 9.5])
def test_pixels_of_another_size_than_the_sensors_are_refused(make_s2: Callable, step: float) -> None:
    data = moved(make_s2(), 500_000 + step * np.arange(6), 5_600_000 - step * np.arange(6))
    with pytest.raises(UsageError, match=f"pixels of {step:g} m in EPSG:32631, expected 10 m"):
        Cube.open(data)


def test_pixels_that_a_projection_enlarges_are_measured_on_the_ground(make_s2: Callable) -> None:
    mercator = moved(make_s2(), 334_000 + 10.0 * np.arange(6), 6_600_000 - 10.0 * np.arange(6), 3857)
    with pytest.raises(UsageError, match=r"10 m \(6\.3. m on the ground\) in EPSG:3857"):
        Cube.open(mercator)
    equal_area = moved(make_s2(), 3_900_000 + 10.0 * np.arange(6), 3_100_000 - 10.0 * np.arange(6), 3035)
    assert Cube.open(equal_area).grid.crs.epsg == 3035


def test_an_auxiliary_sensor_may_have_its_own_resolution(make_s2: Callable, make_s1: Callable) -> None:
    cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": make_s1(size=3, resolution=20)})
    assert cube.series["sentinel-1"].grid.resolution.x == 20


@pytest.mark.parametrize("axis", ["x", "y"])
def test_the_size_of_a_single_row_or_column_comes_from_the_other_axis(make_s2: Callable, axis: str) -> None:
    line = moved(make_s2(), 500_000 + 20.0 * np.arange(6), 5_600_000 - 20.0 * np.arange(6)).isel({axis: [0]})
    with pytest.raises(UsageError, match="pixels of 20 m"):
        Cube.open(line)
    assert Cube.open(make_s2().isel({axis: [0]})).grid.resolution.x == 10


def test_a_single_pixel_needs_its_size(make_s2: Callable) -> None:
    pixel = make_s2().isel(x=[2], y=[2])
    with pytest.raises(UsageError, match=r"single pixel .*write_transform"):
        Cube.open(pixel)
    pixel.spatial_ref.attrs["GeoTransform"] = "500020 10 0 5599980 0 -10"
    assert Cube.open(pixel).grid.resolution.x == 10
    pixel.spatial_ref.attrs["GeoTransform"] = "500020 60 0 5599980 0 -60"
    with pytest.raises(UsageError, match=r"0.42 pixel off x and y"):
        Cube.open(pixel)


# Axes


def test_a_cube_that_is_south_up_or_east_first_is_turned(make_s2: Callable, make_s1: Callable, tmp_path: Path) -> None:
    data, radar = make_s2(), make_s1()
    expected = Cube.open({"sentinel-2": data, "sentinel-1": radar})
    turned = (data.isel(y=slice(None, None, -1)), data.isel(x=slice(None, None, -1), y=slice(None, None, -1)))
    for name, flipped in zip(("south-up", "east-first"), turned, strict=True):
        (tmp_path / name).mkdir()
        flipped.to_netcdf(tmp_path / name / "s2.nc", engine="h5netcdf")
        radar.to_netcdf(tmp_path / name / "s1.nc", engine="h5netcdf")
        cube = Cube.open(tmp_path / name)
        np.testing.assert_array_equal(cube.y, expected.y)
        for sensor in expected.series:
            np.testing.assert_array_equal(values_of(cube, sensor), values_of(expected, sensor))


def test_float32_coordinates_are_evenly_spaced(make_s2: Callable) -> None:
    x, y = 500_000.13 + 10 * np.arange(6), 5_600_000.13 - 10 * np.arange(6)
    cube = Cube.open(moved(make_s2(), x.astype(np.float32), y.astype(np.float32)))
    np.testing.assert_allclose(cube.y, y, atol=0.5)
    assert cube.grid.resolution.x == pytest.approx(10, rel=0.02)


def test_axes_without_coordinates_come_from_the_transform(make_s2: Callable) -> None:
    bare = make_s2().drop_vars(["x", "y"])
    with pytest.raises(UsageError, match="no coordinates along x"):
        Cube.open(bare)
    bare.spatial_ref.attrs["GeoTransform"] = "500000 10 0 5600000 0 -10"
    np.testing.assert_array_equal(Cube.open(bare).x, make_s2().x.values)
    np.testing.assert_array_equal(Cube.open(bare).y, make_s2().y.values)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ("500005 10 0 5599995 0 -10", "0.5 pixel off x and y"),
        ("500000 20 0 5600000 0 -20", "pixels of 20 x 20, its coordinates x and y of 10"),
        ("500000 10 1 5600000 1 -10", "rotated"),
    ],
)
def test_a_transform_that_disagrees_with_the_coordinates_is_refused(
    make_s2: Callable, transform: str, words: str
) -> None:
    data = make_s2()
    data.spatial_ref.attrs["GeoTransform"] = transform
    with pytest.raises(UsageError, match=words):
        Cube.open(data)


def test_a_transform_of_the_uncropped_grid_is_accepted(make_s2: Callable) -> None:
    data = make_s2()
    data.spatial_ref.attrs["GeoTransform"] = "500000 10 0 5600000 0 -10"
    assert Cube.open(data.isel(x=slice(2, None), y=slice(1, None))).x[0] == 500_025


def test_top_left_coordinates_of_a_stack_are_refused(make_s2: Callable) -> None:
    data = make_s2().assign_attrs(transform=(10.0, 0.0, 500_005.0, 0.0, -10.0, 5_599_995.0))
    with pytest.raises(UsageError, match="xy_coords='center'"):
        Cube.open(data)


# Reference systems


def spelled(data: xr.Dataset, **statement: object) -> xr.Dataset:
    return data.drop_vars("spatial_ref").assign(crs=((), 0, statement))


@pytest.mark.parametrize(
    "wkt",
    [
        UTM.to_wkt("WKT1_GDAL"),
        UTM.to_wkt("WKT1_ESRI"),
        UTM.to_wkt("WKT2_2015"),
        CRS("+proj=utm +zone=31 +datum=WGS84 +units=m +no_defs").to_wkt(),
        CRS("+proj=utm +zone=31 +ellps=WGS84 +towgs84=0,0,0 +units=m").to_wkt(),
        CRS("+proj=tmerc +lat_0=0 +lon_0=3 +k=0.9996 +x_0=500000 +y_0=0 +datum=WGS84 +units=m").to_wkt(),
    ],
    ids=["wkt1", "esri", "wkt2", "proj", "towgs84", "tmerc"],
)
def test_one_reference_system_in_several_spellings(make_s2: Callable, make_s1: Callable, wkt: str) -> None:
    cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": spelled(make_s1(), crs_wkt=wkt)})
    assert (cube.series["sentinel-1"].rows == np.arange(6)).all()


def test_reference_systems_with_another_order_of_axes_are_equal(make_s2: Callable, make_s1: Callable) -> None:
    x, y = 3_900_005 + 10.0 * np.arange(6), 3_099_995 - 10.0 * np.arange(6)
    wkt = CRS.from_epsg(3035).to_wkt("WKT1_GDAL")
    optical, radar = moved(make_s2(), x, y, 3035), moved(make_s1(), x, y, 3035)
    assert Cube.open({"sentinel-2": optical, "sentinel-1": spelled(radar, spatial_ref=wkt)}).grid.crs.epsg == 3035


@pytest.mark.parametrize("other", ["EPSG:32632", "EPSG:25831", "EPSG:23031", "+proj=utm +zone=31 +ellps=intl +units=m"])
def test_another_reference_system_is_refused(make_s2: Callable, make_s1: Callable, other: str) -> None:
    radar = spelled(make_s1(), crs_wkt=CRS(other).to_wkt())
    with pytest.raises(UsageError, match=r"Sentinel-1 is in .*, Sentinel-2 L2A in EPSG:32631: reproject"):
        Cube.open({"sentinel-2": make_s2(), "sentinel-1": radar})


@pytest.mark.parametrize(
    "statement",
    [
        {"attrs": {"crs": "EPSG:32631"}},
        {"attrs": {"crs": "+init=epsg:32631"}},
        {"attrs": {"crs_wkt": UTM.to_wkt()}},
        {"attrs": {"proj:epsg": 32631}},
        {"attrs": {"proj:code": "EPSG:32631"}},
        {"coords": {"epsg": 32631}},
        {"coords": {"proj:epsg": 32631}},
        {"coords": {"spatial_ref": ((), 0, {"crs_wkt": UTM.to_wkt()})}},
        {"variables": {"spatial_ref": ((), 0, {"spatial_ref": UTM.to_wkt()})}},
        {"variables": {"UTM": ((), b"", {"grid_mapping_name": "x", "crs_wkt": UTM.to_wkt()})}},
        {"variables": {"crs": ((), 0, {k: v for k, v in UTM.to_cf().items() if k != "crs_wkt"})}},
    ],
    ids=str,
)
def test_a_reference_system_is_found_wherever_it_is_written(make_s2: Callable, statement: dict) -> None:
    data = make_s2().drop_vars("spatial_ref")
    for variable in data.variables.values():
        variable.encoding.pop("grid_mapping", None)
        variable.attrs.pop("grid_mapping", None)
    data = data.assign_attrs(statement.get("attrs", {})).assign_coords(statement.get("coords", {}))
    assert Cube.open(data.assign(statement.get("variables", {}))).grid.crs.epsg == 32631


def test_two_reference_systems_in_one_file_are_refused(make_s2: Callable) -> None:
    with pytest.raises(UsageError, match=r"spatial_ref.*EPSG:32631.*attribute crs says EPSG:32632"):
        Cube.open(make_s2().assign_attrs(crs="EPSG:32632"))


def test_reference_systems_of_items_count_last(make_s2: Callable) -> None:
    data = make_s2().assign_coords({"proj:epsg": ("time", [32632, 32631, 32632, 32632])})
    assert Cube.open(data).grid.crs.epsg == 32631
    data = data.drop_vars("spatial_ref")
    with pytest.raises(UsageError, match=r"EPSG:32632.*EPSG:32631"):
        Cube.open(data)


def test_an_invalid_reference_system_raises_one_line_error(make_s2: Callable) -> None:
    data = make_s2().drop_vars("spatial_ref").assign_attrs(crs="local grid")
    with pytest.raises(UsageError, match=r"attribute crs is 'local grid', expected .* EPSG:32631"):
        Cube.open(data)


# Two grids


def numbered(radar: xr.Dataset) -> xr.Dataset:
    for name in ("VV", "VH"):
        radar[name][:] = -50 + np.arange(radar.sizes["x"], dtype=np.float32)
    return radar


@pytest.mark.parametrize("shift", [-5.0, 5.0, 4.9, -5.0000001, 2.5])
def test_a_shift_by_a_fraction_of_a_pixel_is_equal_in_all_columns_and_causes_a_warning(
    make_s2: Callable, make_s1: Callable, shift: float
) -> None:
    radar = numbered(make_s1(size=40, left=499_900, top=5_600_100))
    with pytest.warns(DataWarning, match=r"Sentinel-1 lie .* px in x .* off those of Sentinel-2"):
        cube = Cube.open({"sentinel-2": make_s2(size=20), "sentinel-1": radar.assign_coords(x=radar.x + shift)})
    columns = cube.series["sentinel-1"].columns
    np.testing.assert_array_equal(np.diff(columns), 1)
    assert abs(cube.x[0] - (radar.x.values[columns[0]] + shift)) <= 5.001
    np.testing.assert_allclose(values_of(cube, "sentinel-1")[0, 0, 0], -50 + columns, atol=1e-4)


def test_top_left_coordinates_of_one_sensor_lose_no_column(make_s2: Callable, make_s1: Callable) -> None:
    radar = numbered(make_s1())
    corners = radar.assign_coords(x=radar.x - 5, y=radar.y + 5)
    with pytest.warns(DataWarning, match=r"-0.5 px in x and \+0.5 px in y"):
        cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": corners})
    np.testing.assert_array_equal(cube.series["sentinel-1"].columns, np.arange(6))
    np.testing.assert_array_equal(cube.series["sentinel-1"].rows, np.arange(6))


def grid_of(left: float, top: float, resolution: float, shape: tuple[int, int]) -> GeoBox:
    """Grid with the centre of its first pixel at `left` and `top`."""
    half = resolution / 2
    return GeoBox(shape, Affine(resolution, 0, left - half, 0, -resolution, top + half), "EPSG:32631")


def test_a_coarser_pixel_serves_all_centres_it_contains() -> None:
    fine = grid_of(5, 1000, 10, (12, 12))
    rows, columns = containing_pixels(fine, *pixel_centers(fine), grid_of(30, 975, 60, (2, 2)))
    np.testing.assert_array_equal(columns, [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(rows, [0] * 6 + [1] * 6)
    shifted = grid_of(35, 975, 60, (2, 2))  # an edge at 65, a centre of the fine grid
    np.testing.assert_array_equal(containing_pixels(fine, *pixel_centers(fine), shifted)[1], [-1] + [0] * 6 + [1] * 5)


def test_coarser_pixels_whose_edges_cut_the_finer_ones_cause_a_warning(make_s2: Callable, make_s1: Callable) -> None:
    radar = make_s1(size=4, resolution=20)
    with pytest.warns(DataWarning, match=r"Sentinel-1 lie -0.5 px in x and \+0 px in y"):
        Cube.open({"sentinel-2": make_s2(), "sentinel-1": radar.assign_coords(x=radar.x - 5)})


def test_long_axes_keep_every_pixel() -> None:
    count = 11_000
    one = grid_of(399_965, 5_600_000, 10, (4, count))
    other = grid_of(399_960, 5_600_000, 10 + 1e-3 / (count - 1), (4, count))
    np.testing.assert_array_equal(np.diff(containing_pixels(one, *pixel_centers(one), other)[1]), 1)


def test_a_grid_keeps_the_coordinates_of_its_dataset(make_s2: Callable) -> None:
    data = make_s2()
    x, y = np.linspace(0.1, 50.1, 6) + 500_000 / 3, np.linspace(5_600_000.7, 5_599_950.7, 6)
    grid, own_x, own_y = read_grid(moved(data, x, y), "cube")
    np.testing.assert_array_equal(own_x, x)
    np.testing.assert_array_equal(own_y, y)
    assert grid.resolution.x == (x[-1] - x[0]) / 5
    np.testing.assert_allclose(pixel_centers(grid)[0], x, rtol=1e-14)
    np.testing.assert_allclose(pixel_centers(grid)[1], y, rtol=1e-14)


def test_a_cropped_cube_reads_the_same_pixels(make_s2: Callable, make_s1: Callable) -> None:
    cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": make_s1(size=3, resolution=20)})
    part = cube.crop(slice(1, 4), slice(2, 100))
    assert part.grid.shape == (3, 4)
    np.testing.assert_array_equal(part.x, cube.x[2:])
    np.testing.assert_array_equal(pixel_centers(part.grid)[1], part.y)
    for sensor in cube.series:
        np.testing.assert_array_equal(values_of(part, sensor), values_of(cube, sensor)[..., 1:4, 2:])
