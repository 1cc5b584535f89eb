"""Masked reconstruction losses: absolute error and spectral angle."""

from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.autoencoder import Autoencoder

if TYPE_CHECKING:
    from thalweg.earth.training.tiles import Targets

EPS = 1e-6


class LossWeights(Declaration):
    """Weights of the losses; by default those of arXiv 2511.11706 for Sentinel-2 (stage 1), but for its SSIM.

    Structural similarity over a tile would reward smoothness between pixels that are encoded on their own.
    """

    absolute_error: float = Field(default=0.665, ge=0, description="mean absolute error")
    spectral_angle: float = Field(default=0.315, ge=0, description="spectral angle; optical sensors only")


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean (scalar) of values; `weight` is broadcast to their shape."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=EPS)


def absolute_error(reconstruction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean absolute error (scalar).

    Args:
        reconstruction: (..., C, H, W).
        target: (..., C, H, W).
        weight: (..., 1, H, W) or (..., C, H, W).
    """
    return masked_mean((reconstruction - target).abs(), weight)


def spectral_angle(reconstruction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean angle between spectra (scalar, radians).

    Args:
        reconstruction: (..., C, H, W).
        target: (..., C, H, W).
        weight: (..., 1, H, W).
    """
    cosine = F.cosine_similarity(reconstruction, target, dim=-3, eps=EPS).clamp(-1 + EPS, 1 - EPS)
    return masked_mean(cosine.acos(), weight.squeeze(-3))


def reconstruction_loss(
    autoencoder: Autoencoder, encoding: Tensor, targets: "Targets", present: Tensor, weights: LossWeights
) -> Tensor:
    """Return the loss of stage 1 (scalar): the decoded context against its targets.

    Args:
        autoencoder: of the sensor.
        encoding: (Q, E, h, w).
        targets: of the Q centre dates.
        present: (C,), bool, the bands that count.
        weights: of the losses.
    """
    reconstruction = autoencoder.reconstruct(encoding, targets.days)[:, :, present]
    target = targets.values[:, :, present]
    scale = autoencoder.encoder.scale[present][:, None, None]
    loss = weights.absolute_error * absolute_error(reconstruction / scale, target / scale, targets.weight)
    if autoencoder.sensor.units == "reflectance" and int(present.sum()) > 1:
        loss = loss + weights.spectral_angle * spectral_angle(reconstruction, target, targets.weight)
    return loss
