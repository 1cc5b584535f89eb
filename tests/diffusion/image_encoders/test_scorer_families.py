"""CLIP, CLIP-H (PickScore, HPSv2) and SigLIP scorers: the library's own features, gradients, invalid folders."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from metric_models import save_clip, save_siglip
from thalweg.diffusion.clip import load_scorer
from thalweg.errors import ThalwegError, UsageError

SAVERS: dict[str, Callable[[Path], Path]] = {
    "clip": save_clip,
    "clip_h": lambda folder: save_clip(folder, hidden_act="gelu", hidden_size=32, num_attention_heads=4),
    "siglip": save_siglip,
}


@pytest.fixture(scope="module", params=SAVERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVERS[request.param](tmp_path_factory.mktemp(request.param))


def random_image(height: int, width: int) -> tuple[Image.Image, Tensor]:
    """Return an 8-bit image, and the same as a tensor (1, 3, H, W) in 0..1."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def library(folder: Path) -> tuple[Any, Any]:
    """Return the library's own model and image processor of a folder."""
    import transformers

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    prefix = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    model = getattr(transformers, f"{prefix}Model").from_pretrained(folder).eval()
    return model, getattr(transformers, f"{prefix}ImageProcessor").from_pretrained(folder)


def test_image_features_and_gradient_are_the_librarys(folder: Path) -> None:
    model, processor = library(folder)
    scorer = load_scorer(str(folder))
    picture, image = random_image(32, 32)
    pixels = processor(picture, return_tensors="pt").pixel_values.requires_grad_()
    theirs = normalize(model.get_image_features(pixels).pooler_output, dim=-1)
    image.requires_grad_()
    ours = scorer.embed_images(image)
    assert torch.allclose(ours, theirs, atol=1e-6)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (theirs * weights).sum().backward()
    (ours * weights).sum().backward()
    assert pixels.grad is not None and image.grad is not None
    expected = pixels.grad / torch.tensor([0.2, 0.25, 0.3])[:, None, None]
    assert torch.allclose(image.grad, expected, rtol=1e-4, atol=1e-6)
    assert bool(image.grad.abs().amax((0, 1)).gt(0).all())  # every pixel contributes


@pytest.mark.parametrize("size", [(32, 46), (45, 32), (64, 64), (100, 70)])
def test_preprocessing_of_other_sizes_is_the_librarys(folder: Path, size: tuple[int, int]) -> None:
    picture, image = random_image(*size)
    theirs = library(folder)[1](picture, return_tensors="pt").pixel_values
    ours = load_scorer(str(folder)).preprocess(image)
    assert ours.shape == theirs.shape == (1, 3, 32, 32)
    # the library rounds to 8 bits and clips after resizing, which the division by 0.2 enlarges
    mean, deviation = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]
    assert float(((ours * deviation + mean).clamp(0, 1) - (theirs * deviation + mean)).abs().max()) < 1.5 / 255


def test_text_features_are_the_librarys(folder: Path) -> None:
    from transformers import AutoTokenizer

    model, _ = library(folder)
    words = AutoTokenizer.from_pretrained(folder)
    if model.config.model_type == "siglip":
        tokens = {"input_ids": words("a red ball", padding="max_length", max_length=16, return_tensors="pt").input_ids}
    else:
        tokens = dict(words("a red ball", return_tensors="pt"))
    with torch.no_grad():
        theirs = normalize(model.get_text_features(**tokens).pooler_output[0], dim=-1)
    scorer = load_scorer(str(folder))
    assert torch.allclose(scorer.embed_text("a red ball"), theirs, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no word is unknown because of its capitals
        assert torch.allclose(scorer.embed_text("A Red ball"), theirs, atol=1e-6)
    assert not torch.allclose(scorer.embed_text("a blue cube"), theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "do_resize in its image preprocessing to be true, got False"),
        ({"rescale_factor": 1.0}, "rescale_factor in its image preprocessing to be 1/255, got 1.0"),
        ({"resample": 1}, r"resample in its image preprocessing to be 2 \(bilinear\) or 3 \(bicubic\), got 1"),
        ({"size": {"longest_edge": 32}}, "size in its image preprocessing to be a shortest_edge, or a height"),
        ({"image_mean": [0.5, 0.5]}, "image_mean in its image preprocessing to be 3 numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std in its image preprocessing to be 3 numbers above 0"),
        ({"do_center_crop": True, "crop_size": 64}, "crop_size in its image preprocessing to be at most its size"),
        ({"size": {"height": 16, "width": 16}}, r"expected preprocessing to 32 x 32 pixels, got \(16, 16\)"),
    ],
)
def test_other_preprocessing_raises_one_line_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_siglip(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UsageError, match=message) as caught:
        load_scorer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_folders_that_lack_files_raise_one_line_error(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match=r"expected preprocessor_config\.json or processor_config\.json, found none"):
        load_scorer(str(copy))
    for name in ("tokenizer.json", "vocab.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(ThalwegError, match=r"copy: the scorer: expected .*tokenizer\.json"):
        load_scorer(str(copy))


def test_older_files_with_numbers_as_sizes_are_read(tmp_path: Path) -> None:
    save_clip(tmp_path)
    before = load_scorer(str(tmp_path)).preprocess
    (tmp_path / "processor_config.json").unlink()
    old = {
        "size": 32,
        "crop_size": 32,
        "do_center_crop": True,
        "image_mean": before.mean,
        "image_std": before.deviation,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert load_scorer(str(tmp_path)).preprocess == before


def test_the_type_of_the_model_is_that_of_its_config(tmp_path: Path) -> None:
    save_siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "siglip2"}))
    with pytest.raises(UsageError, match="expected a CLIP or SigLIP model, got one of the type 'siglip2'"):
        load_scorer(str(tmp_path))
