"""Loading of models from folders and from the hub's cache, without a network."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from pipelines import BUILDERS, build, generator, size
from thalweg.diffusion import DiffusionGenerator, load
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-sd"
    build("sd").save_pretrained(path)
    return path


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache without a network."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_folder(builder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = build(builder)
    pipeline.save_pretrained(tmp_path / f"tiny-{builder}")
    made = DiffusionGenerator(pipeline, f"tiny-{builder}", steps=2, **size(builder))
    capfd.readouterr()
    loaded = load(tmp_path / f"tiny-{builder}", steps=2, **size(builder))
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
    assert loaded.model == made.model
    assert type(loaded.adapter) is type(made.adapter)
    images = loaded.render(loaded.embed("a red ball"), (1,))
    torch.testing.assert_close(images, made.render(made.embed("a red ball"), (1,)), rtol=0, atol=1e-5)


def test_settings_and_precision(folder: Path) -> None:
    model = load(str(folder), dtype=torch.bfloat16, scheduler="euler", guidance_scale=3.0)
    assert (model.adapter.network.dtype, model.settings.guidance_scale) == (torch.bfloat16, 3.0)
    assert type(model.schedule.scheduler).__name__ == "EulerDiscreteScheduler"
    assert load(folder).adapter.network.dtype == torch.float32


def test_a_cached_hub_model_offline(folder: Path, offline: Path) -> None:
    commit = "0" * 40
    repository = offline / "models--someone--tiny-sd"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    model = load("someone/tiny-sd", steps=2)
    assert model.model.name == "someone/tiny-sd"
    assert model.model.hash == generator("sd").model.hash


def test_no_network(offline: Path) -> None:
    with pytest.raises(ThalwegError, match=r"^someone/thing: no network, and the model is not in the cache; [^\n]*$"):
        load("someone/thing")


def test_no_network_raises_one_line_error(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("huggingface_hub.utils._http")
    said: list[logging.LogRecord] = []

    def unreachable(*arguments: object) -> None:
        logger.warning("'Name or service not known' thrown while requesting HEAD; retrying")
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    monkeypatch.setattr(logger, "handle", said.append)
    with pytest.raises(ThalwegError, match="no network"):
        load("someone/thing")
    assert said == []


def test_an_unknown_name(offline: Path) -> None:
    with pytest.raises(UsageError, match=r"hub model's name \(owner/model\), got 'thing'"):
        load("thing")


def test_an_unknown_hub_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        answer: Any = SimpleNamespace(headers={}, request=None)
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=answer)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    with pytest.raises(UsageError, match=r"supported pipeline, StableDiffusionPipeline, .*; found no someone/thing"):
        load("someone/thing")


def test_bad_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a diffusers folder, found no model_index\.json in "):
        load(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text("{}")
    with pytest.raises(UsageError, match="names no pipeline class"):
        load(tmp_path)
    index.write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(UsageError, match=r"supported pipeline, StableDiffusionPipeline, .*; got a KandinskyPipeline"):
        load(tmp_path)


def test_a_damaged_model(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    shutil.rmtree(broken / "unet")
    with pytest.raises(ThalwegError, match=r"^broken: its unet: expected a folder unet, found none; [^\n]*$"):
        load(broken)
    shutil.copytree(folder / "unet", broken / "unet")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(
        ThalwegError, match=r"^broken: its unet: its diffusion_\S* is not a whole safetensors file: [^\n]*$"
    ):
        load(broken)


def test_settings_are_checked_before_the_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", None)
    with pytest.raises(UsageError, match="steps to be a whole number from 1"):
        load(folder, steps=0)
