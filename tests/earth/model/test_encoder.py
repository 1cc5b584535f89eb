"""Encoder: dense by construction, independent of masked values, defined everywhere."""

from dataclasses import replace

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
from thalweg.earth.model.encoding import Encoding
from thalweg.earth.sensors import SENTINEL_2

SENSORS = ("sentinel-2", "sentinel-1")


@pytest.fixture(scope="module")
def centre_days(cube: Cube) -> torch.Tensor:
    return torch.from_numpy(days_since_epoch(cube.reference.dates[cube.eligible()])[1:6:2]).float()


def encode(model: EarthModel, name: str, context: SensorContext, days: torch.Tensor) -> Encoding:
    with torch.no_grad():
        return model.autoencoder(name).encoder(context, days)


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
        1e-3,  # sums over dates in float32, in another order
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
