"""Cubes: every layout is read equally, units and offsets are right, and unusable pixels have a reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window, window_at, window_count
from thalweg.earth.sensors import Quality
from thalweg.errors import UsageError

BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def values_of(cube: Cube, sensor: str) -> np.ndarray:
    return cube.series[sensor].read(cube.whole).values


def assert_same(one: Cube, other: Cube) -> None:
    assert list(one.series) == list(other.series)
    for name, series in one.series.items():
        np.testing.assert_array_equal(series.dates, other.series[name].dates)
        first, second = series.read(one.whole), other.series[name].read(other.whole)
        np.testing.assert_array_equal(first.values, second.values)
        np.testing.assert_array_equal(first.quality, second.quality)


def stored(data: xr.Dataset, names: list[str] = BANDS) -> xr.Dataset:
    """Return reflectance as digital numbers, uint16."""
    for name in names:
        data[name] = (data[name] * 10_000).round().astype(np.uint16)
    return data


# Layouts


@pytest.fixture
def expected(datasets: dict[str, xr.Dataset]) -> Cube:
    return Cube.open(datasets)


def test_a_mapping_of_datasets(expected: Cube, datasets: dict[str, xr.Dataset]) -> None:
    assert list(expected.series) == ["sentinel-2", "sentinel-1"]
    assert expected.grid.shape == (32, 32)
    assert expected.grid.crs.epsg == 32631
    raw = datasets["sentinel-2"]["B8A"].values
    seen = values_of(expected, "sentinel-2")[:, BANDS.index("B8A")]
    usable = np.isin(datasets["sentinel-2"]["SCL"].values, (4, 5, 6, 7)) & (raw > 0)
    np.testing.assert_allclose(seen[usable], raw[usable] / 10_000, rtol=1e-6)
    assert np.isnan(seen[~usable]).all()
    assert 0 < usable.mean() < 1


def test_a_folder_of_netcdf(expected: Cube, cube_folder: Path) -> None:
    opened = Cube.open(cube_folder)
    assert opened.name == "landscape"
    assert_same(opened, expected)


def test_one_netcdf_file(expected: Cube, cube_folder: Path) -> None:
    opened = Cube.open(str(cube_folder / "s2.nc"))
    assert list(opened.series) == ["sentinel-2"]
    np.testing.assert_array_equal(values_of(opened, "sentinel-2"), values_of(expected, "sentinel-2"))


def test_a_plain_dataset(expected: Cube, datasets: dict[str, xr.Dataset]) -> None:
    opened = Cube.open(datasets["sentinel-2"])
    np.testing.assert_array_equal(values_of(opened, "sentinel-2"), values_of(expected, "sentinel-2"))


def test_a_zarr_store_and_a_folder_of_them(expected: Cube, datasets: dict[str, xr.Dataset], tmp_path: Path) -> None:
    for name, dataset in datasets.items():
        dataset.drop_encoding().to_zarr(tmp_path / f"{name}.zarr", zarr_format=3, consolidated=False)
    assert_same(Cube.open(tmp_path), expected)
    assert list(Cube.open(tmp_path / "sentinel-1.zarr").series) == ["sentinel-1"]


def test_one_netcdf_file_with_a_group_per_sensor(
    expected: Cube, datasets: dict[str, xr.Dataset], tmp_path: Path
) -> None:
    file = tmp_path / "merged.nc"
    for mode, (name, dataset) in zip("wa", datasets.items(), strict=True):
        dataset.to_netcdf(file, group=name, mode=mode, engine="h5netcdf")
    assert_same(Cube.open(file), expected)


def test_one_zarr_store_with_a_group_per_sensor(
    expected: Cube, datasets: dict[str, xr.Dataset], tmp_path: Path
) -> None:
    for name, dataset in datasets.items():
        dataset.drop_encoding().to_zarr(tmp_path / "merged.zarr", group=name, zarr_format=3, consolidated=False)
    assert_same(Cube.open(tmp_path / "merged.zarr"), expected)


def test_one_flat_file_of_two_sensors_is_reduced_to_the_dates_of_each(
    make_s2: Callable, make_s1: Callable, tmp_path: Path
) -> None:
    sentinel2, sentinel1 = make_s2(), make_s1()
    merged = xr.merge([sentinel2.drop_vars("SCL"), sentinel1], join="outer", compat="no_conflicts")
    merged["SCL"] = sentinel2["SCL"].reindex(time=merged.time, fill_value=0)
    for name, own in (("sentinel-2", sentinel2), ("sentinel-1", sentinel1)):
        merged[f"{name}_observed"] = merged.time.isin(own.time)
    merged.to_netcdf(tmp_path / "merged.nc", engine="h5netcdf")
    assert merged.sizes["time"] == 9
    assert_same(Cube.open(tmp_path / "merged.nc"), Cube.open({"sentinel-2": sentinel2, "sentinel-1": sentinel1}))


def test_only_the_wanted_sensors_are_opened(cube_folder: Path) -> None:
    assert list(Cube.open(cube_folder, sensors=("sentinel-1",)).series) == ["sentinel-1"]
    with pytest.raises(UsageError, match="no bands of landsat-8"):
        Cube.open(cube_folder, sensors=("landsat-8",))


def test_the_attribute_names_the_sensor_of_ambiguous_bands(make_s2: Callable) -> None:
    bare = make_s2().drop_vars("SCL")
    with pytest.raises(UsageError, match=r"sentinel-2 or landsat-8 without a mask .*: name the sensor"):
        Cube.open(bare)
    assert list(Cube.open(bare.assign_attrs(sensor="sentinel-2"), assume_clear=True).series) == ["sentinel-2"]
    assert list(Cube.open({"landsat-8": bare}, assume_clear=True).series) == ["landsat-8"]


def test_a_sensor_given_twice_is_refused(make_s1: Callable, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_s1().to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    with pytest.raises(UsageError, match=r"two.nc: Sentinel-1 is also in .*one.nc: give one of them"):
        Cube.open(tmp_path)


# Bands, units, offsets


def test_the_order_of_bands_and_dimensions_does_not_matter(make_s2: Callable) -> None:
    data = make_s2()
    shuffled = data[["B12", "B04", "SCL", "B8A", "B02", "B11", "B03", "B07", "B05", "B08", "B06"]]
    assert_same(Cube.open(shuffled), Cube.open(data))
    assert_same(Cube.open(data.transpose("x", "time", "y")), Cube.open(data))


def test_common_names_of_bands(make_s2: Callable, make_s1: Callable) -> None:
    names = ["blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"]
    data = make_s2()
    assert_same(Cube.open(data.rename(dict(zip(BANDS, names, strict=True)))), Cube.open(data))
    assert_same(Cube.open(make_s1().rename(VV="vv", VH="vh")), Cube.open(make_s1()))


def test_digital_numbers_and_fractions_are_the_same_cube(make_s2: Callable) -> None:
    numbers, fractions = stored(make_s2()), make_s2()
    np.testing.assert_allclose(
        values_of(Cube.open(numbers), "sentinel-2"), values_of(Cube.open(fractions), "sentinel-2"), atol=6e-5
    )


def test_scale_factors_of_the_file_are_applied(make_s2: Callable, tmp_path: Path) -> None:
    data = make_s2()
    encoding = {name: {"dtype": "int16", "scale_factor": 2e-5, "_FillValue": -1} for name in BANDS}
    data.to_netcdf(tmp_path / "packed.nc", engine="h5netcdf", encoding=encoding)
    np.testing.assert_allclose(
        values_of(Cube.open(tmp_path / "packed.nc"), "sentinel-2"), values_of(Cube.open(data), "sentinel-2"), atol=2e-5
    )


def test_the_offset_of_baseline_4_is_subtracted_once(make_s2: Callable) -> None:
    plain = values_of(Cube.open(stored(make_s2())), "sentinel-2")
    raised = stored(make_s2())
    for name in BANDS:
        raised[name] += 1000

    def read(**attributes: object) -> np.ndarray:
        return values_of(Cube.open(raised.assign_attrs(attributes)), "sentinel-2")

    np.testing.assert_allclose(read(processing_baseline="04.00"), plain, atol=1e-6)
    np.testing.assert_allclose(read(processing_baseline=5.09), plain, atol=1e-6)
    np.testing.assert_allclose(read(processing_baseline="03.01"), plain + 0.1, atol=1e-6)
    np.testing.assert_allclose(read(), plain + 0.1, atol=1e-6)
    np.testing.assert_allclose(read(processing_baseline="04.00", boa_offset_applied=1), plain + 0.1, atol=1e-6)


@pytest.mark.parametrize("as_coordinate", [False, True])
def test_the_offset_is_applied_per_date(make_s2: Callable, as_coordinate: bool) -> None:
    plain = values_of(Cube.open(stored(make_s2())), "sentinel-2")
    mixed = stored(make_s2())
    for name in BANDS:
        mixed[name][2:] += 1000
    mixed["processing_baseline"] = ("time", [2.14, 3.01, 4.0, 5.1])
    if as_coordinate:
        mixed = mixed.set_coords("processing_baseline")
    np.testing.assert_allclose(values_of(Cube.open(mixed), "sentinel-2"), plain, atol=1e-6)


def test_an_invalid_baseline_raises_one_line_error(make_s2: Callable) -> None:
    with pytest.raises(UsageError, match=r"processing_baseline is newest, expected .* such as 04\.00"):
        Cube.open(stored(make_s2()).assign_attrs(processing_baseline="newest"))


def test_absent_bands_are_missing_not_zero(make_s2: Callable) -> None:
    cube = Cube.open(make_s2().drop_vars(["B05", "B11"]))
    lacking = np.isin(BANDS, ["B05", "B11"])
    np.testing.assert_array_equal(cube.reference.present_bands, ~lacking)
    seen = cube.reference.read(cube.whole)
    assert np.isnan(seen.values[:, lacking]).all()
    assert np.isfinite(seen.values[:, ~lacking]).all()
    assert seen.valid.all()


def test_a_gap_in_one_band_invalidates_the_pixel(make_s2: Callable) -> None:
    data = make_s2()
    data["B06"][1, 2, 3] = np.nan
    seen = Cube.open(data).reference.read(Window(0, 0, 6, 6))
    assert seen.quality[1, 2, 3] == Quality.MISSING
    assert np.isnan(seen.values[1, :, 2, 3]).all()
    assert seen.valid.sum() == seen.valid.size - 1


def test_zero_is_no_data_in_digital_numbers(make_s2: Callable) -> None:
    data = stored(make_s2())
    data["B02"][0, 1, 1] = 0
    seen = Cube.open(data).reference.read(Window(0, 0, 6, 6))
    assert seen.quality[0, 1, 1] == Quality.MISSING


def test_digital_numbers_as_float_need_their_unit(make_s2: Callable) -> None:
    data = make_s2()
    expected = values_of(Cube.open(data), "sentinel-2")
    numbers = data.copy()
    for name in BANDS:
        numbers[name] = numbers[name] * 10_000
    with pytest.raises(UsageError, match=r"B02 has a median of .* divide by 10000"):
        values_of(Cube.open(numbers), "sentinel-2")
    for name in BANDS:
        numbers[name].attrs["units"] = "DN"
    np.testing.assert_allclose(values_of(Cube.open(numbers), "sentinel-2"), expected, atol=1e-6)


def test_linear_power_is_refused_if_undeclared_and_converted_if_declared(make_s1: Callable) -> None:
    decibel = make_s1()
    linear = decibel.copy()
    for name in ("VV", "VH"):
        linear[name] = 10 ** (decibel[name] / 10)
        linear[name].attrs.clear()
    with pytest.raises(UsageError, match=r"VV has a median of 0\.1.* expected backscatter in dB"):
        values_of(Cube.open(linear), "sentinel-1")
    for name in ("VV", "VH"):
        linear[name].attrs["units"] = "linear"
    np.testing.assert_allclose(
        values_of(Cube.open(linear), "sentinel-1"), values_of(Cube.open(decibel), "sentinel-1"), atol=1e-4
    )


def test_sentinel_1_is_averaged_over_three_overpasses_in_power(make_s1: Callable) -> None:
    data = make_s1(dates=5)
    data["VV"][2, 0, 0] = np.nan  # a gap does not count in the means of its neighbours and remains a gap
    decibel = np.stack([data["VV"].values, data["VH"].values], 1).astype(float)
    decibel[2, :, 0, 0] = np.nan
    expected = np.full_like(decibel, np.nan)
    for date in range(5):
        around = decibel[max(0, date - 1) : date + 2]
        expected[date] = 10 * np.log10(np.nanmean(10 ** (around / 10), 0))
    expected[2, :, 0, 0] = np.nan
    np.testing.assert_allclose(values_of(Cube.open(data), "sentinel-1"), expected, atol=1e-4)


# Grids and windows


def test_windows_are_consistent_and_outside_beyond_the_grid(make_s2: Callable) -> None:
    cube = Cube.open(make_s2())
    whole = cube.reference.read(cube.whole)
    beyond = cube.reference.read(cube.whole.grown(3))
    np.testing.assert_array_equal(beyond.values[..., 3:-3, 3:-3], whole.values)
    frame = np.ones((12, 12), bool)
    frame[3:-3, 3:-3] = False
    assert (beyond.quality[:, frame] == Quality.OUTSIDE).all()
    assert np.isnan(beyond.values[:, :, frame]).all()
    part = cube.reference.read(Window(2, 1, 3, 4))
    np.testing.assert_array_equal(part.values, whole.values[..., 2:5, 1:5])


@pytest.mark.parametrize("corner", [(-20, 0), (0, -20), (40, 0), (0, 40), (-20, -20)])
def test_a_window_wholly_beyond_the_grid_is_all_outside(make_s2: Callable, corner: tuple[int, int]) -> None:
    seen = Cube.open(make_s2()).reference.read(Window(*corner, 5, 4))
    assert seen.quality.shape == (4, 5, 4)
    assert (seen.quality == Quality.OUTSIDE).all()


def test_a_sensor_that_covers_a_part_is_outside_elsewhere(make_s2: Callable, make_s1: Callable) -> None:
    radar = make_s1(left=500_030, top=5_600_000 - 20)
    cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": radar})
    seen = cube.series["sentinel-1"].read(cube.whole)
    assert (seen.quality[:, :2] == Quality.OUTSIDE).all()
    assert (seen.quality[:, :, :3] == Quality.OUTSIDE).all()
    assert (seen.quality[:, 2:, 3:] == Quality.CLEAR).all()
    own = values_of(Cube.open(radar), "sentinel-1")
    np.testing.assert_array_equal(seen.values[..., 2:, 3:], own[..., :4, :3])
    assert cube.usable_fraction("sentinel-1") == pytest.approx(np.full(5, 12 / 36))


def test_a_coarser_sensor_is_read_by_its_nearest_pixel(make_s2: Callable, make_s1: Callable) -> None:
    radar = make_s1(size=3, resolution=20)
    cube = Cube.open({"sentinel-2": make_s2(), "sentinel-1": radar})
    own = values_of(Cube.open(radar), "sentinel-1")
    repeated = own.repeat(2, -1).repeat(2, -2)
    np.testing.assert_array_equal(values_of(cube, "sentinel-1"), repeated)
    np.testing.assert_array_equal(cube.series["sentinel-1"].read(Window(1, 2, 3, 3)).values, repeated[..., 1:4, 2:5])


def test_clouds_water_and_gaps_have_their_own_quality(make_s2: Callable) -> None:
    data = make_s2()
    data["SCL"][0, 0, :6] = [4, 5, 6, 7, 9, 0]
    seen = Cube.open(data).reference.read(Window(0, 0, 1, 6))
    expected = [Quality.CLEAR, Quality.CLEAR, Quality.WATER, Quality.CLEAR, Quality.CLOUD, Quality.MISSING]
    np.testing.assert_array_equal(seen.quality[0, 0], expected)
    np.testing.assert_array_equal(seen.valid[0, 0], [True, True, True, True, False, False])


def test_landsat_is_read_by_its_pixel_qa(landscape: object) -> None:
    cube = Cube.open(landscape.landsat8)
    assert list(cube.series) == ["landsat-8"]
    seen = cube.reference.read(cube.whole)
    layer = landscape.landsat8.pixel_qa.values
    clear = np.isin(layer, (322, 386, 834, 898, 324, 388))
    np.testing.assert_array_equal(seen.valid, clear)
    assert 0 < clear.mean() < 1
    raw = landscape.landsat8["B05"].values
    np.testing.assert_allclose(seen.values[:, 3][clear], raw[clear] / 10_000, rtol=1e-6)


def test_dates_with_too_few_usable_pixels_are_not_eligible(make_s2: Callable) -> None:
    data = make_s2()
    data["SCL"][1] = 9
    data["SCL"][2] = 9
    data["SCL"][2, 0, 0] = 4  # 1 of 36 pixels is less than 3.5 %
    np.testing.assert_array_equal(Cube.open(data).eligible(), [0, 3])
    data["SCL"][2, 0, 1] = 4
    np.testing.assert_array_equal(Cube.open(data).eligible(), [0, 2, 3])


def test_windows_cover_the_grid_once(make_s2: Callable) -> None:
    cube = Cube.open(make_s2())
    assert list(cube.windows(4)) == [Window(0, 0, 4, 4), Window(0, 4, 4, 2), Window(4, 0, 2, 4), Window(4, 4, 2, 2)]


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (8, 3)])
def test_a_window_is_found_by_its_index(shape: tuple[int, int]) -> None:
    covered = np.zeros(shape, int)
    for index in range(window_count(shape, 4)):
        window = window_at(shape, 4, index)
        covered[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert (covered == 1).all()
    for index in (-1, window_count(shape, 4)):
        with pytest.raises(IndexError):
            window_at(shape, 4, index)


def test_a_bad_cube_is_refused_in_one_line(bad_cube: object) -> None:
    with pytest.raises(UsageError) as caught:
        cube = Cube.open(bad_cube.path)
        cube.eligible()
        for series in cube.series.values():
            series.read(cube.whole)
    assert "\n" not in str(caught.value)
    for word in bad_cube.words:
        assert word in str(caught.value)


def test_a_mapping_names_its_sensors(make_s2: Callable) -> None:
    with pytest.raises(UsageError, match=r"sensor 'sentinel-two': expected .* did you mean sentinel-2"):
        Cube.open({"sentinel-two": make_s2()})


@pytest.mark.parametrize("decoded", [False, True])
def test_baseline_offset_with_a_scale_factor(tmp_path: Path, decoded: bool) -> None:
    y, x = 5000000.0 - 10 * np.arange(4), 500000.0 + 10 * np.arange(4)
    bands = {
        name: (("time", "y", "x"), np.full((2, 4, 4), 1410, np.uint16), {"scale_factor": 1e-4, "units": "1"})
        for name in ("B02", "B03", "B04")
    }
    scl = {"SCL": (("time", "y", "x"), np.full((2, 4, 4), 4, np.uint8))}
    time = np.array(["2022-05-01", "2022-05-06"], "datetime64[ns]")
    data = xr.Dataset(bands | scl, {"time": time, "y": y, "x": x}, {"processing_baseline": "05.09"})
    data = data.rio.write_crs("EPSG:32631")
    cube = Cube.open(xr.decode_cf(data) if decoded else data)
    values = cube.reference.read(cube.whole).values[:, :3]
    assert np.allclose(values, 0.041, atol=1e-6)


def test_pixels_that_are_not_square_are_refused() -> None:
    y, x = 5000000.0 - 20 * np.arange(4), 500000.0 + 10 * np.arange(4)
    bands = {name: (("time", "y", "x"), np.full((2, 4, 4), 500, np.uint16)) for name in ("B02", "B03", "SCL")}
    time = np.array(["2022-05-01", "2022-05-06"], "datetime64[ns]")
    data = xr.Dataset(bands, {"time": time, "y": y, "x": x}).rio.write_crs("EPSG:32631")
    with pytest.raises(UsageError, match="square"):
        Cube.open(data)
