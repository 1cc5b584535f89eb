"""Losses: zero when perfect, independent of masked pixels, differentiable."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError

from thalweg.earth.training.losses import LossWeights, absolute_error, masked_mean, spectral_angle

LOSSES = [absolute_error, spectral_angle]


def sample(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 0.8 + 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_a_perfect_reconstruction_has_no_loss(loss: Callable) -> None:
    target = sample(0, 3, 4, 9, 9)
    assert loss(target, target, torch.ones(3, 1, 9, 9)) == pytest.approx(0, abs=2e-3)
    assert loss(sample(1, 3, 4, 9, 9), target, torch.ones(3, 1, 9, 9)) > 0.05


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_pixels_have_no_influence(loss: Callable) -> None:
    reconstruction, target = sample(0, 2, 4, 9, 9), sample(1, 2, 4, 9, 9)
    weight = (sample(2, 2, 1, 9, 9) > 0.4).float()
    changed = torch.where(weight > 0, reconstruction, sample(3, 2, 4, 9, 9))
    assert not torch.equal(changed, reconstruction)
    torch.testing.assert_close(loss(changed, target, weight), loss(reconstruction, target, weight))
    visible = torch.where(weight > 0, sample(3, 2, 4, 9, 9), reconstruction)
    assert (loss(visible, target, weight) - loss(reconstruction, target, weight)).abs() > 1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_without_valid_pixels_the_loss_is_zero_and_finite(loss: Callable) -> None:
    reconstruction = sample(0, 2, 4, 9, 9).requires_grad_()
    value = loss(reconstruction, sample(1, 2, 4, 9, 9), torch.zeros(2, 1, 9, 9))
    value.backward()
    assert value == 0
    assert torch.isfinite(reconstruction.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_exact(loss: Callable) -> None:
    reconstruction = sample(0, 1, 2, 8, 8, dtype=torch.float64).requires_grad_()
    target = sample(1, 1, 2, 8, 8, dtype=torch.float64)
    weight = (sample(2, 1, 1, 8, 8, dtype=torch.float64) > 0.3).double()
    assert torch.autograd.gradcheck(lambda values: loss(values, target, weight), (reconstruction,))


def test_absolute_error_by_hand() -> None:
    reconstruction, target = torch.tensor([[[[1.0, 5.0]], [[3.0, 5.0]]]]), torch.zeros(1, 2, 1, 2)
    assert absolute_error(reconstruction, target, torch.tensor([[[[1.0, 0.0]]]])) == 2.0
    assert absolute_error(reconstruction, target, torch.tensor([[[[3.0, 1.0]]]])) == pytest.approx((3 * 4 + 10) / 8)


def test_absolute_error_takes_leading_dimensions_and_a_weight_per_band() -> None:
    reconstruction, target = sample(0, 2, 3, 4, 5, 5), sample(1, 2, 3, 4, 5, 5)
    value = absolute_error(reconstruction, target, torch.ones(2, 3, 4, 5, 5))
    assert value.shape == ()
    torch.testing.assert_close(value, (reconstruction - target).abs().mean())


def test_the_spectral_angle_is_the_angle() -> None:
    target = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    other = torch.tensor([1.0, 1.0]).reshape(1, 2, 1, 1)
    weight = torch.ones(1, 1, 1, 1)
    assert spectral_angle(other, target, weight) == pytest.approx(torch.pi / 4, abs=1e-5)
    assert spectral_angle(7 * other, target, weight) == pytest.approx(torch.pi / 4, abs=1e-5)
    assert spectral_angle(sample(0, 2, 3, 4, 5, 5), sample(1, 2, 3, 4, 5, 5), torch.ones(2, 3, 1, 5, 5)).shape == ()


def test_masked_mean_is_a_weighted_mean() -> None:
    assert masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 3.0, 0.0])) == 1.75


def test_loss_weights_are_the_papers_and_refuse_nonsense() -> None:
    weights = LossWeights()
    assert (weights.absolute_error, weights.spectral_angle) == (0.665, 0.315)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        LossWeights(spectral_angle=-1)
    with pytest.raises(ValidationError, match="Extra inputs"):
        LossWeights(perceptual=1)
