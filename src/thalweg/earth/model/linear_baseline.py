"""Linear baseline: closed-form fits of the linear paths of autoencoders and of the fusion.

Kernel-averaged trajectories and their principal components, and minimum noise fractions of the fused context. A model
that is trained for 0 steps is this baseline; training adds residuals to it.

Shapes: C bands, O day offsets, E dimensions of one sensor's encoding, D dimensions of all encodings together.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from thalweg.earth.declarations import Declaration, Sensor
from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.fusion import (
    FULL_SIZE,
    MIN_VARIANCE,
    NUM_AUX_DIMS,
    NUM_BAND_RATIOS,
    SMALL_SIZE,
    EncodingHead,
    Fusion,
    concatenate_dimensions,
)

PIXEL_STRIDE = 97
"""Every so many clear pixels of a context contribute to the statistics of the bands."""

RIDGE = 1e-6
"""Ridge of regressions on standardised predictors; it matters where these are collinear."""

MIN_STD, MIN_RATIO_STD = 1e-6, 1e-3
"""Lower bounds of the standard deviations of a band and of a band ratio, so that constants are not amplified."""


class LinearFusionConfig(Declaration):
    """Weights of the fusion's linear fit; chosen by probes of the embedding (docs/model-card.md)."""

    small_auxiliary_weight: float = Field(
        default=0.02,
        ge=0,
        serialization_alias="small_companion_weight",
        description="weight of auxiliary sensors in the first 7 dimensions",
    )
    small_kernel_days: float = Field(
        default=70.0,
        gt=0,
        serialization_alias="small_reach_days",
        description="standard deviation in days of the temporal weight in the first 7 dimensions",
    )
    auxiliary_weight: float = Field(
        default=0.35,
        ge=0,
        serialization_alias="companion_weight",
        description="weight of auxiliary sensors in the dimensions after the band ratios",
    )
    noise_floor: float = Field(
        default=0.1, gt=0, description="lower bound of the noise in any direction, as a share of the mean noise"
    )


@torch.no_grad()
def fit_statistics(autoencoder: Autoencoder, contexts: Iterable[SensorContext]) -> None:
    """Set mean, scale and covariance of an encoder's bands from the contexts that have all bands.

    Args:
        autoencoder: changed in place.
        contexts: at least one with all bands of the sensor.
    """
    pixels = []
    for context in contexts:
        if bool(context.present.all()):
            clear = context.valid[:, 0] > 0
            pixels.append(context.values.movedim(1, -1)[clear][::PIXEL_STRIDE].double())
    values = torch.cat(pixels)
    encoder = autoencoder.encoder
    encoder.mean.copy_(values.mean(0))
    encoder.scale.copy_(values.std(0))
    encoder.covariance.copy_(torch.cov(((values - values.mean(0)) / values.std(0)).T))


@torch.no_grad()
def fit_autoencoder(autoencoder: Autoencoder, trajectories: Tensor) -> None:
    """Set the linear paths of an autoencoder to the principal components of trajectories.

    Args:
        autoencoder: changed in place.
        trajectories: (N, O * C), standardised, as `TrajectorySamples.trajectory`.
    """
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    mean = trajectories.mean(0)
    axes = torch.linalg.eigh(torch.cov((trajectories - mean).T.double()))[1]
    axes = axes.flip(1)[:, : encoder.smooth_size].T.float()
    encoder.linear.weight.copy_(axes)
    encoder.linear.bias.copy_(-axes @ mean)
    bands, nodes = len(autoencoder.sensor.bands), encoder.samples
    decoder.linear.weight.zero_()
    decoder.linear.weight[:nodes, : encoder.smooth_size].copy_(axes.T)
    decoder.linear.weight[nodes:, encoder.smooth_size :].copy_(torch.eye(bands))
    decoder.linear.bias.zero_()
    decoder.linear.bias[:nodes].copy_(mean)
    centre = list(autoencoder.sensor.offsets).index(0) * bands
    encoder.expected.weight.copy_(axes.T[centre : centre + bands])
    encoder.expected.bias.copy_(mean[centre : centre + bands])


