"""Encoder: dense by construction, independent of masked values, defined everywhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.model.context import (
    HALO,
    RECEPTIVE_FIELD,
    SensorContext,
    conditional_fill,
    days_since_epoch,
    sensor_context,
)
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.encoder import GAP_DAYS, MAX_DAYS, WIDTH, DateAttention, neighbouring_dates, support_size
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.earth.sensors import SENTINEL_2

SENSORS = ("sentinel-2", "sentinel-1")


@pytest.fixture(scope="module")
def centre_days(cube: Cube) -> torch.Tensor:
    return torch.from_numpy(days_since_epoch(cube.reference.dates[cube.eligible()])[1:6:2]).float()


def encode(model: EarthModel, name: str, context: SensorContext, days: torch.Tensor, stride: int = 1) -> Encoding:
    with torch.no_grad():
        return model.autoencoder(name).encoder(context, days, stride)


def assert_same_encoding(one: Encoding, other: Encoding, tolerance: float) -> None:
    for field in ("values", "support", "observed"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", SENSORS)
def test_dense_equals_patch_by_patch(name: str, cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    series = cube.series[name]
    dense = encode(model, name, sensor_context(series, cube.whole.grown(HALO)), centre_days)
    assert dense.values.shape == (3, series.sensor.encoding_size, 32, 32)
    assert dense.values.std() > 0.1
    for row, column in [(0, 0), (0, 31), (31, 0), (31, 31), (3, 3), (16, 16), (7, 25), (22, 9), (2, 13), (30, 20)]:
        patch = Window(row - HALO, column - HALO, RECEPTIVE_FIELD, RECEPTIVE_FIELD)
        single = encode(model, name, sensor_context(series, patch), centre_days)
        assert single.values.shape[-2:] == (1, 1)
        here = Encoding(
            *(getattr(dense, f)[..., row : row + 1, column : column + 1] for f in ("values", "support", "observed"))
        )
        assert_same_encoding(single, here, 1e-5)


@pytest.mark.parametrize("stride", [2, 5])
@pytest.mark.parametrize("name", SENSORS)
def test_a_stride_gives_every_so_many_pixels(
    name: str, stride: int, cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    context = sensor_context(cube.series[name], cube.whole.grown(HALO))
    dense = encode(model, name, context, centre_days)
    expected = Encoding(*(part[..., ::stride, ::stride] for part in (dense.values, dense.support, dense.observed)))
    sparse = encode(model, name, context, centre_days, stride)
    assert sparse.values.shape[-2:] == (-(-32 // stride), -(-32 // stride))
    assert_same_encoding(sparse, expected, 1e-5)


def test_a_series_without_dates_is_not_observed(cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    empty = context.select(torch.zeros(len(context.days), dtype=torch.bool))
    for stride in (1, 3):
        encoding = encode(model, "sentinel-2", empty, centre_days, stride)
        expected = encode(
            model, "sentinel-2", context.mask(torch.ones(len(context.days), dtype=torch.bool)), centre_days, stride
        )
        assert encoding.support.shape[1] == support_size(SENTINEL_2)
        assert_same_encoding(encoding, expected, 1e-9)
        assert not encoding.observed.any() and not encoding.values.any()


@pytest.mark.parametrize("name", SENSORS)
def test_every_pixel_is_finite(name: str, cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    context = sensor_context(cube.series[name], cube.whole.grown(HALO))
    assert torch.isfinite(encode(model, name, context, centre_days).values).all()
    empty = context.mask(torch.ones(len(context.days), dtype=torch.bool))
    masked = encode(model, name, empty, centre_days)
    assert torch.isfinite(masked.values).all()
    assert not masked.observed.any()


@pytest.mark.parametrize("name", SENSORS)
def test_values_under_the_mask_have_no_influence(
    name: str, cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    context = sensor_context(cube.series[name], cube.whole.grown(HALO))
    context = context.mask(torch.arange(len(context.days)) % 3 == 0)
    assert 0 < context.valid.mean() < 1
    garbage = torch.rand(context.values.shape, generator=torch.Generator().manual_seed(0)) * 100
    dirty = replace(context, values=torch.where(context.valid > 0, context.values, garbage))
    assert_same_encoding(encode(model, name, dirty, centre_days), encode(model, name, context, centre_days), 0.0)


def test_values_under_clouds_have_no_influence(
    datasets: dict[str, xr.Dataset], model: EarthModel, centre_days: torch.Tensor
) -> None:
    changed = datasets["sentinel-2"].copy(deep=True)
    clouded = ~np.isin(changed["SCL"].values, (4, 5, 6, 7))
    assert clouded.any()
    for band in SENTINEL_2.band_names:
        changed[band].values[clouded] = 1234
    encodings = []
    for data in (datasets["sentinel-2"], changed):
        cube = Cube.open(data)
        context = sensor_context(cube.reference, cube.whole.grown(HALO))
        encodings.append(encode(model, "sentinel-2", context, centre_days))
    assert_same_encoding(*encodings, 0.0)


@pytest.mark.parametrize("name", SENSORS)
def test_a_masked_date_equals_an_absent_one(
    name: str, cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    context = sensor_context(cube.series[name], cube.whole.grown(HALO))
    masked = torch.arange(len(context.days)) % 2 == 0
    without = encode(model, name, context.select(~masked), centre_days)
    assert_same_encoding(encode(model, name, context.mask(masked), centre_days), without, 1e-4)
    full = encode(model, name, context, centre_days)
    assert (full.values - without.values).abs().max() > 0.01


def test_the_order_of_dates_does_not_matter(cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    order = torch.randperm(len(context.days), generator=torch.Generator().manual_seed(0))
    assert_same_encoding(
        encode(model, "sentinel-2", context.select(order), centre_days),
        encode(model, "sentinel-2", context, centre_days),
        1e-6,
    )


def test_centre_dates_do_not_influence_each_other(cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    together = encode(model, "sentinel-2", context, centre_days)
    alone = encode(model, "sentinel-2", context, centre_days[1:2])
    torch.testing.assert_close(alone.values, together.values[1:2], atol=1e-5, rtol=0)


def test_only_pixels_within_the_receptive_field_contribute(
    cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    changed = replace(context, values=context.values.clone())
    changed.values[..., HALO + 16, HALO + 16] += 0.3 * context.valid[:, :, HALO + 16, HALO + 16]
    change = (
        encode(model, "sentinel-2", changed, centre_days).values
        - encode(model, "sentinel-2", context, centre_days).values
    ).abs().amax((0, 1))  # fmt: skip
    rows, columns = (torch.arange(32) - 16).abs()[:, None], (torch.arange(32) - 16).abs()[None]
    assert (change[torch.maximum(rows, columns) > HALO] == 0).all()
    assert change[16, 16] > 0.01


def test_encoding_is_deterministic(cube: Cube, model: EarthModel, centre_days: torch.Tensor) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    first, second = (encode(model, "sentinel-2", context, centre_days).values for _ in range(2))
    assert torch.equal(first, second)


def test_values_of_an_absent_band_have_no_influence(
    datasets: dict[str, xr.Dataset], cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    lacking = Cube.open(datasets["sentinel-2"].drop_vars(["B05", "B11"]))
    window = lacking.whole.grown(HALO)
    context = sensor_context(lacking.reference, window)
    assert not context.present[[3, 8]].any()
    expected = encode(model, "sentinel-2", context, centre_days)
    assert torch.isfinite(expected.values).all()
    whole = sensor_context(cube.reference, window)
    masked = replace(whole, present=context.present)  # the bands' true values are there, but declared absent
    torch.testing.assert_close(
        encode(model, "sentinel-2", masked, centre_days).values, expected.values, atol=1e-5, rtol=0
    )


def test_absent_bands_are_filled_from_the_others(
    datasets: dict[str, xr.Dataset], cube: Cube, model: EarthModel, centre_days: torch.Tensor
) -> None:
    lacking = Cube.open(datasets["sentinel-2"].drop_vars(["B05", "B11"]))
    window = lacking.whole.grown(HALO)
    encoder = model.autoencoder("sentinel-2").encoder
    whole = sensor_context(cube.reference, window)
    with torch.no_grad():
        truth = encoder.complete(whole)
        filled = encoder.complete(sensor_context(lacking.reference, window))
    clear = whole.valid[:, 0] > 0
    for band in (3, 8):
        error = (filled - truth)[:, band][clear].square().mean()
        assert error < 0.2 * truth[:, band][clear].square().mean()
    torch.testing.assert_close(filled[:, [0, 1, 2, 4]], truth[:, [0, 1, 2, 4]])


def series(valid: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A pixel of two bands on days 0, 10, 20, 30 and 40, valid on some of them."""
    mask = torch.tensor(valid, dtype=torch.float32)[None]
    values = torch.tensor([[1.0, -1.0], [2.0, 5.0], [4.0, 3.0], [8.0, 0.5], [16.0, 7.0]])[None] * mask[..., None]
    return values, mask, torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0])


