"""DINOv2 encoders and the metric dino: the library's own features and gradient, invalid folders."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from metric_models import DEVIATION, save_clip, save_dino
from thalweg.diffusion.config import ModelConfig
from thalweg.diffusion.image_encoders.dino import load_dino
from thalweg.errors import UsageError
from thalweg.steer.metrics.parsing import parse


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_features_and_gradient_are_the_librarys(tmp_path: Path, kind: str) -> None:
    import transformers

    save_dino(tmp_path, kind)
    image = torch.randint(0, 256, (2, 3, 36, 36), generator=torch.Generator().manual_seed(0)).float() / 255
    pictures = [Image.fromarray((255 * one).round().byte().permute(1, 2, 0).numpy()) for one in image]
    network = getattr(transformers, f"{kind}Model").from_pretrained(tmp_path).eval()
    processor = transformers.BitImageProcessor.from_pretrained(tmp_path)
    pixels = processor(pictures, return_tensors="pt").pixel_values.requires_grad_()
    theirs = normalize(network(pixels).pooler_output, dim=-1)
    ours = load_dino(str(tmp_path)).embed_images(image.requires_grad_())
    assert torch.allclose(ours, theirs, atol=1e-6)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (theirs * weights).sum().backward()
    (ours * weights).sum().backward()
    assert pixels.grad is not None and image.grad is not None
    expected = pixels.grad / torch.tensor(DEVIATION)[:, None, None]
    assert torch.allclose(image.grad[..., 2:34, 2:34], expected, rtol=1e-4, atol=1e-6)
    assert not bool(image.grad[..., :2, :].any())  # beyond the crop


def test_the_metric_is_the_similarity_to_the_file(tmp_path: Path) -> None:
    config = ModelConfig(dino=str(save_dino(tmp_path / "dino")))
    images = torch.randint(0, 256, (2, 3, 36, 36), generator=torch.Generator().manual_seed(2)).float() / 255
    file = tmp_path / "reference.png"
    Image.fromarray((255 * images[0]).round().byte().permute(1, 2, 0).numpy()).save(file)
    scores = parse(f"dino: {file}", loaders=config.metric_loaders)(images)
    assert float(scores[0]) == pytest.approx(1, abs=1e-5)
    assert float(scores[1]) < float(scores[0]) - 1e-4
    with pytest.raises(UsageError, match="expected `dino` to compare images with"):
        parse(f"dino: {file}", loaders=ModelConfig().metric_loaders)
    with pytest.raises(UsageError, match="metric 'dino' needs a DINOv2 model, and there is none"):
        parse(f"dino: {file}")
    with pytest.raises(UsageError, match="metric dino reads a file of this machine"):
        parse(f"dino: {file}", read_files=False, loaders=config.metric_loaders)


@pytest.mark.parametrize(
    ("save", "change", "message"),
    [
        (save_clip, {}, "expected a DINOv2 model, got one of the type 'clip'"),
        (save_dino, {"crop_size": 30}, r"expected preprocessing to a multiple of 8 pixels, got \(30, 30\)"),
        (save_dino, {"do_center_crop": False}, "expected preprocessing to a multiple of 8 pixels, got None"),
    ],
)
def test_other_folders_raise_one_line_error(tmp_path: Path, save: Any, change: dict[str, Any], message: str) -> None:
    save(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    if change:
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UsageError, match=message) as caught:
        load_dino(str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"found no config\.json in it"):
        load_dino(str(tmp_path.parent))
