"""Training runs: reproducible, resumable, better than their closed-form start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE, TRAITS
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.earth.training.modules import AutoencoderModule, EncodedTiles, FusionModule
from thalweg.earth.training.tiles import RandomTiles, TileShape, TrainingSite
from thalweg.errors import UsageError
from thalweg.simulate import simulate


@pytest.fixture(scope="module")
def landscape_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "landscape"
    simulate(seed=3, size=48, years=1).write(folder)
    return folder


def losses_on(stage: AutoencoderModule, site: TrainingSite) -> float:
    """Mean loss on tiles of the trained side, with the same masking every time."""
    total = []
    for index, tile in zip(range(24), RandomTiles([site], 5, TileShape(12, centres=2)), strict=False):
        torch.manual_seed(index)
        with torch.no_grad():
            total.append(float(torch.stack(list(stage.losses(tile).values())).sum()))
    return sum(total) / len(total)


def test_training_improves_on_the_closed_form_start(landscape_folder: Path, tmp_path: Path) -> None:
    site = TrainingSite.load(landscape_folder, ["sentinel-2"])
    start = TrainingConfig(steps=0, tile=12, centres=2, start_tiles=24)
    trained = start.model_copy(update={"steps": 150, "warm_up": 5, "learning_rate": 1e-3, "validation_tiles": 1})
    before, after = (
        losses_on(
            AutoencoderModule(
                train_autoencoder(SENTINEL_2, [landscape_folder], tmp_path / n, tmp_path / f"{n}.run", s), s
            ),
            site,
        )
        for n, s in (("start", start), ("trained", trained))
    )
    assert after < before


def test_same_seed_same_weights(landscape_folder: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=3, tile=8, centres=1, start_tiles=4, validation_tiles=1)
    first, second = (
        train_autoencoder(SENTINEL_1, [landscape_folder], tmp_path / n, tmp_path / f"{n}.run", settings).state_dict()
        for n in ("first", "second")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_training_resumes(landscape_folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from thalweg.earth.training.fit import *; from thalweg.earth.sensors import SENTINEL_1\n"
        "train_autoencoder(SENTINEL_1, [sys.argv[1]], sys.argv[2], sys.argv[3],"
        " TrainingConfig(steps=230, tile=8, centres=1, start_tiles=4, validation_tiles=1))"
    )
    command = [sys.executable, "-c", program, str(landscape_folder), str(tmp_path / "out"), str(tmp_path / "run")]
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


def test_weights_are_recorded_and_part_of_the_run(landscape_folder: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=1, tile=8, centres=1, start_tiles=4, validation_tiles=1, tiles=1)
    run, twice = tmp_path / "run", [landscape_folder, landscape_folder]
    train_autoencoder(SENTINEL_1, twice, tmp_path / "weighted", run, settings, weights=[1.0, 0.25])
    record = read_checkpoint_card(tmp_path / "weighted").training
    assert record["weights"] == [1.0, 0.25]
    assert record["data"] == ["landscape", "landscape"]
    with pytest.raises(UsageError, match="another training"):
        train_autoencoder(SENTINEL_1, twice, tmp_path / "equal", run, settings)
    train_autoencoder(SENTINEL_1, twice, tmp_path / "equal", tmp_path / "other", settings)
    assert "weights" not in read_checkpoint_card(tmp_path / "equal").training


def test_encoded_tiles_are_those_of_the_encoders(landscape_folder: Path, fitted_folder: Path) -> None:
    model = EarthModel.load(fitted_folder)
    config = TrainingConfig()
    tiles = RandomTiles([TrainingSite.load(landscape_folder, model.sensors)], 0, TileShape(8, centres=2))
    first, second = (EncodedTiles(model, tiles, config, 3, endless=False) for _ in range(2))
    assert len(list(first)) == 3
    for one, other in zip(first, second, strict=True):
        for name, encoding in model.encode(one.tile.contexts, one.tile.centre_days, one.tile.stride).items():
            assert torch.equal(encoding.values, one.full[name].values)
            assert torch.equal(one.full[name].values, other.full[name].values)
        assert set(one.masked) <= set(one.full)
        assert all(torch.equal(one.masked[name].values, other.masked[name].values) for name in one.masked)
    endless = iter(EncodedTiles(model, tiles, config, 3, endless=True))
    drawn = [next(endless) for _ in range(6)]
    for part in (drawn[:3], drawn[3:]):
        assert len({id(sample) for sample in part}) == 3


def test_fusing_leaves_the_encoders_unchanged_and_learns_the_traits(
    landscape_folder: Path, fitted_folder: Path
) -> None:
    model = EarthModel.load(fitted_folder)
    model.fusion.requires_grad_(True)
    site = TrainingSite.load(landscape_folder, model.sensors)
    known = set(site.truth)
    assert {"lai", "chlorophyll", "soil_moisture"} <= known
    for name in known:
        for size in (SMALL_SIZE, FULL_SIZE):
            head = model.fusion.trait_head(name, size)
            head.scale.fill_(float(site.truth[name].nan_to_num().std()))
    config = TrainingConfig(steps=8, warm_up=1, learning_rate=1e-3)
    module = FusionModule(model, config)
    encoders = {name: value.clone() for name, value in model.autoencoders.state_dict().items()}
    heads = {name: value.clone() for name, value in model.fusion.state_dict().items()}
    optimizer = module.configure_optimizers()["optimizer"]
    encoded = EncodedTiles(model, RandomTiles([site], 0, TileShape(8, centres=2)), config, 3, endless=False)
    for sample in encoded:
        losses = module.losses(sample)
        assert {name for name in losses if name.startswith("trait/")} == {f"trait/{name}" for name in known}
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    after = model.autoencoders.state_dict()
    assert all(torch.equal(after[name], value) for name, value in encoders.items())
    changed = {name for name, value in model.fusion.state_dict().items() if not torch.equal(value, heads[name])}
    assert {f"traits.{name}.linear.weight" for name in known} <= changed
    assert {f"small_traits.{name}.linear.weight" for name in known} <= changed
    assert "linear.weight" in changed and "mean" not in changed


def test_a_model_of_simulated_landscapes_decodes_traits(landscape_folder: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(
        steps=3, tiles=1, tile=8, centres=2, start_tiles=16, validation_tiles=1, calibration_tiles=8, encoded_tiles=4
    )
    train_autoencoder(SENTINEL_2, [landscape_folder], tmp_path / "s2", tmp_path / "s2.run", settings)
    model = train_fusion([tmp_path / "s2"], [landscape_folder], tmp_path / "model", tmp_path / "run", settings)
    site = TrainingSite.load(landscape_folder, model.sensors)
    tile = next(iter(RandomTiles([site], 0, TileShape(8, 1, 2))))
    embeddings = model(tile.contexts, tile.centre_days).values
    for name in site.truth:
        trait = TRAITS[name]
        for size in (SMALL_SIZE, FULL_SIZE):
            assert model.fusion.trait_head(name, size).is_trained
            value, half_width = model.decode_trait(embeddings, name, size)
            assert value.shape == half_width.shape == (2, 8, 8)
            assert torch.isfinite(value).all() and value.min() >= 0 and value.max() <= trait.largest
            assert torch.isfinite(half_width).all() and (half_width > 0).all()


def test_fusion_needs_the_reference_sensor(landscape_folder: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=0, tile=8, centres=2, start_tiles=16, calibration_tiles=4)
    train_autoencoder(SENTINEL_1, [landscape_folder], tmp_path / "s1", tmp_path / "run", settings)
    with pytest.raises(UsageError, match="no reference sensor"):
        train_fusion([tmp_path / "s1"], [landscape_folder], tmp_path / "model", tmp_path / "run", settings)
    assert not (tmp_path / "model").exists()


def test_another_encoder_is_refused(landscape_folder: Path, tmp_path: Path) -> None:
    import shutil

    settings = TrainingConfig(steps=0, tile=8, centres=2, start_tiles=16, calibration_tiles=4)
    for seed, name in ((0, "s2"), (1, "other")):
        config = settings.model_copy(update={"seed": seed})
        train_autoencoder(SENTINEL_2, [landscape_folder], tmp_path / name, tmp_path / "run", config)
    train_fusion([tmp_path / "s2"], [landscape_folder], tmp_path / "model", tmp_path / "run", settings)
    shutil.rmtree(tmp_path / "model" / "sentinel-2")
    shutil.copytree(tmp_path / "other", tmp_path / "model" / "sentinel-2")
    with pytest.raises(UsageError, match="hash differs"):
        EarthModel.load(tmp_path / "model")


def test_a_run_folder_of_another_training_is_refused(landscape_folder: Path, tmp_path: Path) -> None:
    settings = TrainingConfig(steps=1, tile=8, centres=1, start_tiles=4, validation_tiles=1)
    train_autoencoder(SENTINEL_1, [landscape_folder], tmp_path / "first", tmp_path / "run", settings)
    other = settings.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match="another training"):
        train_autoencoder(SENTINEL_1, [landscape_folder], tmp_path / "second", tmp_path / "run", other)
    assert not (tmp_path / "second").exists()
