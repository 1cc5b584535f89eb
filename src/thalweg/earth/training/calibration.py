"""Calibration of the fusion's predicted spread on held-out tiles."""

import torch

from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import QUANTILE_LEVELS
from thalweg.earth.training.masking import mask_half
from thalweg.earth.training.tiles import RandomTiles

PIXEL_STRIDE = 7
"""Every so many pixels of a tile contribute."""

MAX_PIXELS = 60_000
"""Pixels that contribute at most."""

REFERENCE_LEVEL = 0.68
"""Coverage at which the spread of each dimension is calibrated on its own."""

MIN_RATIO = 1e-6


@torch.no_grad()
def calibrate(model: EarthModel, tiles: RandomTiles, seed: int) -> None:
    """Calibrate the predicted spread to the change of embeddings when half of the context is masked.

    The spread of each dimension is scaled to be right at one level; the factors to the other levels are common to all
    dimensions.

    Args:
        model: its fusion is changed in place.
        tiles: held-out tiles.
        seed: of the masking.
    """
    ratios = []
    torch.manual_seed(seed)
    for tile in tiles:
        full = model(tile.contexts, tile.centre_days)
        masked = model(mask_half(tile.contexts, tile.centre_days), tile.centre_days)
        ratio = (full.values - masked.values).abs() / masked.spread
        ratios.append(ratio.movedim(1, -1).flatten(0, -2)[::PIXEL_STRIDE])
    changes = torch.cat(ratios)[:MAX_PIXELS]
    typical = changes.quantile(REFERENCE_LEVEL, 0).clamp(min=MIN_RATIO)
    model.fusion.spread_scale.mul_(typical)
    model.fusion.quantiles.copy_((changes / typical).flatten().quantile(torch.tensor(QUANTILE_LEVELS)))
