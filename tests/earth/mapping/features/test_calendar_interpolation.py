"""Embeddings on a calendar, and the features of a map."""

import numpy as np
import pytest
import xarray as xr

from mapping_scenes import mapping_scene
from thalweg.earth.mapping.features.calendar_dataset import on_calendar
from thalweg.earth.mapping.features.calendar_interpolation import CalendarInterpolation, store_calendar
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    return mapping_scene()


def test_a_calendar_spans_the_dates_of_the_store(scene: xr.Dataset) -> None:
    days = store_calendar(scene, "P30D")
    assert [str(day) for day in days[:2]] == ["2018-03-01", "2018-03-31"]
    assert len(store_calendar(scene)) == 12
    assert [str(day) for day in store_calendar(scene, "2018-04-01/2018-05-01/P15D")] == [
        "2018-04-01",
        "2018-04-16",
        "2018-05-01",
    ]
    for wrong in ("P0D", "often", "2018-04-01/2018-05-01"):
        with pytest.raises(UsageError, match="calendar"):
            store_calendar(scene, wrong)
    with pytest.raises(UsageError, match=r"calendar 2017-01-01 to .*: the store has dates from 2018-03-01"):
        store_calendar(scene, "2017-01-01/2018-05-01/P15D")


def test_gaps_are_filled_and_uncertain_dates_count_less(scene: xr.Dataset) -> None:
    found = scene.thalweg.calendar("P15D")
    assert found.embeddings.dims == ("time", "embedding", "y", "x")
    assert np.isfinite(found.embeddings.values).all()
    assert found.attrs == scene.thalweg.calendar("P15D").attrs
    truth = mapping_scene(seed=0)
    known = np.isfinite(truth.embeddings.values)
    difference = np.abs(found.embeddings.values - truth.embeddings.values)[known]
    assert np.median(difference) < 0.2

    one = scene.isel(y=[0], x=[0], time=slice(0, 3)).copy(deep=True)
    one.embeddings.values[:, :, 0, 0] = np.array([0.0, 5.0, 0.0])[:, None]
    one["time"] = np.array(["2018-05-01", "2018-05-02", "2018-05-03"], "datetime64[ns]")
    one.uncertainty.values[:] = 0.1
    one.uncertainty.values[1] = 10
    days = np.array(["2018-05-02"], "datetime64[D]")
    zeros = np.zeros(4, np.float32)
    prepared = CalendarInterpolation.of(one, days)
    plain = CalendarInterpolation(days, prepared.kernel, prepared.distances, zeros, zeros)
    assert np.abs(plain.read(one)[0]).max() < 0.01


def test_uncertainty_grows_with_the_gap(scene: xr.Dataset) -> None:
    gap = scene.copy(deep=True)
    gap.embeddings.values[4:8, :, :10] = np.nan
    widths = on_calendar(gap, "P15D").uncertainty.values
    assert (widths[5:7, :, :10].mean((0, 2, 3)) > 1.2 * widths[5:7, :, 20:].mean((0, 2, 3))).all()
    assert (widths > 0).all()


def test_pixels_without_any_embedding_stay_missing(scene: xr.Dataset) -> None:
    never = scene.copy(deep=True)
    never.embeddings.values[:, :, 2, 3] = np.nan
    values = on_calendar(never, "P30D").embeddings.values
    assert np.isnan(values[:, :, 2, 3]).all()
    assert np.isfinite(np.delete(values.reshape(*values.shape[:2], -1), 2 * 48 + 3, axis=2)).all()


def test_windows_and_pixels_have_the_same_features(scene: xr.Dataset) -> None:
    for plan in (FeaturePlan.of(scene, "P30D"), FeaturePlan.of(scene, date="2018-04-15")):
        reader = plan.reader(scene)
        window = reader.window(slice(5, 15), slice(20, 40))
        rows, columns = np.array([14, 5, 9, 9]), np.array([39, 20, 21, 30])
        pixels = reader.pixels(rows, columns)
        assert pixels.shape == (4, plan.count)
        np.testing.assert_allclose(pixels, window[rows - 5, columns - 20], rtol=1e-5, atol=1e-6)


def test_one_date_is_taken_as_it_is(scene: xr.Dataset) -> None:
    plan = FeaturePlan.of(scene, date="2018-04-16")
    assert plan.days == ("2018-04-15",)
    found = plan.reader(scene).window(slice(0, 48), slice(0, 48))
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), scene.embeddings.values[3])
    with pytest.raises(UsageError, match="give one of them"):
        FeaturePlan.of(scene, "P30D", "2018-04-15")


def test_a_plan_moves_to_another_year_and_refuses_other_stores(scene: xr.Dataset) -> None:
    plan = FeaturePlan.of(scene, "P30D")
    later = mapping_scene(dates=14, start="2020-02-20")
    moved = plan.shifted_to(later)
    assert moved.days[0] == "2020-03-01" and len(moved.days) == len(plan.days)
    assert plan.shifted_to(scene) == plan
    with pytest.raises(UsageError, match=r"needs 03-01 to .*, the store has 2020-06-01"):
        plan.shifted_to(mapping_scene(dates=4, start="2020-06-01"))
    with pytest.raises(UsageError, match="the store is of other, the mapping model learned from scene"):
        plan.shifted_to(scene.assign_attrs({"thalweg:model": "other"}))
    with pytest.raises(UsageError, match=r"the store has 2 dimensions, the mapping model learned from 4"):
        plan.shifted_to(scene.isel(embedding=[0, 1]))