FULL = series([1, 1, 1, 1, 1])[0][0]


@pytest.mark.parametrize(
    ("valid", "day", "observed", "before", "after"),
    [
        ([1, 1, 1, 1, 1], 20.0, True, 1, 3),
        ([1, 0, 1, 0, 1], 20.0, True, 0, 4),
        ([1, 1, 0, 1, 1], 20.0, False, 1, 3),
        ([1, 0, 0, 0, 1], 20.0, False, 0, 4),
        ([1, 1, 0, 0, 1], 25.0, False, 1, 4),
        ([1, 1, 1, 1, 1], 0.0, True, None, 1),
        ([1, 1, 1, 1, 1], 40.0, True, 3, None),
        ([0, 0, 0, 1, 1], 10.0, False, None, 3),
        ([1, 1, 0, 0, 0], 30.0, False, 1, None),
        ([1, 1, 1, 1, 1], 90.0, False, 4, None),
        ([1, 1, 1, 1, 1], -50.0, False, None, 0),
        ([0, 0, 1, 0, 0], 20.0, True, None, None),
        ([0, 0, 0, 0, 0], 20.0, False, None, None),
    ],
)
def test_the_valid_dates_next_to_a_centre_date(
    valid: list[int], day: float, observed: bool, before: int | None, after: int | None
) -> None:
    values, mask, days = series(valid)
    near = neighbouring_dates(values, mask, days, torch.tensor([day]))
    nothing = torch.zeros(2)
    earlier = FULL[before] if before is not None else FULL[after] if after is not None else nothing
    later = FULL[after] if after is not None else earlier
    share = (day - days[before]) / (days[after] - days[before]) if None not in (before, after) else 0.5
    centre = FULL[int((days - day).abs().argmin())] if observed else nothing
    gaps = [0.0 if i is None else float(torch.exp(-(days[i] - day).abs() / GAP_DAYS)) for i in (before, after)]
    interpolated = earlier + share * (later - earlier)
    assert near.observed.item() == observed
    torch.testing.assert_close(near.centre[0, 0], centre)
    torch.testing.assert_close(near.before[0, 0], earlier)
    torch.testing.assert_close(near.after[0, 0], later)
    torch.testing.assert_close(near.interpolated[0, 0], interpolated)
    torch.testing.assert_close(near.closeness[0, 0], torch.tensor(gaps))
    torch.testing.assert_close(near.direct[0, 0], centre if observed else interpolated)


