"""Images to start from on the command line: runs that keep them, and one line for what does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FEW = ("--steps", 4)
START = ("--image", "photo.png", "--strength", 0.5, "--image-mask", "mask.png")


@pytest.fixture(autouse=True)
def files(cli: Callable) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save("mask.png")


def test_the_miniature_starts_from_an_image(cli: Callable) -> None:
    assert cli("generate", "a red ball", "noise", "--seeds", "0-1", *FEW).code == 0
    ran = cli("generate", "a red ball", "out", "--seeds", "0-1", *START, "--strength", 1, *FEW)
    assert ran.code == 0, ran.err
    first, second, other = (
        np.asarray(Image.open(file), float) for file in ("out/seed-0.png", "out/seed-1.png", "noise/seed-0.png")
    )
    left, right = (np.abs(first - second)[:, columns].mean() for columns in (slice(0, 24), slice(40, 64)))
    assert left < 0.2 * right, "the seeds show inside of the mask"
    assert np.abs(first - other).mean() > 5


def test_a_run_keeps_its_image(cli: Callable) -> None:
    how = ("--metric", "sharpness", "--seeds", "0", "--unseen", "5", *START, *FEW)
    assert cli("steer", "optimize", "a ball", "run", *how, "--iterations", 1).code == 0
    assert cli("steer", "resume", "run").code == 0
    plain = cli("steer", "optimize", "a ball", "run", *how[:-8], *FEW, "--iterations", 1)
    assert (plain.code, plain.err.count("\n")) == (2, 1) and "the run there has image" in plain.err
    Image.new("RGB", (64, 64)).save("photo.png")
    for changed in (cli("steer", "resume", "run"), cli("steer", "optimize", "a ball", "run", *how, "--iterations", 1)):
        assert (changed.code, changed.err.count("\n")) == (2, 1)
    Path("photo.png").unlink()
    gone = cli("steer", "resume", "run")
    assert (gone.code, gone.err.count("\n")) == (2, 1) and "found no" in gone.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--image", "none.png"), "expected an image file as --image, found no 'none.png'"),
        (("--strength", 0.5), "expected an --image with a --strength, got none"),
        (("--image", "photo.png", "--strength", 2), "expected --strength to be a number"),
        (("--image", "photo.png", "--strength", 0.1), "expected a --strength that leaves a step of 4, got 0.1"),
        (("--image", "photo.png", "--width", 128), "or set --height 128 for a width of 128"),
        (("--image", "photo.png", "--image-mask", "photo.txt"), "expected an image file as --image-mask"),
    ],
)
def test_bad_options_leave_nothing(cli: Callable, options: tuple[object, ...], words: str) -> None:
    ran = cli("generate", "a ball", "out", *options, *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert words in ran.err
    assert not Path("out").exists()
