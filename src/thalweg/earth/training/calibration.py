"""Calibration of a fusion's predicted spread, and of its traits' intervals, on held-out tiles."""

import torch
from torch import Tensor

from thalweg.earth.model.context import SAME_DAY
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE, TRAITS
from thalweg.earth.training.masking import mask_half
from thalweg.earth.training.tiles import RandomTiles

PIXEL_STRIDE = 3
"""Every so many pixels of a tile contribute."""

MAX_PIXELS = 60_000
"""Pixels that contribute at most."""

REFERENCE_LEVEL = 0.68
"""Coverage at which the spread of each dimension is calibrated on its own."""

MIN_RATIO = 1e-6


@torch.no_grad()
def calibrate(model: EarthModel, tiles: RandomTiles, seed: int) -> None:
    """Calibrate the predicted spread to the change of embeddings when half of the context is masked.

    The spread of each dimension is scaled to be right at one level, where the centre date is observed and where it is
    hidden; the factors to the other levels are common to the dimensions of an embedding of 7 or of 32, and those
    of observed dates.

    Args:
        model: its fusion is changed in place.
        tiles: held-out tiles.
        seed: of the masking.
    """
    fusion = model.fusion
    ratios: tuple[list[Tensor], list[Tensor]] = ([], [])
    heads = [(name, size) for name in TRAITS for size in (SMALL_SIZE, FULL_SIZE)]
    errors: dict[tuple[str, int], list[Tensor]] = {head: [] for head in heads}
    torch.manual_seed(seed)
    for tile in tiles:
        full = fusion(model.encode(tile.contexts, tile.centre_days, tile.stride))
        without_centres = {
            name: context.mask(((context.days[:, None] - tile.centre_days).abs() < SAME_DAY).any(1))
            for name, context in tile.contexts.items()
            if name == model.reference.name
        }
        for observed, contexts in ((0, {**tile.contexts, **without_centres}), (1, tile.contexts)):
            half = mask_half(contexts, tile.centre_days, spare_centres=True)
            encodings = model.encode(half, tile.centre_days, tile.stride)
            masked = fusion(encodings)
            here = fusion.centre_share(encodings)[..., 0] == observed
            ratio = ((full.values - masked.values).abs() / masked.spread).movedim(1, -1)[here]
            ratios[observed].append(ratio[::PIXEL_STRIDE])
        for name, size in heads:
            if name in tile.truth:
                value, half_width = fusion.trait(full.values, name, size)
                truth = tile.truth[name]
                errors[name, size].append(((value - truth).abs() / half_width)[truth.isfinite()])
    factors = []
    for observed, parts in enumerate(ratios):
        changes = torch.cat(parts)
        changes = changes[torch.randperm(len(changes))[:MAX_PIXELS]]
        if len(changes):
            typical = changes.quantile(REFERENCE_LEVEL, 0).clamp(min=MIN_RATIO)
            fusion.spread_scale[observed].mul_(typical)
            factors.append(changes / typical)
    for row, size in enumerate((SMALL_SIZE, FULL_SIZE)):
        sample = factors[-1][:, :size].flatten()  # observed centre dates, if there are any
        sample = sample[torch.randperm(len(sample))[: 16 * MAX_PIXELS]]
        fusion.quantiles[row].copy_(sample.quantile(torch.tensor(QUANTILE_LEVELS)))
    for (name, size), parts in errors.items():
        head = fusion.trait_head(name, size)
        if head.is_trained and any(len(part) for part in parts):
            sample = torch.cat(parts)
            head.half_width.mul_(sample[torch.randperm(len(sample))[:MAX_PIXELS]].quantile(REFERENCE_LEVEL))
