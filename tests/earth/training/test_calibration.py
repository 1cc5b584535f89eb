"""Calibration: intervals hold the share of changes that they promise."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE
from thalweg.earth.training.calibration import calibrate
from thalweg.earth.training.masking import mask_half
from thalweg.earth.training.tiles import RandomTiles, Tile, TileShape, TrainingSite

SEED = 4


class WholeSite(TrainingSite):
    """A site all of whose tiles are of the training side, which is the larger one."""

    def draw(self, generator: torch.Generator, shape: TileShape, validation: bool) -> Tile:
        return super().draw(generator, shape, False)


@pytest.fixture(scope="module")
def site(cube_folder: Path) -> TrainingSite:
    return WholeSite.load(cube_folder, ["sentinel-2", "sentinel-1"])


@pytest.fixture(scope="module")
def tiles(site: TrainingSite) -> RandomTiles:
    return RandomTiles([site], 0, TileShape(8, 1, 4), validation=8)


@torch.no_grad()
def ratios(model: EarthModel, tiles: RandomTiles) -> tuple[Tensor, Tensor]:
    """Changes (N, 32) in units of the spread, where the centre date is hidden and where it is observed."""
    torch.manual_seed(SEED)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for tile in tiles:
        full = model(tile.contexts, tile.centre_days)
        optical = tile.contexts["sentinel-2"]
        centres = ((optical.days[:, None] - tile.centre_days).abs() < 0.5).any(1)
        for observed, contexts in ((0, {**tile.contexts, "sentinel-2": optical.mask(centres)}), (1, tile.contexts)):
            encodings = model.encode(mask_half(contexts, tile.centre_days, spare_centres=True), tile.centre_days)
            masked = model.fusion(encodings)
            here = model.fusion.centre_share(encodings)[..., 0] == observed
            found[observed].append(((full.values - masked.values).abs() / masked.spread).movedim(1, -1)[here])
    return torch.cat(found[0]), torch.cat(found[1])


def test_intervals_have_their_nominal_coverage(model_folder: Path, tiles: RandomTiles) -> None:
    model = EarthModel.load(model_folder)
    with torch.no_grad():
        model.fusion.spread_scale[0] *= 7
        model.fusion.spread_scale[1] *= 0.2
    calibrate(model, tiles, SEED)
    hidden, observed = ratios(model, tiles)
    for changes in (hidden, observed):
        assert len(changes) > 400
        per_dimension = (changes <= model.fusion.interval_half_width(torch.ones(()), 0.68)).float().mean(0)
        assert per_dimension.shape == (FULL_SIZE,)
        assert (per_dimension - 0.68).abs().max() < 0.1
    for size in (SMALL_SIZE, FULL_SIZE):
        for level in QUANTILE_LEVELS:
            width = model.fusion.interval_half_width(torch.ones(()), level, size)
            assert float((observed[:, :size] <= width).float().mean()) == pytest.approx(level, abs=0.04)


def test_tiles_without_the_reference_sensor_calibrate_too(model_folder: Path, site: TrainingSite) -> None:
    model = EarthModel.load(model_folder)
    before = model.fusion.spread_scale.clone()
    lacking = replace(site, contexts={"sentinel-1": site.contexts["sentinel-1"]})
    radar = RandomTiles([lacking], 0, TileShape(8, 1, 4), validation=2)
    calibrate(model, radar, SEED)
    assert (model.fusion.spread_scale[0] != before[0]).all()
    assert torch.equal(model.fusion.spread_scale[1], before[1])
