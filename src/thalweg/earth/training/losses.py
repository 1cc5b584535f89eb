"""Masked reconstruction losses: absolute error, spectral angle and structural similarity."""

from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.autoencoder import Autoencoder

if TYPE_CHECKING:
    from thalweg.earth.training.tiles import Targets

SSIM_WINDOW = 7
"""Width in pixels of the windows of structural similarity."""

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


def structural_dissimilarity(
    reconstruction: Tensor, target: Tensor, weight: Tensor, window: int = SSIM_WINDOW
) -> Tensor:
    """Return 1 - SSIM (scalar) over validity-weighted windows.

    Args:
        reconstruction: (N, C, H, W), in 0..1.
        target: (N, C, H, W), in 0..1.
        weight: (N, 1, H, W).
        window: width of a window in pixels, at most H and W.
    """
    box_weight = F.avg_pool2d(weight, window, 1)

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values * weight, window, 1) / box_weight.clamp(min=EPS)

    mean_own, mean_target = mean(reconstruction), mean(target)
    variance_own = mean(reconstruction**2) - mean_own**2
    variance_target = mean(target**2) - mean_target**2
    covariance = mean(reconstruction * target) - mean_own * mean_target
    # The usual constants of SSIM, (0.01 L)^2 and (0.03 L)^2 with L = 1 (Wang et al. 2004).
    luminance = (2 * mean_own * mean_target + 1e-4) / (mean_own**2 + mean_target**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variance_own + variance_target + 9e-4)
    return masked_mean(1 - luminance * structure, box_weight)


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
