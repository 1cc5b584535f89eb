from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from earth_scaling import SceneErrors, balanced_order, middle, scene_errors, summary
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.training.tiles import TrainingSite

CLIMATES = ("boreal", "humid_tropical", "semiarid")
FOLDERS = [Path(f"{CLIMATES[index % 3]}-{2000 + index}") for index in range(20)]
SIDE, MEASURED, BANDS = 12, 4, 10
DAYS = torch.arange(0.0, 300.0, 10.0)


@pytest.fixture
def scene() -> TrainingSite:
    """Scene without haze whose bands rise by 0.001 per day, and whose pixels differ."""
    side = SIDE + 2 * HALO
    pixels = 0.05 * torch.rand(1, BANDS, side, side, generator=torch.Generator().manual_seed(0))
    values = 0.1 + 0.001 * DAYS[:, None, None, None] + pixels
    valid = torch.ones(len(DAYS), 1, side, side)
    context = SensorContext(values, valid, DAYS, torch.ones(BANDS, dtype=torch.bool))
    return TrainingSite("scene", {"sentinel-2": context}, DAYS, (SIDE, SIDE))


@pytest.mark.parametrize("seed", [0, 1])
def test_every_first_n_scenes_hold_the_climates_equally_often(seed: int) -> None:
    order = balanced_order(FOLDERS, seed)
    assert sorted(order) == sorted(FOLDERS)
    for count in range(1, len(order) + 1):
        numbers = [sum(folder.name.startswith(climate) for folder in order[:count]) for climate in CLIMATES]
        assert max(numbers) - min(numbers) <= 1


def test_the_order_depends_on_the_seed_alone() -> None:
    assert balanced_order(FOLDERS, 3) == balanced_order(FOLDERS[::-1], 3)
    assert balanced_order(FOLDERS, 3) != balanced_order(FOLDERS, 4)


def test_the_middle_keeps_each_pixels_surroundings(scene: TrainingSite) -> None:
    cut = middle(scene, MEASURED)
    assert cut.size == (MEASURED, MEASURED)
    first = (SIDE - MEASURED) // 2
    rows = slice(first, first + MEASURED + 2 * HALO)
    assert torch.equal(cut.contexts["sentinel-2"].values, scene.contexts["sentinel-2"].values[..., rows, rows])


def test_errors_are_of_hidden_dates_and_of_dates_around_them(scene: TrainingSite) -> None:
    """A model that is off by 0.02 on the hidden date and by 0.005 on all others."""
    base = scene.contexts["sentinel-2"].values[0][:, HALO:-HALO, HALO:-HALO]

    def reconstruct(contexts: dict[str, SensorContext], day: Tensor, days: Tensor) -> Tensor:
        seen = contexts["sentinel-2"]
        assert not seen.valid[seen.days == day].any() and not seen.values[seen.days == day].any()
        assert int(seen.valid.amax((1, 2, 3)).sum()) == len(seen.days) - 1
        assert days[0, 0] == 0 and days[0, 1:].abs().min() > 0 and days.abs().max() <= 100
        truth = base + 0.001 * (day + days[0])[:, None, None, None]
        return truth + torch.where(days[0] == 0, 0.02, -0.005)[:, None, None, None]

    errors = scene_errors(scene, reconstruct)
    assert errors.hidden == pytest.approx(0.02, rel=1e-4)
    assert errors.context == pytest.approx(0.005, rel=1e-3)


def test_pixels_without_truth_do_not_count(scene: TrainingSite) -> None:
    context = scene.contexts["sentinel-2"]
    context.valid[:, :, :, HALO:-HALO:2] = 0

    def reconstruct(contexts: dict[str, SensorContext], day: Tensor, days: Tensor) -> Tensor:
        dates = torch.searchsorted(DAYS, day + days[0])
        decoded = context.values[dates][..., HALO:-HALO, HALO:-HALO].clone()
        decoded[..., ::2] = 9.0
        return decoded

    assert scene_errors(scene, reconstruct) == SceneErrors(0.0, 0.0)


def test_figures_are_means_over_seeds_and_scenes_and_the_gain_is_paired() -> None:
    errors = {
        4: [[SceneErrors(0.5, 0.3), SceneErrors(0.3, 0.1)], [SceneErrors(0.7, 0.3), SceneErrors(0.1, 0.1)]],
        16: [[SceneErrors(0.3, 0.2), SceneErrors(0.1, 0.0)], [SceneErrors(0.5, 0.2), SceneErrors(0.1, 0.0)]],
    }
    results = summary(errors)
    assert results["error_4"] == pytest.approx(0.4) and results["error_16"] == pytest.approx(0.25)
    assert results["context_error_16"] == pytest.approx(0.1)
    assert results["error_4_range"] == pytest.approx(0.0) and results["error_16_range"] == pytest.approx(0.1)
    gains = np.array([0.6 - 0.4, 0.2 - 0.1])
    assert results["gain_4_to_16"] == pytest.approx(gains.mean())
    assert results["gain_4_to_16_stderr"] == pytest.approx(gains.std(ddof=1) / np.sqrt(2))
    assert results["context_gain_4_to_16"] == pytest.approx(0.1)
    assert results["context_gain_4_to_16_stderr"] == pytest.approx(0.0)