def test_overpasses_of_one_day_are_averaged_where_they_are_valid() -> None:
    days = torch.tensor([0.0, 20.0, 20.2, 40.0])
    values = torch.tensor([[[1.0], [2.0], [6.0], [9.0]], [[1.0], [0.0], [6.0], [9.0]]])
    valid = torch.tensor([[1.0, 1, 1, 1], [1.0, 0, 1, 1]])
    near = neighbouring_dates(values, valid, days, torch.tensor([20.0, 40.0]))
    torch.testing.assert_close(near.centre[..., 0], torch.tensor([[4.0, 9.0], [6.0, 9.0]]))
    torch.testing.assert_close(near.before[..., 0], torch.tensor([[1.0, 6.0], [1.0, 6.0]]))


def test_pixels_and_centre_dates_are_looked_up_on_their_own() -> None:
    parts = [series(valid) for valid in ([1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0])]
    values, valid = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    days, centre_days = parts[0][2], torch.tensor([35.0, 10.0, 20.0])
    together = neighbouring_dates(values, valid, days, centre_days)
    for pixel in range(3):
        for date in range(3):
            alone = neighbouring_dates(values[[pixel]], valid[[pixel]], days, centre_days[[date]])
            for field in ("centre", "observed", "before", "after", "interpolated", "closeness"):
                torch.testing.assert_close(getattr(together, field)[pixel, date], getattr(alone, field)[0, 0])


def test_a_series_without_dates_has_no_neighbours() -> None:
    day = torch.tensor([20.0])
    only = neighbouring_dates(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.tensor([20.0]), day)
    assert not only.observed.any() and not only.direct.any() and not only.closeness.any()


def test_attention_ignores_masked_and_distant_dates() -> None:
    torch.manual_seed(0)
    attention = DateAttention().eval().requires_grad_(False)
    state, keys, values = torch.randn(2, 1, WIDTH), torch.randn(2, 4, WIDTH), torch.randn(2, 4, WIDTH)
    days, centre = torch.tensor([0.0, 40.0, 50.0, 101.0 + MAX_DAYS]), torch.tensor([100.0])
    valid = torch.tensor([[True, True, False, True], [True, True, False, True]])
    expected = attention(state, keys, values, valid, days, centre)

    def changed(date: int) -> torch.Tensor:
        others = [part.clone() for part in (keys, values)]
        for part in others:
            part[:, date] = 3 * torch.randn(2, WIDTH)
        return attention(state, *others, valid, days, centre)

    assert torch.equal(changed(2), expected)
    assert torch.equal(changed(3), expected)
    assert (changed(0) - expected).abs().amax((1, 2)).min() > 1e-3
    nothing = attention(state, keys, values, torch.zeros_like(valid), days, centre)
    assert torch.isfinite(nothing).all()
    none = torch.zeros(2, 0, WIDTH)
    torch.testing.assert_close(nothing, attention(state, none, none, valid[:, :0], days[:0], centre))


