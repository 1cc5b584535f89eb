"""Tiles: their position, their dates and the targets to reconstruct."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, days_since_epoch
from thalweg.earth.training.tiles import (
    MAX_CONTEXT_DAYS,
    MAX_TARGET_DAYS,
    RandomTiles,
    TileShape,
    TrainingSite,
    draw_targets,
    tile_at,
)
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
    centre = site.centre_days[:1]
    tile = tile_at(site, 5, 9, 6, centre)
    for name, context in site.contexts.items():
        near = (context.days - centre).abs() <= MAX_CONTEXT_DAYS
        assert 0 < near.sum() < len(near)
        cut = tile.contexts[name]
        assert torch.equal(cut.days, context.days[near])
        window = (slice(5, 5 + 6 + 2 * HALO), slice(9, 9 + 6 + 2 * HALO))
        assert torch.equal(cut.values, context.values[near][..., window[0], window[1]])
        assert torch.equal(cut.valid, context.valid[near][..., window[0], window[1]])


def test_training_and_validation_share_no_pixel_of_the_site() -> None:
    site = numbered(40, 80)
    inside = set(range(80))
    trained = columns_of(RandomTiles([site], 0, TileShape(8)), 200) & inside
    held_out = columns_of(RandomTiles([site], 0, TileShape(8), validation=200), 200) & inside
    assert trained == set(range(60))
    assert held_out == set(range(60, 80))


def test_tiles_repeat_with_their_seed(site: TrainingSite) -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        tiles = islice(RandomTiles([site], seed, TileShape(4)), 3)
        return [tile.contexts["sentinel-2"].values for tile in tiles]

    assert all(torch.equal(a, b) for a, b in zip(drawn(1), drawn(1), strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(drawn(1), drawn(2), strict=True))


def test_validation_tiles_are_a_fixed_set(site: TrainingSite) -> None:
    tiles = RandomTiles([site], 1, TileShape(4, centres=2), validation=5)
    first, second = list(tiles), list(tiles)
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        assert len(one.centre_days) == 2
        assert torch.equal(one.centre_days, other.centre_days)


def test_a_site_too_narrow_to_split_is_refused() -> None:
    with pytest.raises(UsageError, match="numbered: 12 columns, expected at least 32"):
        list(RandomTiles([numbered(12, 12)], 0, TileShape(4), validation=1))


def test_targets_hold_the_centre_first_and_only_near_valid_dates(site: TrainingSite, context: SensorContext) -> None:
    centre_days = site.centre_days[2:5]
    tile = tile_at(site, 4, 4, 8, centre_days).contexts["sentinel-2"]
    torch.manual_seed(0)
    wanted = draw_targets(tile, centre_days, count=6, neighbour_weight=0.5)
    assert wanted.values.shape == (3, 6, 10, 8, 8)
    assert wanted.weight.shape == (3, 6, 1, 8, 8)
    torch.testing.assert_close(wanted.days[:, 0], torch.zeros(3))
    far = wanted.days.abs() > MAX_TARGET_DAYS
    assert (wanted.weight[far] == 0).all()
    near = (wanted.days.abs() >= 0.5) & ~far
    assert near.any()
    assert 0 < wanted.weight[near].max() < 0.5
    assert (wanted.values * (wanted.weight == 0) * ~far[..., None, None, None] == 0).all()


def test_the_centre_target_is_the_pixel_itself_with_weight_one(site: TrainingSite) -> None:
    centre_days = site.centre_days[2:3]
    tile = tile_at(site, 4, 4, 8, centre_days).contexts["sentinel-2"]
    centre = int((tile.days - centre_days).abs().argmin())
    wanted = draw_targets(tile, centre_days, count=3, neighbour_weight=0.5)
    assert torch.equal(wanted.values[0, 0], tile.values[centre, :, HALO:-HALO, HALO:-HALO])
    assert torch.equal(wanted.weight[0, 0], tile.valid[centre, :, HALO:-HALO, HALO:-HALO])
    assert wanted.weight[0, 0].max() == 1


def test_targets_of_a_stride_are_every_so_many_pixels(site: TrainingSite) -> None:
    centre_days = site.centre_days[2:4]
    tile = tile_at(site, 4, 4, 8, centre_days).contexts["sentinel-2"]
    found = []
    for stride in (1, 3):
        torch.manual_seed(0)
        found.append(draw_targets(tile, centre_days, count=4, neighbour_weight=0.5, stride=stride))
    dense, sparse = found
    assert sparse.values.shape[-2:] == (3, 3)
    assert torch.equal(sparse.days, dense.days)
    assert torch.equal(sparse.values, dense.values[..., ::3, ::3])
    assert torch.equal(sparse.weight, dense.weight[..., ::3, ::3])


def test_a_sensor_without_dates_has_no_targets(context: SensorContext, site: TrainingSite) -> None:
    empty = context.select(torch.zeros(len(context.days), dtype=torch.bool))
    wanted = draw_targets(empty, site.centre_days[:2], count=3, neighbour_weight=0.5)
    assert wanted.days.shape == (2, 0)
    assert wanted.values.shape[:3] == (2, 0, 10)


def test_the_truth_is_cut_like_the_pixels_and_nan_on_other_dates(site: TrainingSite) -> None:
    rows, columns = site.size
    days = site.centre_days[[1, 4]]
    maps = torch.arange(2 * rows * columns).float().reshape(2, rows, columns)
    known = replace(site, truth_days=days, truth={"lai": maps}, parcels=maps[0].long())
    tile = tile_at(known, 5, 9, 6, site.centre_days[[1, 2, 4]], stride=2)
    assert tile.truth["lai"].shape == (3, 3, 3)
    assert torch.equal(tile.truth["lai"][0], maps[0, 5:11:2, 9:15:2])
    assert tile.truth["lai"][1].isnan().all()
    assert torch.equal(tile.truth["lai"][2], maps[1, 5:11:2, 9:15:2])
    assert torch.equal(known.truth["lai"], maps)
    assert tile.parcels is not None
    assert torch.equal(tile.parcels, maps[0, 5:11:2, 9:15:2].long())
    assert tile_at(site, 5, 9, 6, days).parcels is None
    assert tile_at(site, 5, 9, 6, days).truth == {}


def test_the_centre_dates_become_those_of_a_sensor_that_hold_anything(site: TrainingSite) -> None:
    context = site.contexts["sentinel-1"]
    empty = torch.arange(len(context.days)) == 3
    own = replace(site, contexts={"sentinel-1": context.mask(empty)}).centred_on("sentinel-1")
    holds = context.valid.flatten(1).any(1) & ~empty
    assert 0 < holds.sum() < len(holds)
    assert torch.equal(own.centre_days, context.days[holds])


def test_places_are_drawn_by_their_weights() -> None:
    first, second = numbered(8, 40), replace(numbered(8, 40), name="second")
    second = replace(second, centre_days=second.centre_days + 0.1)

    def share_of_second(weights: list[float] | None) -> float:
        tiles = list(islice(RandomTiles([first, second], 0, TileShape(4, centres=1), weights), 400))
        return sum(float(tile.centre_days % 1) > 0.05 for tile in tiles) / len(tiles)

    assert share_of_second([0.0, 2.0]) == 1
    assert share_of_second([2.0, 0.0]) == 0
    assert 0.68 < share_of_second([1.0, 3.0]) < 0.82
    assert 0.43 < share_of_second(None) < 0.57