def decoded_trajectories(
    sensors: Sequence[Sensor], decoder_weight: Tensor, auxiliary_weight: float, kernel_days: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Return weighted rows of the decoders: linear maps from all encodings to what they stand for.

    Args:
        sensors: S declarations, in the order of their encodings.
        decoder_weight: (P, D), the decoders' linear paths, block-diagonal.
        auxiliary_weight: weight of auxiliary sensors; the reference sensor has 1.
        kernel_days: standard deviation of a Gaussian weight of the day offsets.

    Returns:
        (R, D), the trajectories of all sensors, and (A, D), the bands of auxiliary sensors on the centre date.
    """
    trajectories, auxiliary = [], [decoder_weight[:0]]
    row = 0
    for sensor in sensors:
        bands, offsets = len(sensor.bands), len(sensor.offsets)
        weight = 1.0 if sensor.is_reference else auxiliary_weight
        nodes = decoder_weight[row : row + offsets * bands]
        days = torch.tensor(sensor.offsets, dtype=decoder_weight.dtype).repeat_interleave(bands)
        trajectories.append(weight * torch.exp(-0.5 * (days / kernel_days) ** 2)[:, None] * nodes)
        if not sensor.is_reference:
            auxiliary.append(weight * nodes[sensor.offsets.index(0) * bands :][:bands])
        row += (offsets + 1) * bands
    return torch.cat(trajectories), torch.cat(auxiliary)


@torch.no_grad()
def fit_fusion(
    fusion: Fusion,
    encodings: Tensor,
    changes: Tensor,
    decoder_weight: Tensor,
    centre_spectrum: tuple[Tensor, Tensor],
    config: LinearFusionConfig,
) -> None:
    """Fit the linear part of a fusion.

    The first 7 dimensions are minimum noise fractions of the context (Green et al. 1988, doi:10.1109/36.3001):
    directions of largest variance over places and dates, relative to their change when half of the context is masked.
    After the band ratios follow principal components of the auxiliary sensors on the centre date, and minimum noise
    fractions of the context; both of what the dimensions before them leave unexplained.

    Args:
        fusion: changed in place.
        encodings: (N, D), encodings of all sensors together.
        changes: (M, D), changes of encodings when half of the context dates are masked.
        decoder_weight: (P, D), the decoders' linear paths, block-diagonal.
        centre_spectrum: weight (C, E) and offset (C,) from an encoding of the reference sensor to the bands of its
            centre date (`Autoencoder.centre_spectrum`).
        config: weights of the parts.
    """
    encodings, changes, decoder_weight = encodings.double(), changes.double(), decoder_weight.double()
    mean = encodings.mean(0)
    covariance, noise = torch.cov((encodings - mean).T), changes.T @ changes / len(changes)
    sensors = fusion.sensors
    near, _ = decoded_trajectories(sensors, decoder_weight, config.small_auxiliary_weight, config.small_kernel_days)
    trajectories, auxiliary = decoded_trajectories(sensors, decoder_weight, config.auxiliary_weight)

    def deviation(axes: Tensor) -> Tensor:
        return (axes @ covariance @ axes.T).diagonal().sqrt()

    def principal_components(view: Tensor, count: int) -> Tensor:
        axes = torch.linalg.eigh(view @ covariance @ view.T)[1].flip(1)[:, :count]
        return axes.T @ view

    def noise_fractions(view: Tensor, count: int) -> Tensor:
        view_noise = view @ noise @ view.T
        floor = config.noise_floor * view_noise.diagonal().mean().clamp(min=1e-12)
        power, axes = torch.linalg.eigh(view_noise + floor * torch.eye(len(view_noise), dtype=view_noise.dtype))
        return principal_components((axes / power.sqrt()) @ axes.T @ view, count)

    def unexplained(view: Tensor, known: Tensor) -> Tensor:
        weights = torch.linalg.solve(known @ covariance @ known.T, known @ covariance @ view.T).T
        return view - weights @ known

    fusion.mean.copy_(mean)
    fusion.covariance.copy_(covariance)
    completed = (encodings - mean).float()
    _fit_band_ratios(fusion, completed, centre_spectrum)
    axes = noise_fractions(near, SMALL_SIZE)
    # The dimensions of the centre date have no noise of this kind: they get the scale of the seventh dimension.
    seventh = deviation(axes)[-1]
    centre = principal_components(unexplained(auxiliary, axes), NUM_AUX_DIMS)
    axes = torch.cat([axes, centre * (seventh / deviation(centre))[:, None]])
    axes = torch.cat([axes, noise_fractions(unexplained(trajectories, axes), FULL_SIZE - NUM_BAND_RATIOS - len(axes))])
    scale = deviation(axes)
    fusion.linear.weight.copy_(axes / scale[0])  # one common factor keeps the ratios of distances
    fusion.colour_axes.mul_(seventh / scale[0])
    fusion.colour_inverse.div_(seventh / scale[0])
    scale = concatenate_dimensions(scale, seventh.expand(NUM_BAND_RATIOS)) / scale[0]
    fusion.embedding_scale.copy_(scale)
    fusion.spread_scale.copy_(scale)
    ratios, fractions = fusion.band_ratios(completed), fusion.linear(completed)
    fusion.expected.copy_(ridge_regression(ratios, fractions)[0])
    _fit_heads(fusion, concatenate_dimensions(fractions, ratios), fusion.reconstructed_spectrum(ratios), encodings)


def _fit_band_ratios(fusion: Fusion, completed: Tensor, centre_spectrum: tuple[Tensor, Tensor]) -> None:
    """Select bands and scale their ratios to a standard deviation of one, from centred encodings (N, D)."""
    first = 0
    for sensor in fusion.sensors:
        if sensor is fusion.reference:
            fusion.spectrum.zero_()
            fusion.spectrum[:, first : first + sensor.encoding_size] = centre_spectrum[0]
        first += sensor.encoding_size
    fusion.spectrum_mean.copy_(centre_spectrum[1] + fusion.spectrum @ fusion.mean)
    spectra = completed @ fusion.spectrum.T + fusion.spectrum_mean
    fusion.spectrum_scale.copy_(spectra.std(0).clamp(min=MIN_STD))
    logs = fusion.log_reflectance(spectra).double()
    mean = logs.mean(0)
    bands = select_bands(torch.cov(logs.T), NUM_BAND_RATIOS)
    axes = torch.zeros(NUM_BAND_RATIOS, len(mean), dtype=logs.dtype)
    for row, (band, following) in enumerate(pairwise(bands)):
        axes[row, following], axes[row, band] = 1, -1
    axes[len(bands) - 1, bands[-1]] = 1
    ratios = (logs - mean) @ axes.T
    axes = axes / ratios.std(0).clamp(min=MIN_RATIO_STD)[:, None]
    fusion.colour_mean.copy_(mean)
    fusion.colour_axes.copy_(axes)
    fusion.colour_inverse.copy_(ridge_regression((logs - mean) @ axes.T, logs)[0])


def _fit_heads(fusion: Fusion, embeddings: Tensor, spectra: Tensor, encodings: Tensor) -> None:
    """Regress encodings (N, D) on embeddings (N, 32), the full ones together with reconstructed spectra (N, C)."""
    sizes = list(fusion.sizes.values())
    for predictors, heads in (
        (embeddings[:, :SMALL_SIZE], fusion.small_heads),
        (torch.cat([embeddings, spectra], 1), fusion.full_heads),
    ):
        weights, offsets = ridge_regression(predictors, encodings)
        for sensor, weight, bias in zip(fusion.sensors, weights.split(sizes), offsets.split(sizes), strict=True):
            head = cast(EncodingHead, heads[sensor.name])
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)


def select_bands(covariance: Tensor, count: int) -> list[int]:
    """Select the most informative bands by a pivoted Cholesky decomposition.

    Args:
        covariance: (C, C), covariance of the bands.
        count: number of bands; all C where there are fewer.

    Returns:
        Positions of the bands, ascending. Each was chosen for having the largest variance given those before it.
    """
    remaining = covariance
    chosen: list[int] = []
    for _ in range(min(count, len(covariance))):
        band = int(remaining.diagonal().index_fill(0, torch.tensor(chosen, dtype=torch.long), -1.0).argmax())
        chosen.append(band)
        pivot = remaining[band, band].clamp(min=MIN_VARIANCE**2)
        remaining = remaining - torch.outer(remaining[:, band], remaining[band]) / pivot
    return sorted(chosen)


def ridge_regression(predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Regress targets (N, M) on predictors (N, K) -> weights (M, K) and offsets (M,), float64."""
    predictors, targets = predictors.double(), targets.double()
    mean, target_mean = predictors.mean(0), targets.mean(0)
    moments = (predictors - mean).T @ (predictors - mean) / len(predictors)
    moments = moments + RIDGE * torch.eye(len(moments), dtype=moments.dtype)
    weights = torch.linalg.solve(moments, (predictors - mean).T @ (targets - target_mean) / len(predictors)).T
    return weights, target_mean - weights @ mean