def test_attention_depends_on_time_differences_only() -> None:
    torch.manual_seed(0)
    attention = DateAttention().eval().requires_grad_(False)
    state, keys, values = torch.randn(2, 1, WIDTH), torch.randn(2, 3, WIDTH), torch.randn(2, 3, WIDTH)
    days, centre, valid = torch.tensor([0.0, 40.0, 60.0]), torch.tensor([50.0]), torch.ones(2, 3, dtype=torch.bool)
    expected = attention(state, keys, values, valid, days, centre)
    shifted = attention(state, keys, values, valid, days + 700, centre + 700)
    torch.testing.assert_close(shifted, expected, atol=1e-3, rtol=0)
    mirrored = attention(state, keys, values, valid, 2 * centre - days, centre)
    assert (mirrored - expected).abs().max() > 1e-2  # before and after are distinguished


@pytest.mark.parametrize("name", SENSORS)
def test_the_pixel_on_the_centre_date_is_encoded_as_measured(
    name: str, cube: Cube, fitted_folder: Path, centre_days: torch.Tensor
) -> None:
    """Without training the network corrects nothing."""
    model = EarthModel.load(fitted_folder)
    encoder = model.autoencoder(name).encoder
    context = sensor_context(cube.series[name], cube.whole.grown(HALO))
    days = context.days[context.valid.flatten(1).any(1)][2:8:2]
    bands = len(encoder.sensor.bands)
    standardised = encoder.complete(context)[..., HALO:-HALO, HALO:-HALO]
    valid = context.valid[:, 0, HALO:-HALO, HALO:-HALO] > 0
    state = encode(model, name, context, days).values[:, -bands:]
    for index, day in enumerate(days):
        (date,) = ((context.days - day).abs() < 0.5).nonzero()[:, 0]
        seen = valid[date]
        assert seen.any()
        torch.testing.assert_close(state[index][:, seen], standardised[date][:, seen], atol=1e-5, rtol=0)
    hidden = ((context.days[:, None] - days).abs() < 0.5).any(1)
    interpolated = encode(model, name, context.mask(hidden), days).values[:, -bands:]
    usable = valid & ~hidden[:, None, None]
    for row, column in [(5, 5), (16, 20), (31, 31), (9, 27)]:
        dates = usable[:, row, column].nonzero()[:, 0]
        for band in range(bands):
            expected = np.interp(days, context.days[dates], standardised[dates, band, row, column])
            np.testing.assert_allclose(interpolated[:, band, row, column], expected, atol=1e-4)
    assert (interpolated - state).abs().max() > 0.05


def test_conditional_fill_is_the_gaussian_conditional_mean() -> None:
    mean = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    covariance = torch.tensor([[2.0, 0.8, 0.1], [0.8, 1.0, 0.3], [0.1, 0.3, 1.5]], dtype=torch.float64)
    present = torch.tensor([True, False, True])
    matrix, offset = conditional_fill(mean, covariance, present, ridge=0.0)
    seen = torch.tensor([1.7, 0.0, 2.1], dtype=torch.float64)
    completed = matrix @ seen + offset
    known = covariance[present][:, present]
    expected = 2.0 + covariance[1][present] @ torch.linalg.inv(known) @ (seen - mean)[present]
    torch.testing.assert_close(completed[1], expected)
    torch.testing.assert_close(completed[[0, 2]], seen[[0, 2]])
    matrix, offset = conditional_fill(mean, covariance, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(matrix @ torch.zeros_like(mean) + offset, mean)


def test_a_context_is_zero_where_it_is_invalid(cube: Cube) -> None:
    context = sensor_context(cube.reference, cube.whole.grown(HALO))
    assert context.values.shape == (len(cube.reference.dates), 10, 46, 46)
    assert (context.values * (1 - context.valid) == 0).all()
    assert not context.valid[..., :HALO, :].any()
    np.testing.assert_array_equal(
        context.valid[:, 0, HALO:-HALO, HALO:-HALO].numpy() > 0, cube.reference.read(cube.whole).valid
    )


def test_days_are_counted_in_fractions() -> None:
    dates = np.array(["2015-01-01T00:00", "2015-01-02T12:00", "2014-12-31T00:00"], "datetime64[ns]")
    np.testing.assert_allclose(days_since_epoch(dates), [0, 1.5, -1])
