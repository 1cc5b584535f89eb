"""Names of bands and masks: common spellings are matched, ambiguous names are refused, unused ones reported."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.names import candidates, match
from thalweg.earth.sensors import LANDSAT_8, SENTINEL_1, SENTINEL_2, Quality, Sensor
from thalweg.errors import DataWarning, UsageError

BANDS = SENTINEL_2.band_names
VOCABULARIES = {
    "Earth Engine": ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"],
    "lower case": [name.lower() for name in BANDS],
    "openEO": [f"S2-L2A-{name}" for name in BANDS],
    "SAFE": [f"{name}_10m" for name in BANDS],
    "sensor first": [f"sentinel2_{name}" for name in BANDS],
    "words": [f"band_{name[1:].lstrip('0')}" for name in BANDS],
    "STAC": ["blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22"],
    "Earth Search": ["blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"],
    "Open Data Cube": [
        *("nbart_blue", "nbart_green", "nbart_red", "nbart_red_edge_1", "nbart_red_edge_2", "nbart_red_edge_3"),
        *("nbart_nir_1", "nbart_nir_2", "nbart_swir_2", "nbart_swir_3"),
    ],
    "Digital Earth Africa": [
        *("blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3", "nir", "nir_narrow", "swir_1", "swir_2"),
    ],
    "upper case": ["BLUE", "GREEN", "RED", "RedEdge1", "RedEdge2", "RedEdge3", "NIR", "Narrow NIR", "SWIR16", "SWIR22"],
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("mask", ["SCL", "scl", "S2-L2A-SCL", "SCL_20m"])
def test_a_cube_is_the_same_under_any_names(make_s2: Callable, vocabulary: str, mask: str) -> None:
    data = make_s2()
    data["SCL"][1, :3] = 9
    names = dict(zip(BANDS, VOCABULARIES[vocabulary], strict=True)) | {"SCL": mask}
    found = Cube.open(data.rename(names)).reference
    assert found.present_bands.all()
    seen, expected = (series.read(Cube.open(data).whole) for series in (found, Cube.open(data).reference))
    np.testing.assert_array_equal(seen.values, expected.values)
    np.testing.assert_array_equal(seen.quality, expected.quality)


@pytest.mark.parametrize(
    ("sensor", "name", "band"),
    [
        (SENTINEL_2, "B08A", "B8A"),
        (SENTINEL_2, "sentinel-2_B02", "B02"),
        (LANDSAT_8, "SR_B5", "B05"),
        (LANDSAT_8, "nir08", "B05"),
        (SENTINEL_1, "sigma0_vv", "VV"),
        (SENTINEL_1, "gamma0_VH", "VH"),
        (SENTINEL_1, "Sigma0_VV_db", "VV"),
        (SENTINEL_1, "VV_dB", "VV"),
    ],
)
def test_names_of_other_sensors_and_processors(sensor: Sensor, name: str, band: str) -> None:
    assert candidates(sensor, name) == (band,)


@pytest.mark.parametrize("name", ["B01", "B09", "B04_toa", "B04_std", "4", "visual", "Amplitude_VV", "redness"])
def test_other_quantities_are_not_bands(name: str) -> None:
    assert all(not candidates(sensor, name) for sensor in (SENTINEL_2, SENTINEL_1, LANDSAT_8))


def test_a_repeated_band_is_refused_with_both_names(make_s2: Callable) -> None:
    data = make_s2()
    with pytest.raises(UsageError, match="B02 and blue both name band B02"):
        Cube.open(data.assign(blue=data["B02"]))
    with pytest.raises(UsageError, match="SCL and scl_20m both name the mask SCL"):
        Cube.open(data.assign(scl_20m=data["SCL"]))


def test_an_ambiguous_name_is_refused_alone_and_resolved_by_the_other_bands() -> None:
    with pytest.raises(UsageError, match="swir2 can mean B11 or B12 of Sentinel-2 L2A: rename it"):
        match(SENTINEL_2, ["blue", "swir2"], "cube")
    assert match(SENTINEL_2, ["swir1", "swir2"], "cube").bands == {"B11": "swir1", "B12": "swir2"}
    assert match(SENTINEL_2, ["swir3", "swir2"], "cube").bands == {"B12": "swir3", "B11": "swir2"}


@pytest.mark.parametrize("attribute", ["sentinel-2", "SENTINEL-2", "Sentinel-2A", "S2B", "sentinel2"])
def test_the_attribute_names_a_sensor_in_any_spelling(make_s2: Callable, attribute: str) -> None:
    bare = make_s2().drop_vars("SCL")
    assert list(Cube.open(bare.assign_attrs(sensor=attribute), assume_clear=True).series) == ["sentinel-2"]


def test_an_attribute_that_names_an_instrument_does_not_hide_the_mask(make_s2: Callable) -> None:
    assert list(Cube.open(make_s2().assign_attrs(sensor="MSI")).series) == ["sentinel-2"]
    with pytest.raises(UsageError, match=r"without a mask \(SCL or QA60 or qa_pixel or pixel_qa\): name the sensor"):
        Cube.open(make_s2().drop_vars("SCL").assign_attrs(sensor="MSI"))
    with pytest.raises(UsageError, match=r"pixel_qa; cloud_mask not understood\): name the sensor"):
        Cube.open(make_s2().rename(SCL="cloud_mask"))


def test_absent_and_unused_variables_cause_a_warning_each_time(make_s2: Callable) -> None:
    data = make_s2().drop_vars("B05").rename(B06="band six").assign(B01=make_s2()["B02"])
    for _ in range(2):
        with pytest.warns(DataWarning) as caught:
            Cube.open(data)
        lines = [str(warning.message) for warning in caught]
        assert "dataset: not used: band six, B01" in lines
        assert "dataset: Sentinel-2 L2A without B05, B06" in lines


# Masks


@pytest.mark.parametrize("other", ["MSK_CLDPRB", "cloud_mask", "CLM"])
def test_a_mask_that_is_not_understood_is_named(make_s2: Callable, other: str) -> None:
    data = make_s2().rename(SCL=other).assign_attrs(sensor="sentinel-2")
    with pytest.raises(UsageError, match=f"without a mask .SCL or QA60; {other} not understood.*assume_clear"):
        Cube.open(data)


def test_a_sensor_without_mask_is_clear_only_if_declared_so(make_s2: Callable, make_s1: Callable) -> None:
    bare = make_s2().drop_vars("SCL").assign_attrs(sensor="sentinel-2")
    with pytest.raises(UsageError, match="`assume_clear=True` or the attribute assume_clear=1"):
        Cube.open(bare)
    for opened in (Cube.open(bare, assume_clear=True), Cube.open(bare.assign_attrs(assume_clear=1))):
        assert opened.reference.read(opened.whole).valid.all()
    with pytest.raises(UsageError, match="without a mask"):
        Cube.open(bare.assign_attrs(assume_clear="no"))
    with pytest.raises(UsageError, match="without a mask"):
        Cube.open(bare.drop_attrs().merge(make_s1()).assign_attrs(sensor="sentinel-2"))
    assert Cube.open(make_s1()).reference.read(Cube.open(make_s1()).whole).valid.all()


def test_bands_of_another_sensor_are_reported(make_s2: Callable, make_s1: Callable) -> None:
    one_grid = make_s1(dates=4).assign_coords(time=make_s2().time)
    with pytest.raises(UsageError, match=r"sentinel-2 or landsat-8 without a mask .*: name the sensor"):
        Cube.open(make_s2().drop_vars("SCL").merge(one_grid))


def of_bits(make_s2: Callable, start: str, values: list[int]) -> xr.Dataset:
    data = make_s2().rename(SCL="QA60")
    data = data.assign_coords(time=data.time - data.time[0] + np.datetime64(start, "ns"))
    data["QA60"] = data["QA60"].astype(np.uint16) * 0
    data["QA60"][0, 0, : len(values)] = values
    return data


def test_flags_of_earth_engine_are_read_bit_by_bit(make_s2: Callable) -> None:
    opened = Cube.open(of_bits(make_s2, "2019-05-01", [0, 1024, 2048, 3072, 1]))
    quality = opened.reference.read(opened.whole).quality
    clear, cloud = Quality.CLEAR, Quality.CLOUD
    np.testing.assert_array_equal(quality[0, 0, :5], [clear, cloud, cloud, cloud, clear])
    assert (quality[1:] == clear).all()


def test_flags_that_were_not_produced_do_not_mean_clear(make_s2: Callable) -> None:
    for start in ("2022-06-01", "2024-02-01"):
        with pytest.raises(UsageError, match=r"QA60 is empty on .* not produced from 2022-01-25 to 2024-02-28"):
            Cube.open(of_bits(make_s2, start, []))
    assert Cube.open(of_bits(make_s2, "2024-05-01", [])).reference.sensor == SENTINEL_2


def test_landsats_collection_2_is_read_by_its_bits_and_scale(make_s2: Callable) -> None:
    names = {"B02": "SR_B2", "B03": "SR_B3", "B04": "SR_B4", "B8A": "SR_B5", "B11": "SR_B6", "B12": "SR_B7"}
    data = make_s2()[[*names, "SCL"]]
    for name in names:
        data[name] = ((data[name] + 0.2) / 2.75e-5).round().astype(np.uint16)
    data["SCL"] = data["SCL"].astype(np.uint16) * 0 + np.uint16(21824)
    data["SCL"][0, 0, :5] = [1, 21952, 22280, 23888, 30048]
    opened = Cube.open(data.rename(names | {"SCL": "QA_PIXEL"}))
    assert list(opened.series) == ["landsat-8"]
    seen = opened.reference.read(opened.whole)
    reasons = [Quality.MISSING, Quality.WATER, Quality.CLOUD, Quality.CLOUD, Quality.CLOUD]
    np.testing.assert_array_equal(seen.quality[0, 0, :5], reasons)
    np.testing.assert_allclose(seen.values[1:, 0], make_s2()["B02"].values[1:], atol=2e-5)
    bare = data.rename(names).drop_vars("SCL").assign_attrs(sensor="landsat-8")
    with pytest.raises(UsageError, match="write scale_factor and add_offset"):
        Cube.open(bare, assume_clear=True)


def test_a_mask_with_gaps_fill_values_and_unknown_classes(make_s2: Callable) -> None:
    data = make_s2()
    data["SCL"] = data["SCL"].astype(np.float32)
    data["SCL"][0, 0, :4] = [np.nan, -1, 42, 4.5]
    data["SCL"].attrs["_FillValue"] = np.float32(-1)
    with pytest.warns(
        DataWarning, match=r"2 of 144 pixel-dates with a class that the mask's declaration does not know"
    ):
        opened = Cube.open(data)
    quality = opened.reference.read(opened.whole).quality
    missing, cloud = Quality.MISSING, Quality.CLOUD
    np.testing.assert_array_equal(quality[0, 0], [missing, missing, cloud, cloud, Quality.CLEAR, Quality.CLEAR])
    with pytest.raises(UsageError, match="mask SCL holds bool, expected its classes or flags as numbers"):
        Cube.open(make_s2().assign(SCL=make_s2()["SCL"] == 4))
