"""Training runs: reproducible, resumable, better than the linear baseline."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.earth.training.masking import mask_context
from thalweg.earth.training.modules import AutoencoderModule
from thalweg.earth.training.tiles import RandomTiles, TrainingSite, draw_targets
from thalweg.errors import UsageError
from thalweg.simulate import simulate


@pytest.fixture(scope="module")
def landscape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "landscape"
    simulate(seed=3, size=48, years=1).write(folder)
    return folder


def losses_on(stage: AutoencoderModule, site: TrainingSite) -> float:
    """Mean loss on tiles of the trained side, with the same masking every time."""
    total = []
    for index, tile in zip(range(24), RandomTiles([site], 5, 12, 2), strict=False):
        torch.manual_seed(index)
        with torch.no_grad():
            total.append(float(torch.stack(list(stage.losses(tile).values())).sum()))
    return sum(total) / len(total)


def test_training_improves_on_the_linear_baseline(landscape: Path, tmp_path: Path) -> None:
    site = TrainingSite.load(landscape, ["sentinel-2"])
    start = TrainingConfig(steps=0, tile=12, centres=2, start_tiles=24)
    trained = start.model_copy(update={"steps": 150, "warm_up": 5, "learning_rate": 1e-3, "validation_tiles": 1})
    before, after = (
        losses_on(
            AutoencoderModule(train_autoencoder(SENTINEL_2, [landscape], tmp_path / n, tmp_path / f"{n}.run", s), s),
            site,
        )
        for n, s in (("start", start), ("trained", trained))
    )
    assert after < before


def test_same_seed_same_weights(landscape: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=3, tile=8, centres=1, start_tiles=4, validation_tiles=1)
    first, second = (
        train_autoencoder(SENTINEL_1, [landscape], tmp_path / n, tmp_path / f"{n}.run", settings).state_dict()
        for n in ("first", "second")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_training_resumes(landscape: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from thalweg.earth.training.fit import *; from thalweg.earth.sensors import SENTINEL_1\n"
        "train_autoencoder(SENTINEL_1, [sys.argv[1]], sys.argv[2], sys.argv[3],"
        " TrainingConfig(steps=230, tile=8, centres=1, start_tiles=4, validation_tiles=1))"
    )
    command = [sys.executable, "-c", program, str(landscape), str(tmp_path / "out"), str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    saved = tmp_path / "run" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert saved.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    step = torch.load(saved, weights_only=True)["global_step"]
    assert step >= 200
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Restored" in again.stderr or "Restoring" in again.stderr
    assert (tmp_path / "out" / "model.json").exists()
    assert torch.load(saved, weights_only=True)["global_step"] >= step


def test_training_and_validation_share_no_pixel(landscape: Path) -> None:
    site = TrainingSite.load(landscape, ["sentinel-2"])
    columns = torch.arange(site.size[1] + 14, dtype=torch.float32).expand(*site.contexts["sentinel-2"].values.shape)
    marked = TrainingSite(
        site.name,
        {"sentinel-2": type(site.contexts["sentinel-2"])(
            columns, site.contexts["sentinel-2"].valid, site.contexts["sentinel-2"].days,
            site.contexts["sentinel-2"].present,
        )},
        site.centre_days,
        site.size,
    )  # fmt: skip
    seen = [
        {int(c) for tile, _ in zip(RandomTiles([marked], 1, 12, 1, validation=v), range(40), strict=False)
         for c in tile.contexts["sentinel-2"].values[0, 0, 0]}
        for v in (None, 40)
    ]  # fmt: skip
    assert max(seen[0]) < min(seen[1])


def test_masking_removes_and_adds_nothing(landscape: Path) -> None:
    torch.manual_seed(0)
    site = TrainingSite.load(landscape, ["sentinel-2"])
    context = site.contexts["sentinel-2"]
    masking = TrainingConfig().masking
    shares = []
    for _ in range(20):
        masked = mask_context(context, masking)
        remaining = masked.valid.bool().expand_as(masked.values) & masked.present[:, None, None]
        assert torch.equal(masked.values[remaining], context.values[remaining])
        assert bool((masked.values[~remaining] == 0).all())
        assert bool((masked.valid <= context.valid).all())
        shares.append(float(masked.valid.sum() / context.valid.sum()))
    assert min(shares) < 0.7 < max(shares) + 0.3


def test_targets_hold_the_centre_and_its_neighbours(landscape: Path) -> None:
    torch.manual_seed(0)
    site = TrainingSite.load(landscape, ["sentinel-2"])
    wanted = draw_targets(site.contexts["sentinel-2"], site.centre_days[3:5], 5, 0.5)
    assert wanted.values.shape[:3] == (2, 5, 10)
    assert float(wanted.days.abs().min(1).values.max()) < 0.5
    assert float(wanted.weight.max()) <= 1


def test_fusion_needs_the_reference_sensor(landscape: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=0, tile=8, centres=1, start_tiles=4)
    train_autoencoder(SENTINEL_1, [landscape], tmp_path / "s1", tmp_path / "run", settings)
    with pytest.raises(UsageError, match="no reference sensor"):
        train_fusion([tmp_path / "s1"], [landscape], tmp_path / "model", tmp_path / "run", settings)
    assert not (tmp_path / "model").exists()


def test_another_encoder_is_refused(landscape: Path, tmp_path: Path) -> None:
    import shutil

    settings = TrainingConfig(steps=0, tile=8, centres=1, start_tiles=4)
    for seed, name in ((0, "s2"), (1, "other")):
        config = settings.model_copy(update={"seed": seed})
        train_autoencoder(SENTINEL_2, [landscape], tmp_path / name, tmp_path / "run", config)
    train_fusion([tmp_path / "s2"], [landscape], tmp_path / "model", tmp_path / "run", settings)
    shutil.rmtree(tmp_path / "model" / "sentinel-2")
    shutil.copytree(tmp_path / "other", tmp_path / "model" / "sentinel-2")
    with pytest.raises(UsageError, match="hash differs"):
        EarthModel.load(tmp_path / "model")


def test_a_run_folder_of_another_training_is_refused(landscape: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=1, tile=8, centres=1, start_tiles=4, validation_tiles=1)
    train_autoencoder(SENTINEL_1, [landscape], tmp_path / "first", tmp_path / "run", settings)
    other = settings.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match="another training"):
        train_autoencoder(SENTINEL_1, [landscape], tmp_path / "second", tmp_path / "run", other)
    assert not (tmp_path / "second").exists()
