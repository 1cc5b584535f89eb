"""Folders of dated rasters: bands and dates from names, descriptions and tags; ambiguous ones are refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.readers.raster_names import band_in, date_in, sensor_in
from thalweg.errors import DataWarning, ThalwegError, UsageError

BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
DAYS = ("2018-05-01", "2018-05-06", "2018-05-11", "2018-05-16")


def numbers(data: xr.Dataset) -> xr.Dataset:
    for name in BANDS:
        data[name] = (data[name] * 10_000).round().astype(np.uint16)
    data["SCL"] = data["SCL"].astype(np.uint16)
    return data


def write(
    path: Path,
    layers: Sequence[np.ndarray],
    descriptions: Sequence[str] = (),
    pixel: float = 10,
    nodata: float | None = None,
    scale: float | None = None,
    left: float = 500_000,
    **tags: str,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = layers[0].shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(layers),
        height=height,
        width=width,
        dtype=layers[0].dtype,
        crs="EPSG:32631",
        transform=from_origin(left, 5_600_000, pixel, pixel),
        nodata=nodata,
    ) as file:
        for index, layer in enumerate(layers, 1):
            file.write(layer, index)
        if descriptions:
            file.descriptions = tuple(descriptions)
        if scale is not None:
            file.scales = (scale,) * len(layers)
        file.update_tags(**tags)


def assert_same(source: Path, expected: object, tolerance: float = 1e-6) -> Cube:
    cube, right = Cube.open(source), Cube.open(expected)
    np.testing.assert_array_equal(cube.x, right.x)
    np.testing.assert_array_equal(cube.y, right.y)
    assert list(cube.series) == list(right.series)
    for name, series in right.series.items():
        np.testing.assert_array_equal(cube.series[name].dates.astype("datetime64[D]"), series.dates.astype("<M8[D]"))
        seen, wanted = cube.series[name].read(cube.whole), series.read(right.whole)
        np.testing.assert_array_equal(seen.quality, wanted.quality)
        np.testing.assert_allclose(seen.values, wanted.values, rtol=0, atol=tolerance)
    return cube


@pytest.fixture
def data(make_s2: Callable) -> xr.Dataset:
    return numbers(make_s2())


def layers_of(data: xr.Dataset, index: int, names: Sequence[str] = (*BANDS, "SCL")) -> list[np.ndarray]:
    return [data[name].values[index] for name in names]


def test_one_file_per_date_with_descriptions(data: xr.Dataset, tmp_path: Path) -> None:
    for index, day in enumerate(DAYS):
        write(tmp_path / f"{day}_S2.tif", layers_of(data, index), (*BANDS, "SCL"))
    cube = assert_same(tmp_path, data)
    assert len(cube.reference.parts) == 1


def test_the_date_may_be_in_the_tags(data: xr.Dataset, tmp_path: Path) -> None:
    for index, day in enumerate(DAYS):
        tags = {"ACQUISITIONDATE": day, "TIFFTAG_DATETIME": "2023:01:01 00:00:00"}
        write(tmp_path / f"scene{index}.tif", layers_of(data, index), (*BANDS, "SCL"), **tags)
    assert_same(tmp_path, data)


def test_the_date_of_writing_counts_last(data: xr.Dataset, tmp_path: Path) -> None:
    for index, day in enumerate(DAYS):
        tags = {"TIFFTAG_DATETIME": f"{day.replace('-', ':')} 10:50:31"}
        write(tmp_path / f"scene{index}.tif", layers_of(data, index), (*BANDS, "SCL"), **tags)
    assert_same(tmp_path, data)


def test_one_file_per_band_and_date_with_coarser_bands(data: xr.Dataset, tmp_path: Path) -> None:
    coarse = ["B05", "B06", "B07", "B8A", "B11", "B12", "SCL"]
    for name in coarse:
        data[name].values[:] = data[name].values[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
    for index, day in enumerate(DAYS):
        stem = f"T31UFS_{day.replace('-', '')}T105031"
        for name in (*BANDS, "SCL"):
            layer, step = data[name].values[index], 2 if name in coarse else 1
            write(tmp_path / day / f"{stem}_{name}_{10 * step}m.tif", [layer[::step, ::step]], pixel=10.0 * step)
        write(tmp_path / day / f"{stem}_B02_20m.tif", [data["B03"].values[index][::2, ::2]], pixel=20)
        write(tmp_path / day / f"{stem}_TCI_10m.tif", [data["B03"].values[index]] * 3)
    with pytest.warns(DataWarning, match="left out, no known band: T31UFS_20180501T105031_TCI_10m.tif"):
        cube = assert_same(tmp_path, data)
    assert str(cube.reference.dates[0]).startswith("2018-05-01T10:50:31")


def test_sentinel_1_next_to_sentinel_2(data: xr.Dataset, make_s1: Callable, tmp_path: Path) -> None:
    radar = make_s1()
    for index, day in enumerate(DAYS):
        write(tmp_path / f"{day}_S2.tif", layers_of(data, index), (*BANDS, "SCL"))
    for index, date in enumerate(radar.time.values):
        day = np.datetime_as_string(date, "D").replace("-", "")
        for name in ("VV", "VH"):
            write(tmp_path / f"S1A_IW_{day}T173236_{name}.tif", [radar[name].values[index]], nodata=np.nan)
    assert_same(tmp_path, {"sentinel-2": data, "sentinel-1": radar})


def test_fill_values_and_scale_of_the_files_are_applied(data: xr.Dataset, tmp_path: Path) -> None:
    data["B06"].values[1, 2, 3] = 0
    for index, day in enumerate(DAYS):
        bands, mask = layers_of(data, index, BANDS), layers_of(data, index, ["SCL"])
        stored = [np.where(layer == 0, -7, 2.0 * layer).astype(np.int16) for layer in bands]
        write(tmp_path / f"{day}_S2.tif", stored, BANDS, nodata=-7, scale=5e-5)
        write(tmp_path / f"{day}_S2_SCL.tif", mask)
    assert_same(tmp_path, data)


def test_bands_that_are_dates(data: xr.Dataset, tmp_path: Path) -> None:
    for name in (*BANDS, "SCL"):
        write(tmp_path / f"{name}.tif", list(data[name].values), [f"{day.replace('-', '')}_{name}" for day in DAYS])
    assert_same(tmp_path, data)


def test_a_vrt_of_bands(data: xr.Dataset, tmp_path: Path) -> None:
    sources = []
    for index, day in enumerate(DAYS):
        tif = tmp_path / "tif" / f"{index}.tif"
        write(tif, layers_of(data, index))
        bands = "".join(
            f'<VRTRasterBand dataType="UInt16" band="{band}"><Description>{name}</Description><SimpleSource>'
            f'<SourceFilename relativeToVRT="0">{tif}</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>'
            "</VRTRasterBand>"
            for band, name in enumerate((*BANDS, "SCL"), 1)
        )
        (tmp_path / "vrt").mkdir(exist_ok=True)
        (tmp_path / "vrt" / f"{day}.vrt").write_text(
            '<VRTDataset rasterXSize="6" rasterYSize="6"><SRS>EPSG:32631</SRS>'
            f"<GeoTransform>500000, 10, 0, 5600000, 0, -10</GeoTransform>{bands}</VRTDataset>"
        )
        sources.append(tif)
    assert_same(tmp_path / "vrt", data)
    sources[2].unlink()
    with pytest.raises(ThalwegError, match=r"cannot be read|not a readable"):
        cube = Cube.open(tmp_path / "vrt")
        cube.reference.read(cube.whole)


def test_two_tiles_of_an_overpass(data: xr.Dataset, tmp_path: Path) -> None:
    for index, day in enumerate(DAYS):
        for tile, columns, left in (("T31UFS", slice(4), 500_000), ("T31UGS", slice(2, 6), 500_020)):
            layers = [layer[:, columns] for layer in layers_of(data, index)]
            write(tmp_path / f"S2A_{tile}_{day}.tif", layers, (*BANDS, "SCL"), left=left)
    assert_same(tmp_path, data)


def test_products_with_a_baseline_per_date(data: xr.Dataset, tmp_path: Path) -> None:
    raised = data.copy(deep=True)
    for name in BANDS:
        raised[name].values[2:] += 1000
    for index, day in enumerate(DAYS):
        baseline = "N0500" if index > 1 else "N0208"
        product = f"S2A_MSIL2A_{day.replace('-', '')}T105031_{baseline}_R051_T31UFS_20230701T041200"
        write(tmp_path / f"{product}.tif", layers_of(raised, index), (*BANDS, "SCL"))
    assert_same(tmp_path, data)


# Ambiguous names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("S2_01022018.tif", "cannot tell day and month of 01022018: write the date as 2018-06-30"),
        ("S2_03-04-2018.tif", "cannot tell day and month of 03-04-2018"),
        ("S2_20180501_20180506.tif", "more than one date in its name .2018-05-01 and 2018-05-06"),
        ("S2_scene.tif", "no date in its name or its tags"),
    ],
)
def test_an_ambiguous_date_is_refused_with_the_file(data: xr.Dataset, tmp_path: Path, name: str, words: str) -> None:
    write(tmp_path / name, layers_of(data, 0), (*BANDS, "SCL"))
    with pytest.raises(UsageError, match=f"{name}: {words}"):
        Cube.open(tmp_path)


def test_a_name_that_contradicts_the_tags_is_refused(data: xr.Dataset, tmp_path: Path) -> None:
    write(tmp_path / "2018-05-01_S2.tif", layers_of(data, 0), (*BANDS, "SCL"), ACQUISITION_DATE="2018-05-02")
    with pytest.raises(UsageError, match=r"its name says 2018-05-01, its tags 2018-05-02"):
        Cube.open(tmp_path)


def test_bands_without_names_are_refused(data: xr.Dataset, tmp_path: Path) -> None:
    write(tmp_path / "2018-05-01_S2.tif", layers_of(data, 0))
    with pytest.raises(UsageError, match=r"no raster has a known band \(2018-05-01_S2.tif\): name them"):
        Cube.open(tmp_path)


def test_a_repeated_band_is_refused(data: xr.Dataset, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "2018-05-01_B02.tif", layers_of(data, 0, ["B02"]))
    with pytest.raises(UsageError, match=r"band B02 of 2018-05-01 is also in"):
        Cube.open(tmp_path)


def test_a_damaged_raster_raises_one_line_error(data: xr.Dataset, tmp_path: Path) -> None:
    for index, day in enumerate(DAYS):
        write(tmp_path / f"{day}_S2.tif", layers_of(data, index), (*BANDS, "SCL"))
    (tmp_path / "2018-05-06_S2.tif").write_bytes(b"II*\x00 no more")
    with pytest.raises(UsageError, match=r"2018-05-06_S2.tif: not a readable raster"):
        Cube.open(tmp_path)


# Names


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("T31UFS_20180630T105031_B02_10m", "2018-06-30T10:50:31"),
        ("2018-06-30_S2", "2018-06-30"),
        ("ndvi_2018.06.30", "2018-06-30"),
        ("S2B_2018_06_30_10m", "2018-06-30"),
        ("S1A_IW_GRDH_1SDV_20180612T173236_20180612T173301_022321_026A88_7E6A", "2018-06-12T17:32:36"),
        ("S1A_IW_GRDH_1SDV_20180612T235950_20180613T000015_022321_026A88_7E6A", "2018-06-12T23:59:50"),
        ("S2A_MSIL2A_20180630T105031_N0500_R051_T31UFS_20230801T142500", "2018-06-30T10:50:31"),
        ("LC08_L2SP_199024_20180630_20200831_02_T1_SR_B4", "2018-06-30"),
        ("band_4", None),
    ],
)
def test_dates_in_names(text: str, date: str | None) -> None:
    assert date_in(text, "file") == (None if date is None else np.datetime64(date, "ns"))


@pytest.mark.parametrize(
    ("text", "sensor", "band"),
    [
        ("T31UFS_20180630T105031_B8A_20m", None, "B8A"),
        ("2018-06-30_vv", None, "vv"),
        ("LC08_L2SP_199024_20180630_20200831_02_T1_SR_B4", "landsat-8", "B4"),
        ("2018-06-30_B04_B08_ratio", "sentinel-2", None),
        ("2018-06-30_dem", None, None),
    ],
)
def test_bands_in_names(text: str, sensor: str | None, band: str | None) -> None:
    assert band_in(text, sensor) == band


@pytest.mark.parametrize(
    ("texts", "sensor"),
    [
        (["S2A_31UFS"], "sentinel-2"),
        (["2018-06-30", "Sentinel-1"], "sentinel-1"),
        (["T31UFS_20180630T105031_B02_10m"], "sentinel-2"),
        (["LC08_L2SP_199024"], "landsat-8"),
        (["S2A", "S1A"], None),
        (["B02"], None),
    ],
)
def test_sensors_in_names(texts: list[str], sensor: str | None) -> None:
    assert sensor_in(texts) == sensor
