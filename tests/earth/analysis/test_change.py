"""Change between two periods: calibrated where nothing changed, found where something did, refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from embedding_scenes import two_summers
from thalweg.earth.analysis import noise
from thalweg.earth.analysis.change import change, false_discovery_rates
from thalweg.earth.analysis.noise import noise_windows
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.result_folders import write_change
from thalweg.errors import UsageError


def compared(data: xr.Dataset, model: EarthModel) -> xr.Dataset:
    return change(data, "2018-07", "2019-07", model)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_p_values_of_unchanged_pixels_are_uniform(correlation: float, model: EarthModel) -> None:
    results = [compared(two_summers(model.identifier, seed, correlation=correlation), model) for seed in range(3)]
    p_values = np.concatenate([result.p_value.values.ravel() for result in results])
    p_values = p_values[np.isfinite(p_values)]
    assert len(p_values) > 0.95 * 3 * 40**2
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (p_values <= level).mean() < 1.25 * level + 0.01, level
    assert (p_values <= 0.5).mean() > (0.35 if correlation == 0 else 0.1)  # correlated dates: conservative
    assert sum(result.attrs["changed_pixels"] for result in results) <= 0.002 * len(p_values)


def test_a_changed_field_is_found_and_false_discoveries_are_few(model: EarthModel) -> None:
    false, found = 0, 0
    for seed in range(3):
        data = two_summers(model.identifier, seed)
        data.embeddings.values[6:, :2, 5:17, 20:33] += 2.0
        result = compared(data, model)
        changed = np.zeros((40, 40), bool)
        changed[5:17, 20:33] = True
        significant = result.significant.values == 1
        assert significant[changed].mean() > 0.85
        false, found = false + significant[~changed].sum(), found + significant.sum()
        assert result.attrs["changed_pixels"] == significant.sum()
        assert result.attrs["changed_area_ha"] == pytest.approx(significant.sum() / 100)
    assert false / found <= 0.07


def test_what_all_pixels_share_is_no_change(model: EarthModel) -> None:
    data = two_summers(model.identifier)
    shifted = data.copy(deep=True)
    shifted.embeddings.values[6:] += 3.0
    np.testing.assert_allclose(compared(shifted, model).magnitude, compared(data, model).magnitude, rtol=2e-3)


def test_of_a_difference_of_all_pixels_the_nearest_quarter_is_no_change(model: EarthModel) -> None:
    data = two_summers(model.identifier, dates=8, clouds=0.0)
    haze = 4 * np.random.default_rng(5).normal(size=(7, 40, 40))
    data.embeddings.values[:8] += haze  # a change of the processing between the years: every pixel differs in its way
    result = compared(data, model)
    assert result.attrs["noise_excess"] > 1
    assert result.attrs["changed_pixels"] < 0.75 * result.attrs["compared_pixels"]


def test_more_dates_make_the_same_difference_more_significant(model: EarthModel) -> None:
    data = two_summers(model.identifier, dates=8, clouds=0.0)
    data.embeddings.values[8:, 0, 10:20, 10:20] += 0.6
    month = compared(data, model).magnitude.values[10:20, 10:20].mean()
    date = change(data, "2018-07-07", "2019-07-07", model).magnitude.values[10:20, 10:20].mean()
    assert month > 1.3 * date


def test_blocks_do_not_change_the_result(model: EarthModel) -> None:
    data = two_summers(model.identifier)
    whole = compared(data, model)
    data.embeddings.encoding["preferred_chunks"] = {"y": 16, "x": 16}
    calls: list[tuple[int, int]] = []
    parts = change(data, "2018-07", "2019-07", model, progress=lambda *at: calls.append(at))
    assert calls[-1] == (9, 9)
    xr.testing.assert_allclose(parts, whole, rtol=1e-4)


def test_the_decoded_change_is_that_of_the_means(model: EarthModel) -> None:
    data = two_summers(model.identifier, clouds=0.0)
    result = compared(data, model)
    assert "lai_change" not in result  # this model was trained without it
    same = data.copy(deep=True)
    same.embeddings.values[6:] = same.embeddings.values[:6]
    assert np.abs(compared(same, model).NDVI_change).max() < 1e-5
    assert float(np.abs(result.NDVI_change).mean()) > 1e-4


def test_a_pixel_that_one_period_does_not_show_has_no_value(model: EarthModel) -> None:
    data = two_summers(model.identifier)
    for name in ("embeddings", "uncertainty"):
        data[name].values[6:, :, 3, 4] = np.nan
    result = compared(data, model)
    assert all(np.isnan(result[name].values[3, 4]) for name in result.data_vars)
    assert result.attrs["compared_pixels"] == np.isfinite(result.p_value.values).sum()


def test_the_folder_holds_every_variable_and_a_figure(model: EarthModel, tmp_path: Path) -> None:
    result = compared(two_summers(model.identifier), model)
    out = write_change(result, tmp_path / "out")
    assert sorted(entry.name for entry in out.iterdir()) == ["change.png", "change.tif", "summary.json"]
    with rasterio.open(out / "change.tif") as file:
        assert file.descriptions == ("magnitude", "p_value", "q_value", "significant", "NDVI_change")
        np.testing.assert_array_equal(file.read(1), result.magnitude.values)
        assert file.transform.c == 500_000
        assert file.tags()["before"] == "2018-07"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("July", "2019-07", "period 'July': expected a date 2018-07-05, a month 2018-07, or a range"),
        ("2018-13", "2019-07", "period '2018-13': expected a date"),
        ("2018-07/2018-06", "2019-07", "expected a range whose end is not before its start"),
        ("2018-07", "2018-07", "2018-07 and 2018-07 share days: expected two separate periods"),
        ("2018-07", "2018-07-31/2019-07", "share days"),
        ("2019-07", "2018-07", "2019-07 is after 2018-07: expected the earlier period first"),
        ("2018-03", "2019-07", "no date of this store lies in 2018-03: its dates are from 2018-07-01 to 2019-07-26"),
        ("2018-06-02", "2019-07", "no embedding within 3 days of 2018-06-02"),
        ("2018-07-06", "2018-07-07", "2018-07-06 and 2018-07-07 both stand for 2018-07-06"),
    ],
)
def test_impossible_periods_raise_one_line_error(before: str, after: str, words: str, model: EarthModel) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        change(two_summers(model.identifier, side=16), before, after, model)
    assert "\n" not in str(caught.value)


def test_dates_without_pixels_in_common_or_noise_raise_one_line_error(model: EarthModel) -> None:
    data = two_summers(model.identifier, side=16)
    apart = data.copy(deep=True)
    apart.embeddings.values[:6, :, :8] = np.nan
    apart.embeddings.values[6:, :, 8:] = np.nan
    with pytest.raises(UsageError, match="no sampled pixel has an embedding in both 2018-07 and 2019-07"):
        compared(apart, model)
    with pytest.raises(UsageError, match=r"0 sampled pixel.* expected at least 50 to measure the noise"):
        compared(thin(data), model)
    with pytest.raises(
        UsageError, match=r"2018-07: 2 usable date\(s\) within the 31 days around it, expected at least 3"
    ):
        compared(data.isel(time=[0, 3, 6, 8, 10]), model)
    cloudy = data.copy(deep=True)
    cloudy.embeddings.values[6:, :, 1:] = np.nan
    with pytest.raises(UsageError, match=r"2019-07: its 6 date\(s\) show less than 10% of the pixels"):
        compared(cloudy, model)
    with pytest.raises(UsageError, match="level 2: expected a false discovery rate between 0 and 1"):
        change(data, "2018-07", "2019-07", model, level=2)
    with pytest.raises(UsageError, match="embed the cube again with this model"):
        change(data.assign_attrs({"thalweg:model": "another"}), "2018-07", "2019-07", model)


def thin(data: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose pixels have an embedding on one date of each period only, a third of them on each."""
    thinned = data.isel(time=[0, 2, 4, 6, 8, 10]).copy(deep=True)
    for date in range(6):
        hidden = np.arange(thinned.sizes["x"]) % 3 != date % 3
        thinned.embeddings.values[date][..., hidden] = np.nan
    return thinned


def test_false_discovery_rates_are_those_of_the_definition() -> None:
    p_values = np.array([0.01, 0.9, 0.04, 0.03, 0.002])
    np.testing.assert_allclose(false_discovery_rates(p_values), [0.025, 0.9, 0.05, 0.05, 0.01])


def test_windows_of_noise_surround_a_date_and_divide_a_season() -> None:
    days = np.datetime64("2018-06-01") + np.arange(0, 120, 10) * np.timedelta64(1, "D")
    (around,) = noise_windows(days, np.array([4]))
    assert around.tolist() == [3, 4, 5]
    season = noise_windows(days, np.arange(12))
    assert np.concatenate(season).tolist() == list(range(12))
    assert all(days[window[-1]] - days[window[0]] < np.timedelta64(noise.WINDOW_DAYS, "D") for window in season)
