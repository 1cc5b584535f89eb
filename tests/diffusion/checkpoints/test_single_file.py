"""Single-file checkpoints: the images and the identity of the folder, bases, and one line for what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from original_layout import open_clip_layout, original_layout, write_checkpoint
from pipelines import build
from thalweg.diffusion import load
from thalweg.diffusion.config import ModelConfig
from thalweg.errors import ThalwegError, UsageError

SIZE = {"steps": 2, "height": 16, "width": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny pipelines, by the name of their builder."""
    root = tmp_path_factory.mktemp("bases")

    def folder(builder: str) -> Path:
        if not (root / builder).exists():
            build(builder).save_pretrained(root / builder)
        return root / builder

    return folder


def refused(error: type[ThalwegError], path: Path, **given: Any) -> str:
    with pytest.raises(error) as raised:
        load(path, **given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("builder", ["sd", "sdxl"])
def test_a_file_is_the_model_of_its_folder(builder: str, folders: Callable[[str], Path], tmp_path: Path) -> None:
    path = write_checkpoint(build(builder), tmp_path / "dream.safetensors")
    model, plain = load(path, base=folders(builder), **SIZE), load(folders(builder), **SIZE)
    assert model.model.name == "dream"
    assert (model.model.hash, model.model.bfloat16_hash) == (plain.model.hash, plain.model.bfloat16_hash)
    images = model.render(model.embed("a red ball"), (1, 2))
    torch.testing.assert_close(images, plain.render(plain.embed("a red ball"), (1, 2)), rtol=0, atol=1e-5)


def test_the_second_text_encoders_layout(folders: Callable[[str], Path], tmp_path: Path) -> None:
    tensors = original_layout(build("sd"))
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("cond_stage_model.")}
    encoder = {
        f"cond_stage_model.model.{name}": value for name, value in open_clip_layout(build("sd").text_encoder).items()
    }
    save_file(rest | encoder | {"cond_stage_model.model.logit_scale": torch.ones(())}, tmp_path / "two.safetensors")
    assert load(tmp_path / "two.safetensors", base=folders("sd")).model.hash == load(folders("sd")).model.hash


def test_half_precision_shares_the_identity(folders: Callable[[str], Path], tmp_path: Path) -> None:
    path = write_checkpoint(build("sd"), tmp_path / "full.safetensors")
    half = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(half, tmp_path / "half.safetensors")
    full, small = load(path, base=folders("sd")), load(tmp_path / "half.safetensors", base=folders("sd"))
    assert small.adapter.network.dtype == torch.float32
    assert small.model.matches(full.model)
    tiny = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}
    save_file(tiny, tmp_path / "tiny.safetensors")
    weight = load(tmp_path / "tiny.safetensors", base=folders("sd")).adapter.network.conv_in.weight
    assert torch.equal(weight, tiny["model.diffusion_model.input_blocks.0.0.weight"].float())
    narrow = load(path, base=folders("sd"), dtype="bfloat16")
    assert narrow.adapter.network.dtype == torch.bfloat16
    assert narrow.model.hash == full.model.hash


def test_parts_that_the_file_lacks_are_those_of_the_base(folders: Callable[[str], Path], tmp_path: Path) -> None:
    tensors = original_layout(build("sd"))
    pruned = {name: tensor for name, tensor in tensors.items() if not name.startswith("first_stage_model.")}
    save_file(pruned, tmp_path / "pruned.safetensors")
    images = [
        model.render(model.embed("cone"), (1,))
        for model in (load(tmp_path / "pruned.safetensors", base=folders("sd"), **SIZE), load(folders("sd"), **SIZE))
    ]
    assert torch.equal(*images)
    (bare := tmp_path / "bare").mkdir()
    for file in folders("sd").rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            (bare / file.relative_to(folders("sd"))).parent.mkdir(exist_ok=True)
            (bare / file.relative_to(folders("sd"))).write_bytes(file.read_bytes())
    said = refused(ThalwegError, tmp_path / "pruned.safetensors", base=bare)
    assert "its vae (of the base model, the file has none): expected weights in" in said
    whole = write_checkpoint(build("sd"), tmp_path / "whole.safetensors")
    assert load(whole, base=bare).model.hash == load(folders("sd")).model.hash, "a base needs no weights"


def test_files_that_do_not_fit(folders: Callable[[str], Path], tmp_path: Path) -> None:
    path, tensors = tmp_path / "dream.safetensors", original_layout(build("sd"))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        (
            {first: torch.zeros(8, 9, 3, 3)},
            "its unet: 1 of its weights have another shape: conv_in.weight (8, 9, 3, 3)",
        ),
        ({first: tensors[first] * torch.nan}, "its unet: 1 of its weights hold NaN or infinity: conv_in.weight"),
        (
            {first: tensors[first].char()},
            "its unet: expected floating weights, its file holds integers in conv_in.weight",
        ),
        ({"v_pred": torch.ones(())}, "it predicts velocity, the base model's scheduler is of 'epsilon'"),
        ({"conditioner.embedders.0.model.ln_final.bias": torch.ones(2)}, "expected a whole model, got a refiner"),
    ]
    for changes, message in cases:
        save_file(tensors | changes, path)
        assert message in refused(ThalwegError, path, base=folders("sd"))
    missing = {name: tensor for name, tensor in tensors.items() if "middle_block.1.norm" not in name}
    save_file(missing, path)
    assert "2 of its weights are missing: mid_block.attentions.0.norm.bias" in refused(
        ThalwegError, path, base=folders("sd")
    )
    save_file(tensors, path)
    said = refused(UsageError, path, base=folders("sdxl"))
    assert "its weights are those of a StableDiffusionPipeline, the base" in said
    assert "found no model_index.json" in refused(UsageError, path, base=tmp_path)
    assert "only a single-file checkpoint needs one" in refused(UsageError, folders("sd"), base=folders("sd"))
    path.write_bytes(path.read_bytes()[:-100])
    assert "is not a whole safetensors file" in refused(ThalwegError, path, base=folders("sd"))


@pytest.mark.parametrize(
    ("builder", "usual"),
    [("sd", "stable-diffusion-v1-5/stable-diffusion-v1-5"), ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0")],
)
def test_the_usual_base_offline(
    builder: str, usual: str, folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    path = write_checkpoint(build(builder), tmp_path / "dream.safetensors")
    said = refused(ThalwegError, path)
    assert f"run `hf download {usual} --include '*.json' '*.txt' '*.model'` with a network, or give the folder" in said
    commit = "0" * 40
    repository = cache / f"models--{usual.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in folders(builder).rglob("*"):
        if file.suffix in (".json", ".txt"):
            copied = repository / "snapshots" / commit / file.relative_to(folders(builder))
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
    assert load(path).model.hash == load(folders(builder)).model.hash


def test_a_model_config_of_a_file(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(build("sd"), tmp_path / "dream.safetensors")
    monkeypatch.chdir(tmp_path)
    config = ModelConfig("dream.safetensors", str(folders("sd")))
    assert config.model == str(tmp_path.resolve() / "dream.safetensors")
    assert config.load().model.name == "dream"
    with pytest.raises(UsageError, match="only a single-file checkpoint needs one"):
        ModelConfig(base=str(folders("sd")))
    with pytest.raises(UsageError, match="folder as `clip`, got the file"):
        ModelConfig(clip="dream.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dream.safetensors").rename(tmp_path / "folder" / "dream.safetensors")
    assert "dream.safetensors there: it is a single-file checkpoint of an image model" in refused(
        UsageError, tmp_path / "folder"
    )
