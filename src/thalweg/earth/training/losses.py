"""Masked losses over rebuilt contexts: absolute error, spectral angle and structural similarity."""

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from thalweg.earth.sensors import Declaration


class LossWeights(Declaration):
    """How much each loss counts; the defaults are the paper's for Sentinel-2 (section on stage 1)."""

    absolute_error: float = Field(default=0.665, ge=0, description="mean absolute error")
    spectral_angle: float = Field(default=0.315, ge=0, description="spectral angle; optical sensors only")
    structure: float = Field(default=0.02, ge=0, description="1 - structural similarity over the tile")


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of values; both of any one shape after broadcasting."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def absolute_error(rebuilt: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute error; rebuilt and target (..., C, H, W), weight (..., 1 or C, H, W)."""
    return masked_mean((rebuilt - target).abs(), weight)


def spectral_angle(rebuilt: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean angle (radians) between spectra; (..., C, H, W), weight (..., 1, H, W)."""
    cosine = F.cosine_similarity(rebuilt, target, dim=-3, eps=1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
    return masked_mean(cosine.acos(), weight.squeeze(-3))


def structural_dissimilarity(rebuilt: Tensor, target: Tensor, weight: Tensor, window: int = 7) -> Tensor:
    """1 - SSIM over validity-weighted windows of frames (N, C, H, W) in 0..1, weight (N, 1, H, W)."""
    box_weight = F.avg_pool2d(weight, window, 1)

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values * weight, window, 1) / box_weight.clamp(min=1e-6)

    mean_rebuilt, mean_target = mean(rebuilt), mean(target)
    variance_rebuilt = mean(rebuilt**2) - mean_rebuilt**2
    variance_target = mean(target**2) - mean_target**2
    covariance = mean(rebuilt * target) - mean_rebuilt * mean_target
    # The usual constants of SSIM, (0.01 L)^2 and (0.03 L)^2 with L = 1 (Wang et al. 2004).
    luminance = (2 * mean_rebuilt * mean_target + 1e-4) / (mean_rebuilt**2 + mean_target**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variance_rebuilt + variance_target + 9e-4)
    return masked_mean(1 - luminance * structure, box_weight)
