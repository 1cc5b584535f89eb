"""Tiles: their position, their dates and the targets to reconstruct."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, days_since_epoch
from thalweg.earth.training.tiles import MAX_TARGET_DAYS, RandomTiles, TrainingSite, draw_targets, tile_at
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def site(cube_folder: Path) -> TrainingSite:
    return TrainingSite.load(cube_folder, ["sentinel-2", "sentinel-1"])


@pytest.fixture(scope="module")
def context(site: TrainingSite) -> SensorContext:
    return site.contexts["sentinel-2"]


def numbered(rows: int, columns: int) -> TrainingSite:
    """A site whose values are each pixel's column, the halo included."""
    column = torch.arange(-HALO, columns + HALO).float()
    values = column.expand(3, 1, rows + 2 * HALO, -1).clone()
    days = torch.tensor([0.0, 10.0, 20.0])
    context = SensorContext(values, torch.ones_like(values), days, torch.ones(1, dtype=torch.bool))
    return TrainingSite("numbered", {"pretend": context}, days, (rows, columns))


def columns_of(tiles: RandomTiles, count: int) -> set[int]:
    return {int(c) for tile in islice(tiles, count) for c in tile.contexts["pretend"].values.unique()}


def test_a_site_holds_its_cube_padded(site: TrainingSite, cube: Cube) -> None:
    assert site.size == (32, 32)
    assert list(site.contexts) == ["sentinel-2", "sentinel-1"]
    assert site.contexts["sentinel-1"].values.shape[-2:] == (32 + 2 * HALO, 32 + 2 * HALO)
    expected = days_since_epoch(cube.reference.dates[cube.eligible()])
    torch.testing.assert_close(site.centre_days, torch.from_numpy(expected).float())


def test_a_site_without_the_sensor_is_refused(cube_folder: Path) -> None:
    with pytest.raises(UsageError, match="none of landsat-8 in it, it has sentinel-2, sentinel-1"):
        TrainingSite.load(cube_folder, ["landsat-8"])


def test_a_tile_is_cut_with_its_halo_and_its_dates(site: TrainingSite) -> None:
    centre = site.centre_days[3:4]
    tile = tile_at(site, 5, 9, 6, centre, max_days=60.0)
    for name, context in site.contexts.items():
        near = (context.days - centre).abs() <= 60
        assert 0 < near.sum() < len(near)
        cut = tile.contexts[name]
        assert torch.equal(cut.days, context.days[near])
        window = (slice(5, 5 + 6 + 2 * HALO), slice(9, 9 + 6 + 2 * HALO))
        assert torch.equal(cut.values, context.values[near][..., window[0], window[1]])
        assert torch.equal(cut.valid, context.valid[near][..., window[0], window[1]])


def test_training_and_validation_share_no_pixel_of_the_site() -> None:
    site = numbered(40, 80)
    inside = set(range(80))
    trained = columns_of(RandomTiles([site], 0, size=8), 200) & inside
    held_out = columns_of(RandomTiles([site], 0, size=8, validation=200), 200) & inside
    assert trained == set(range(60))
    assert held_out == set(range(60, 80))


def test_tiles_repeat_with_their_seed(site: TrainingSite) -> None:
    def drawn(seed: int, **named: int) -> list[torch.Tensor]:
        return [tile.contexts["sentinel-2"].values for tile in islice(RandomTiles([site], seed, 4, **named), 3)]

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


def test_even_tiles_use_every_date_before_one_is_repeated(site: TrainingSite) -> None:
    rounds = 2
    dates = len(site.centre_days)
    tiles = list(RandomTiles([site, site], 0, 8, 1).evenly(rounds * 2 * dates))
    for of_one_site in (tiles[::2], tiles[1::2]):
        for part in (of_one_site[:dates], of_one_site[dates:]):
            assert sorted(float(tile.centre_days) for tile in part) == sorted(site.centre_days.tolist())


def test_validation_tiles_are_a_fixed_set(site: TrainingSite) -> None:
    tiles = RandomTiles([site], 1, 4, centres=2, validation=5)
    first, second = list(tiles), list(tiles)
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        assert len(one.centre_days) == 2
        assert torch.equal(one.centre_days, other.centre_days)


def test_a_site_too_narrow_to_split_is_refused() -> None:
    with pytest.raises(UsageError, match="numbered: 12 columns, expected at least 32"):
        list(RandomTiles([numbered(12, 12)], 0, size=4, validation=1))


def test_targets_hold_the_centre_first_and_only_near_valid_dates(site: TrainingSite, context: SensorContext) -> None:
    centre_days = site.centre_days[2:5]
    tile = tile_at(site, 4, 4, 8, centre_days).contexts["sentinel-2"]
    for seed in range(12):  # half of the draws are of a neighbouring pixel
        torch.manual_seed(seed)
        wanted = draw_targets(tile, centre_days, count=6, neighbour_weight=0.5)
        assert wanted.values.shape == (3, 6, 10, 8, 8)
        assert wanted.weight.shape == (3, 6, 1, 8, 8)
        torch.testing.assert_close(wanted.days[:, 0], torch.zeros(3))
        far = wanted.days.abs() > MAX_TARGET_DAYS
        assert (wanted.weight[far] == 0).all()
        near = (wanted.days.abs() >= 0.5) & ~far
        assert near.any()
        assert wanted.weight[near].max() < 0.5
        assert wanted.weight[near].max() > 0
        assert (wanted.values * (wanted.weight == 0) * ~far[..., None, None, None] == 0).all()


def test_targets_of_the_pixel_itself_have_weight_one_at_the_centre(site: TrainingSite) -> None:
    centre_days = site.centre_days[2:3]
    tile = tile_at(site, 4, 4, 8, centre_days).contexts["sentinel-2"]
    centre = int((tile.days - centre_days).abs().argmin())
    own = tile.values[centre, :, HALO:-HALO, HALO:-HALO]
    weights = set()
    for seed in range(12):
        torch.manual_seed(seed)
        wanted = draw_targets(tile, centre_days, count=3, neighbour_weight=0.5)
        weight = float(wanted.weight[0, 0].max())
        weights.add(weight)
        if weight == 1:
            assert torch.equal(wanted.values[0, 0], own)
    assert weights == {0.5, 1.0}
