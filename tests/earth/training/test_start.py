"""Closed-form start of the fusion: the context's dimensions and the parcels that they are chosen by."""

import pytest
import torch

from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE
from thalweg.earth.training import start
from thalweg.earth.training.start import STATE_DIMENSIONS, ParcelScatter, start_fusion
from thalweg.earth.training.tiles import RandomTiles, Tile, TileShape, TrainingSite
from thalweg.simulate import simulate


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Tile]:
    folder = tmp_path_factory.mktemp("start") / "landscape"
    simulate(seed=5, size=48, years=1).write(folder)
    site = TrainingSite.load(folder, ["sentinel-2", "sentinel-1"])
    return [tile for tile, _ in zip(RandomTiles([site], 1, TileShape(20, 2, 3)), range(12), strict=False)]


def test_centred_means_and_residuals_are_those_of_large_parcels() -> None:
    values = torch.tensor([[0.0], [2.0], [4.0], [2.0], [10.0], [10.0], [14.0], [14.0], [99.0]])
    parcels = torch.tensor([3, 3, 3, 3, 7, 7, 7, 7, 8])
    means, around = start._parcels_of_date(values, parcels)
    assert means[:, 0].tolist() == [-5.0, 5.0]  # the ninth pixel is alone in its parcel
    assert around[:, 0].tolist() == [-2.0, 0.0, 2.0, 0.0, -2.0, -2.0, 2.0, 2.0]


def test_the_context_is_chosen_by_what_differs_between_parcels() -> None:
    fusion = EarthModel.load().fusion
    size = len(fusion.mean)
    fusion.covariance.copy_(torch.eye(size))
    within = torch.eye(size, dtype=torch.float64)
    within[0, 0] = 100.0  # differs between parcels, but as much between the pixels of one
    means = torch.zeros(2, size, dtype=torch.float64)
    means[:, 0], means[:, 5] = torch.tensor([5.0, -5.0]), torch.tensor([1.0, -1.0])
    components = start._discriminant_components(fusion, ParcelScatter(means, within), 2)
    assert components.shape == (2, fusion.linear.in_features)
    assert components[0].abs().argmax() == 5
    assert components[0, 5].abs() > 5 * components[0, 0].abs()


def test_too_few_parcels_leave_principal_components(tiles: list[Tile], monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = EarthModel.load(), EarthModel.load(), EarthModel.load()
    for model, least in ((first, 10), (again, 10), (other, 10**6)):
        monkeypatch.setattr(start, "MIN_PARCELS", least)
        torch.manual_seed(0)
        start_fusion(model, tiles)
    rows = SMALL_SIZE + STATE_DIMENSIONS
    assert torch.equal(first.fusion.linear.weight, again.fusion.linear.weight)
    assert torch.equal(first.fusion.linear.weight[:rows], other.fusion.linear.weight[:rows])
    assert not torch.allclose(first.fusion.linear.weight[rows:], other.fusion.linear.weight[rows:], atol=1e-3)
    assert first.fusion.linear.weight.shape[0] == FULL_SIZE
