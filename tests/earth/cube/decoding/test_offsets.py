"""Offset of products: every kind of metadata, once and per date; ambiguous metadata are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.decoding.offsets import offset_metadata, parse_baseline, parse_flag, product_offset
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.errors import DataWarning, UsageError

BANDS = SENTINEL_2.band_names
OLD_AND_NEW = np.array(["2021-06-01", "2022-01-20", "2022-01-25", "2022-06-01"], "datetime64[ns]")


def offset_of(dates: np.ndarray = OLD_AND_NEW, stated: float | None = None, **facts: Any) -> list[float]:
    metadata = offset_metadata(facts.items(), len(dates), "cube")
    return product_offset(metadata, SENTINEL_2, dates, "cube", stated).tolist()


@pytest.mark.parametrize(
    "baseline", ["04.00", "0400", 400, "N0400", "N04.00", 4.0, 4, b"04.00", np.str_("04.00"), "4", " 04.00 ", "400"]
)
def test_a_baseline_is_parsed_in_every_spelling(baseline: object) -> None:
    assert parse_baseline(baseline) == 4
    for name in ("processing_baseline", "s2:processing_baseline", "PROCESSING_BASELINE", "s2_processing_baseline"):
        assert offset_of(**{name: baseline}) == [-1000] * 4


def test_a_later_and_an_earlier_baseline() -> None:
    assert [parse_baseline(value) for value in ("05.10", 510, "N0509", 2.14)] == [5.1, 5.1, 5.09, 2.14]
    assert offset_of(processing_baseline="03.01") == [0] * 4
    assert offset_of(OLD_AND_NEW[:2], processing_baseline="05.00") == [-1000] * 2  # reprocessed


@pytest.mark.parametrize("value", ["newest", "99.99", True, -4, "1.2.3"])
def test_an_invalid_baseline_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(UsageError, match=r"cube: s2:processing_baseline is .*expected a processing baseline such as"):
        offset_of(**{"s2:processing_baseline": value})


@pytest.mark.parametrize("yes", [True, 1, "True", "true", "yes", b"1", 1.0, np.int8(1)])
def test_the_flag_of_a_removed_offset_counts_first(yes: object) -> None:
    for name in ("boa_offset_applied", "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"):
        assert offset_of(processing_baseline="05.11", BOA_ADD_OFFSET=-1000, **{name: yes}) == [0] * 4


@pytest.mark.parametrize("no", [False, 0, "False", "false", "no", b"0", 0.0])
def test_a_false_flag_leaves_the_decision_to_the_baseline(no: object) -> None:
    assert parse_flag(no) == 0
    assert offset_of(boa_offset_applied=no, processing_baseline="04.00") == [-1000] * 4
    assert offset_of(boa_offset_applied=no) == [0, 0, -1000, -1000]


def test_an_invalid_flag_is_refused() -> None:
    with pytest.raises(UsageError, match=r"boa_offset_applied is perhaps, expected true or false"):
        offset_of(boa_offset_applied="perhaps")


def test_each_date_has_its_own_offset() -> None:
    assert offset_of(processing_baseline=np.array(["03.01", "03.01", "04.00", "05.09"])) == [0, 0, -1000, -1000]
    assert offset_of(processing_baseline="04.00", boa_offset_applied=np.array([True, False, True, False])) == [
        0,
        -1000,
        0,
        -1000,
    ]
    assert offset_of(processing_baseline=np.array([np.nan, np.nan, 4.0, 5.0])) == [0, 0, -1000, -1000]
    with pytest.raises(UsageError, match="has 3 values, expected one or one per date"):
        offset_of(processing_baseline=[3.0, 4.0, 4.0])


def test_a_products_name_has_its_baseline() -> None:
    name = "S2A_MSIL2A_20220501T103031_N0{}_R108_T31UDS_20220501T164411"
    assert offset_of(product_id=name.format(400)) == [-1000] * 4
    names = np.array([name.format(301), name.format(301), name.format(400), name.format(510)], object)
    assert offset_of(**{"s2:product_uri": names}) == [0, 0, -1000, -1000]
    with pytest.raises(UsageError, match=r"processing_baseline says 3.01, title says 4: remove the wrong one"):
        offset_of(processing_baseline="03.01", title=name.format(400))


def test_a_given_offset_is_used() -> None:
    assert offset_of(BOA_ADD_OFFSET=-1000) == [-1000] * 4
    assert offset_of(BOA_ADD_OFFSET=[-1000] * 13) == [-1000] * 4
    assert offset_of(boa_add_offset="0", processing_baseline="04.00") == [0] * 4
    assert offset_of(stated=-1000.0) == [-1000] * 4
    with pytest.raises(UsageError, match="BOA_ADD_OFFSET is 1000, expected -1000 or 0"):
        offset_of(BOA_ADD_OFFSET=1000)


def test_recent_dates_without_metadata_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 date\(s\) from 2022-01-25 .*processing_baseline .*or boa_offset_applied"):
        offset_of(title="a cube", processing_version="1.4.2")
    assert offset_of(OLD_AND_NEW[:2]) == [0, 0]
    assert product_offset(offset_metadata([], 4, ""), SENTINEL_1, OLD_AND_NEW, "").tolist() == [0] * 4


# In a cube


def numbers(make_s2: Callable, offset: int, start: str = "2022-03-01") -> xr.Dataset:
    data = make_s2()
    data = data.assign_coords(time=data.time - data.time[0] + np.datetime64(start, "ns"))
    for name in BANDS:
        data[name] = (data[name] * 10_000).round().astype(np.uint16) + np.uint16(offset)
    return data


def red(data: xr.Dataset) -> float:
    cube = Cube.open(data)
    return round(float(np.nanmedian(cube.reference.read(cube.whole).values[:, 2])), 3)


@pytest.mark.parametrize(
    ("coordinates", "offset"),
    [
        ({"s2:processing_baseline": ("time", ["04.00"] * 4)}, 1000),
        ({"s2:processing_baseline": "04.00"}, 1000),
        ({"processing:version": ("time", ["05.09"] * 4)}, 1000),
        ({"processing_baseline": "04.00", "earthsearch:boa_offset_applied": ("time", [True] * 4)}, 0),
        ({"processing_baseline": "04.00", "boa_offset_applied": ("time", [1] * 4)}, 0),
        ({"processing_baseline": "04.00", "boa_offset_applied": "False"}, 1000),
    ],
)
def test_metadata_in_coordinates_and_scalars_of_a_cube(
    make_s2: Callable, coordinates: dict[str, Any], offset: int
) -> None:
    assert red(numbers(make_s2, offset).assign_coords(coordinates)) == 0.17


def test_metadata_in_attributes_and_encoding(make_s2: Callable) -> None:
    assert red(numbers(make_s2, 1000).assign_attrs({"PROCESSING_BASELINE": "N0509"})) == 0.17
    on_band = numbers(make_s2, 1000)
    for name in BANDS:
        on_band[name].attrs["add_offset"] = -1000
    assert red(on_band) == 0.17
    in_units = numbers(make_s2, 1000)
    for name in BANDS:
        in_units[name].attrs.update({"raster:scale": 1e-4, "raster:offset": -0.1})
    assert red(in_units) == 0.17


def test_a_cube_without_metadata_is_accepted_after_following_the_advice(make_s2: Callable) -> None:
    silent = numbers(make_s2, 1000)
    with pytest.raises(UsageError, match=r"nothing says whether the 1000"):
        Cube.open(silent)
    assert red(silent.assign_attrs(processing_baseline="04.00")) == 0.17
    assert red(silent.assign_attrs(boa_offset_applied=0)) == 0.17
    assert red(numbers(make_s2, 0).assign_attrs(boa_offset_applied=1)) == 0.17
    assert red(numbers(make_s2, 0, "2021-03-01")) == 0.17


def test_a_scaling_and_a_flag_that_contradict_each_other_are_refused(make_s2: Callable) -> None:
    data = numbers(make_s2, 1000)
    for name in BANDS:
        data[name].attrs.update(scale_factor=1e-4, add_offset=-0.1)
    assert red(data.assign_attrs(processing_baseline="04.00")) == 0.17
    with pytest.raises(UsageError, match=r"add_offset -0.1 says .* still in the numbers, boa_offset_applied that"):
        Cube.open(data.assign_attrs(boa_offset_applied=1))
    for name in BANDS:
        data[name].attrs.update(add_offset=0.0)
    with pytest.raises(UsageError, match=r"processing baseline 04.00 in the numbers: write boa_offset_applied"):
        Cube.open(data.assign_attrs(processing_baseline="04.00"))
    assert red(data.assign_attrs(processing_baseline="04.00", boa_offset_applied=0)) == 0.17


@pytest.mark.parametrize(("shift", "looks"), [(0.1, "looks still in them"), (-0.1, "looks removed twice")])
def test_values_shifted_by_the_offset_cause_a_warning(make_s2: Callable, shift: float, looks: str) -> None:
    data = make_s2()
    for index, name in enumerate(BANDS):
        data[name] = 0.02 + 0.01 * index + (data[name] - 0.05 * (index + 1))
    with pytest.warns(DataWarning, match=looks):
        Cube.open(data + xr.Dataset({name: shift for name in BANDS} | {"SCL": 0}))


def test_sand_and_snow_cause_no_warning(make_s2: Callable, recwarn: pytest.WarningsRecorder) -> None:
    spectra = {
        "sand": [0.12, 0.2, 0.28, 0.32, 0.35, 0.37, 0.39, 0.4, 0.5, 0.48],
        "snow": [0.8, 0.8, 0.8, 0.8, 0.78, 0.75, 0.7, 0.68, 0.1, 0.1],
    }
    for levels in spectra.values():
        data = make_s2()
        for level, name in zip(levels, BANDS, strict=True):
            data[name] = level + (data[name] - data[name].min())
        Cube.open(data)
    assert not [warning for warning in recwarn if issubclass(warning.category, DataWarning)]
