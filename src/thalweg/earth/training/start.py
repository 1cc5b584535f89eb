"""Closed-form starting points of training: statistics of the bands, principal components, and linear regressions."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE, EncodingHead, Fusion
from thalweg.earth.training.tiles import Tile

PIXELS_PER_PLACE = 4000
"""Pixels of a place with weight 1 that contribute to the statistics of the bands."""

PIXELS_PER_DATE = 40
"""Pixels of each centre date of a tile that closed-form fits use."""

SMALL_CONTEXT_WEIGHT = 0.02
"""Weight of the context in the principal components of the first 7 dimensions."""

AUXILIARY_STATE_WEIGHT, AUXILIARY_CONTEXT_WEIGHT = 0.3, 0.2
"""Weights of sensors other than the reference in the principal components of the state and of the context."""

STATE_DIMENSIONS = 3
"""Dimensions of the state after the first 7."""

RIDGE = 1e-5
"""Ridge of regressions on standardised predictors."""


@torch.no_grad()
def fit_statistics(autoencoder: Autoencoder, contexts: Iterable[tuple[SensorContext, float]]) -> None:
    """Set mean, scale and covariance of an encoder's bands from the contexts that have all bands.

    Args:
        autoencoder: changed in place.
        contexts: contexts with their weights, at least one with all bands of the sensor; uses torch's global generator.
    """
    pixels = []
    for context, weight in contexts:
        if bool(context.present.all()):
            values = context.values.movedim(1, -1)[context.valid[:, 0] > 0]
            chosen = torch.randint(max(len(values), 1), (min(len(values), round(weight * PIXELS_PER_PLACE)),))
            pixels.append(values[chosen].double())
    values = torch.cat(pixels)
    encoder = autoencoder.encoder
    encoder.mean.copy_(values.mean(0))
    encoder.scale.copy_(values.std(0))
    encoder.covariance.copy_(torch.cov(((values - values.mean(0)) / values.std(0)).T))


@torch.no_grad()
def start_autoencoder(autoencoder: Autoencoder, tiles: Iterable[Tile]) -> None:
    """Set the linear paths of an autoencoder to the principal components of smooth trajectories.

    Args:
        autoencoder: changed in place.
        tiles: training tiles; uses torch's global generator.
    """
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    gathered = []
    for tile in tiles:
        trajectories, observed = encoder.trajectories(tile.contexts[autoencoder.sensor.name], tile.centre_days)
        pixels = trajectories.movedim(1, -1)[observed]
        gathered.append(pixels[torch.randperm(len(pixels))[: PIXELS_PER_DATE * len(tile.centre_days)]])
    samples = torch.cat(gathered)
    mean = samples.mean(0)
    axes = torch.linalg.eigh(torch.cov((samples - mean).T.double()))[1]
    axes = axes.flip(1)[:, : encoder.context_size].T.float()
    encoder.trajectory.weight.copy_(axes)
    encoder.trajectory.bias.copy_(-axes @ mean)
    decoder.linear.weight.zero_()
    decoder.linear.weight[:, : encoder.context_size].copy_(axes.T)
    decoder.linear.bias.copy_(mean)


@torch.no_grad()
def start_fusion(model: EarthModel, tiles: Iterable[Tile]) -> None:
    """Set the linear paths of a fusion.

    The first 7 dimensions are principal components of the bands of the centre date and of their logarithms, the next
    `STATE_DIMENSIONS` of what they leave unexplained; the others are principal components of the context.

    Args:
        model: its fusion is changed in place.
        tiles: training tiles that have all sensors; uses torch's global generator.
    """
    fusion = model.fusion
    encoders = [model.autoencoder(name).encoder for name in model.sensors]
    fusion.band_mean.copy_(torch.cat([encoder.mean for encoder in encoders]))
    fusion.band_scale.copy_(torch.cat([encoder.scale for encoder in encoders]))
    encodings = _sample_encodings(model, tiles)
    fusion.mean.copy_(encodings.mean(0))
    fusion.covariance.copy_(torch.cov(encodings.T.double()))
    logs = fusion.logarithms(fusion.bands(encodings)[:, fusion.log_positions])
    fusion.log_mean.copy_(logs.mean(0))
    fusion.log_scale.copy_(logs.std(0))
    inputs = fusion.inputs(encodings).double()
    mean, covariance = inputs.mean(0), torch.cov(inputs.T)
    state, context = _views(fusion)

    def principal_components(view: Tensor, count: int) -> Tensor:
        axes = torch.linalg.eigh(view @ covariance @ view.T)[1].flip(1)[:, :count]
        return axes.T @ view

    small = principal_components(torch.cat([state, SMALL_CONTEXT_WEIGHT * context]), SMALL_SIZE)
    unexplained = state - torch.linalg.solve(small @ covariance @ small.T, small @ covariance @ state.T).T @ small
    of_state = principal_components(unexplained, STATE_DIMENSIONS)
    of_context = principal_components(context, FULL_SIZE - SMALL_SIZE - len(of_state))
    rest = torch.cat([of_state, of_context])
    axes = torch.cat([small, rest])
    # One scale for the state, one for the context: the ratios of distances within each are kept.
    deviation = (axes @ covariance @ axes.T).diagonal().sqrt()
    first = SMALL_SIZE + len(of_state)
    scale = torch.cat([deviation[:1].expand(first), deviation[first : first + 1].expand(len(of_context))])
    axes = axes / scale[:, None]
    fusion.linear.weight.copy_(axes)
    fusion.linear.bias.copy_(-axes @ mean)
    embeddings = fusion.linear(inputs.float())
    fusion.embedding_mean.zero_()
    fusion.embedding_scale.copy_(embeddings.std(0))
    standardised = embeddings / fusion.embedding_scale
    sizes = list(fusion.sizes.values())
    for size, heads in ((SMALL_SIZE, fusion.small_heads), (FULL_SIZE, fusion.full_heads)):
        weights, offsets = ridge_regression(standardised[:, :size], encodings)
        for sensor, weight, bias in zip(fusion.sensors, weights.split(sizes), offsets.split(sizes), strict=True):
            head = cast(EncodingHead, heads[sensor.name])
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)


def _sample_encodings(model: EarthModel, tiles: Iterable[Tile]) -> Tensor:
    """Return encodings (N, D) of pixels that every sensor observed."""
    gathered = []
    for tile in tiles:
        encodings = model.encode(tile.contexts, tile.centre_days, tile.stride)
        values = torch.cat([encodings[name].values for name in model.sensors], 1).movedim(1, -1)
        observed = torch.cat([encodings[name].observed for name in model.sensors], 1).amin(1) > 0
        pixels = values[observed]
        gathered.append(pixels[torch.randperm(len(pixels))[: PIXELS_PER_DATE * len(tile.centre_days)]])
    return torch.cat(gathered)


def _views(fusion: Fusion) -> tuple[Tensor, Tensor]:
    """Return weighted linear maps from the inputs to the state and to the context, (V, F) and (W, F)."""
    size = fusion.linear.in_features
    unit = torch.eye(size, dtype=torch.float64)
    weights: list[float] = []
    for sensor in fusion.sensors:
        weights.extend([1.0 if sensor.is_reference else AUXILIARY_STATE_WEIGHT] * len(sensor.bands))
    bands = unit[fusion.band_positions] * torch.tensor(weights, dtype=torch.float64)[:, None]
    logs = unit[len(fusion.mean) :]
    context, first = [], 0
    for sensor in fusion.sensors:
        rows = slice(first, first + sensor.encoding_size - len(sensor.bands))
        deviation = fusion.covariance.diagonal()[rows].double().sqrt()
        weight = 1.0 if sensor.is_reference else AUXILIARY_CONTEXT_WEIGHT
        # Inputs are standardised; the context's own scale is that of its trajectory.
        context.append(unit[rows] * (weight * deviation / deviation.square().mean().sqrt())[:, None])
        first += sensor.encoding_size
    return torch.cat([bands, logs]), torch.cat(context)


def ridge_regression(predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Regress targets (N, M) on predictors (N, K) -> weights (M, K) and offsets (M,), float64."""
    predictors, targets = predictors.double(), targets.double()
    mean, target_mean = predictors.mean(0), targets.mean(0)
    moments = (predictors - mean).T @ (predictors - mean) / len(predictors)
    moments = moments + RIDGE * torch.eye(len(moments), dtype=moments.dtype)
    weights = torch.linalg.solve(moments, (predictors - mean).T @ (targets - target_mean) / len(predictors)).T
    return weights, target_mean - weights @ mean


def mean_and_scale(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the finite values of several tensors; (0, 0) if there are none."""
    finite = torch.cat([part[part.isfinite()] for part in parts]) if parts else torch.zeros(0)
    return (finite.mean(), finite.std()) if len(finite) > 1 else (torch.zeros(()), torch.zeros(()))
