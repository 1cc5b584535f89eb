"""Closed-form starting points of training: statistics of the bands, principal components, and linear regressions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.context import SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, MIN_VARIANCE, SMALL_SIZE, EncodingHead, Fusion
from thalweg.earth.training.tiles import Tile

PIXELS_PER_PLACE = 4000
"""Pixels of a place with weight 1 that contribute to the statistics of the bands."""

PIXELS_PER_DATE = 40
"""Pixels of each centre date of a tile that closed-form fits use."""

SMALL_CONTEXT_WEIGHT = 0.02
"""Weight of the context in the principal components of the first 7 dimensions."""

AUXILIARY_STATE_WEIGHT, AUXILIARY_CONTEXT_WEIGHT = 0.3, 0.2
"""Weights of sensors other than the reference in the principal components of the state and of the context."""

STATE_DIMENSIONS = 4
"""Dimensions of the state after the first 7."""

MIN_PARCELS, MIN_PARCEL_PIXELS = 200, 4
"""Parcels that discriminant components need, and pixels of a tile's parcel that make it count."""

DISCRIMINANT_RIDGE = 0.1
"""Ridge of the scatter within parcels, on standardised encodings."""

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
    `STATE_DIMENSIONS` of what they leave unexplained. The others are of the context: the directions in which the
    parcels of a simulated landscape differ most, relative to the pixels of a parcel (Fisher's discriminant), or
    principal components where fewer than `MIN_PARCELS` are known.

    Args:
        model: its fusion is changed in place.
        tiles: training tiles that have all sensors; uses torch's global generator.
    """
    fusion = model.fusion
    encoders = [model.autoencoder(name).encoder for name in model.sensors]
    fusion.band_mean.copy_(torch.cat([encoder.mean for encoder in encoders]))
    fusion.band_scale.copy_(torch.cat([encoder.scale for encoder in encoders]))
    encodings, parcels = _sample_encodings(model, tiles)
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
    count = FULL_SIZE - SMALL_SIZE - len(of_state)
    if len(parcels.means) < MIN_PARCELS:
        of_context = principal_components(context, count)
    else:
        of_context = _discriminant_components(fusion, parcels, count)
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


@dataclass(frozen=True)
class ParcelScatter:
    """Encodings of the parcels of simulated landscapes.

    Attributes:
        means: (N, D), mean of each parcel and date, minus the mean of the tile's parcels on the date.
        within: (D, D), covariance of the pixels around the mean of their parcel.
    """

    means: Tensor
    within: Tensor


def _sample_encodings(model: EarthModel, tiles: Iterable[Tile]) -> tuple[Tensor, ParcelScatter]:
    """Return encodings (N, D) of random pixels that every sensor observed, and the scatter of the tiles' parcels."""
    gathered, means, residuals = [], [], []
    for tile in tiles:
        encodings = model.encode(tile.contexts, tile.centre_days, tile.stride)
        values = torch.cat([encodings[name].values for name in model.sensors], 1).movedim(1, -1)
        observed = torch.cat([encodings[name].observed for name in model.sensors], 1).amin(1) > 0
        pixels = values[observed]
        gathered.append(pixels[torch.randperm(len(pixels))[: PIXELS_PER_DATE * len(tile.centre_days)]])
        if tile.parcels is not None:
            for of_date, seen in zip(values, observed, strict=True):
                of_parcels, around = _parcels_of_date(of_date[seen], tile.parcels[seen])
                means.append(of_parcels)
                residuals.append(around)
    size = gathered[0].shape[1]
    around = torch.cat([*residuals, gathered[0].new_zeros(1, size)]).double()
    scatter = ParcelScatter(torch.cat([*means, around.new_zeros(0, size)]).double(), around.T @ around / len(around))
    return torch.cat(gathered), scatter


def _parcels_of_date(values: Tensor, parcels: Tensor) -> tuple[Tensor, Tensor]:
    """Return centred means (P, D) of the parcels of a date's pixels (N, D), and the pixels around them (M, D)."""
    numbers, index, counts = parcels.unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(numbers), values.shape[1]).index_add_(0, index, values)
    means = sums / counts[:, None]
    large = counts >= MIN_PARCEL_PIXELS
    around = (values - means[index])[large[index]]
    means = means[large]
    return means - means.mean(0), around


def _discriminant_components(fusion: Fusion, parcels: ParcelScatter, count: int) -> Tensor:
    """Return the directions of the context, (count, F), in which parcels differ most relative to their pixels."""
    positions = _context_positions(fusion)
    deviation = fusion.covariance.diagonal()[positions].double().clamp(min=MIN_VARIANCE).sqrt()
    scale = deviation[:, None] * deviation
    means = parcels.means[:, positions]
    between = means.T @ means / len(means) / scale
    within = parcels.within[positions][:, positions] / scale
    within = within + DISCRIMINANT_RIDGE * torch.eye(len(positions), dtype=within.dtype)
    whitening = torch.linalg.inv(torch.linalg.cholesky(within))
    axes = torch.linalg.eigh(whitening @ between @ whitening.T)[1].flip(1)[:, :count].T @ whitening
    components = axes.new_zeros(count, fusion.linear.in_features)
    components[:, positions] = axes
    return components


def _context_positions(fusion: Fusion) -> Tensor:
    """Return the positions of the contexts of all sensors in their encodings."""
    is_context = [
        [True] * (sensor.encoding_size - len(sensor.bands)) + [False] * len(sensor.bands) for sensor in fusion.sensors
    ]
    return torch.tensor([flag for flags in is_context for flag in flags]).nonzero()[:, 0]


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
