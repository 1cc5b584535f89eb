"""Models and devices on the command line: relative folders, another place to resume from, exit codes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from thalweg.diffusion import miniature

FEW = ("--steps", 3)


@pytest.fixture
def small(cli: Callable) -> str:
    """A copy of the miniature under a relative path of two parts, as a hub name has them."""
    return str(shutil.copytree(miniature.SHIPPED, Path("models") / "small"))


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "expected a device such as cpu, cuda, cuda:1, mps or xpu"),
        ("meta", "expected a device such as cpu"),
        ("tpu", "expected a device such as cpu"),
        ("cuda:77", "expected a device of this machine (cpu"),
    ],
)
def test_an_absent_device_raises_one_line_error(cli: Callable, device: str, words: str) -> None:
    ran = cli("generate", "a ball", "out", "--device", device, *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert words in ran.err and repr(device) in ran.err
    assert not Path("out").exists()


def test_a_used_folder_is_refused_before_the_model_is_loaded(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.diffusion.config.ModelConfig.load", pytest.fail)
    Path("out").mkdir()
    Path("out", "notes.txt").write_text("mine")
    ran = cli("generate", "a ball", "out", *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "expected a new or empty folder" in ran.err


def test_a_device_in_capitals(cli: Callable) -> None:
    assert cli("generate", "a ball", "out", "--device", "CPU", *FEW).code == 0


def test_missing_weights_end_with_exit_code_1(cli: Callable, small: str) -> None:
    path = Path(small) / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_out.bias"]
    save_file(tensors, path, {"format": "pt"})
    ran = cli("generate", "a ball", "out", "--model", small, *FEW)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "small: its unet: 1 of its weights are missing: conv_out.bias" in ran.err


def test_a_run_with_a_relative_model_is_resumed_from_elsewhere(
    cli: Callable, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ("--metric", "sharpness", "--seeds", "0", "--unseen", "5", "--iterations", "1", "--model", small, *FEW)
    assert cli("steer", "optimize", "a ball", "run", *how).code == 0
    run = Path("run").resolve()
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    ran = cli("steer", "resume", run)
    assert ran.code == 0, ran.err
    assert cli("steer", "resume", run, "--device", "gpu").code == 2
    moved = Path("../models/small").resolve().rename(Path("moved").resolve())
    again = (*how[:-3], "moved", *FEW)
    assert moved.is_dir() and cli("steer", "optimize", "a ball", run, *again).code == 0
