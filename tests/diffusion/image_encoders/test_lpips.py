"""LPIPS: the published formula written with torch's layers, its gradient, invalid folders."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from thalweg.diffusion.config import ModelConfig
from thalweg.diffusion.image_encoders.lpips import load_lpips
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.metrics.parsing import parse

WIDTHS = {"alexnet": (4, 5, 6, 5, 4), "vgg16": (3, 4, 5, 4, 3)}


def features(kind: str) -> nn.Sequential:
    """Return the layers of torchvision's `features`, with few channels."""
    a, b, c, d, e = WIDTHS[kind]
    torch.manual_seed(0)
    if kind == "alexnet":
        return nn.Sequential(
            *(nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(a, b, 5, padding=2), nn.ReLU()),
            *(nn.MaxPool2d(3, 2), nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
    layers: list[nn.Module] = []
    before = 3
    for width, count in zip((a, b, c, d, e), (2, 2, 3, 3, 3), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


TAPS = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}
"""Layers after which the published code takes the features."""


def save(folder: Path, kind: str) -> tuple[nn.Sequential, list[Tensor]]:
    """Save a trunk and heads as the folder has them, and return both."""
    folder.mkdir(parents=True, exist_ok=True)
    trunk = features(kind)
    heads = [torch.rand(1, width, 1, 1) for width in WIDTHS[kind]]
    weights = {f"features.{name}": tensor for name, tensor in trunk.state_dict().items()}
    save_file({**weights, "classifier.6.weight": torch.zeros(2, 2)}, folder / "trunk.safetensors")
    save_file({f"lin{index}.model.1.weight": head for index, head in enumerate(heads)}, folder / "heads.safetensors")
    return trunk, heads


def published(kind: str, trunk: nn.Sequential, heads: list[Tensor], image: Tensor, other: Tensor) -> Tensor:
    """Return LPIPS 0.1 of two images (3, H, W), position by position."""
    sides = []
    for picture in (image, other):
        values = ((2 * picture - 1) - picture.new_tensor([-0.030, -0.088, -0.188]).reshape(3, 1, 1)) / (
            picture.new_tensor([0.458, 0.448, 0.450]).reshape(3, 1, 1)
        )
        values, taken = values[None], []
        for index, layer in enumerate(trunk):
            values = layer(values)
            if index in TAPS[kind]:
                taken.append(values[0])
        sides.append(taken)
    total = image.new_zeros(())
    for first, second, head in zip(*sides, heads, strict=True):
        layer = image.new_zeros(())
        rows, columns = first.shape[1:]
        for row in range(rows):
            for column in range(columns):
                one, two = first[:, row, column], second[:, row, column]
                one, two = one / (one.norm() + 1e-10), two / (two.norm() + 1e-10)
                layer = layer + (head.flatten().to(one) * (one - two) ** 2).sum()
        total = total + layer / (rows * columns)
    return total


def pictures(size: int) -> Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "size"), [("alexnet", 67), ("vgg16", 34)])
def test_the_distance_is_the_published_formula(tmp_path: Path, kind: str, size: int) -> None:
    trunk, heads = save(tmp_path, kind)
    images = pictures(size)
    with torch.no_grad():
        found = load_lpips(str(tmp_path)).distances(images, images[0])
        expected = [published(kind, trunk, heads, image, images[0]) for image in images]
    assert float(found[0]) < 1e-12 and float(found[1]) > 1e-3
    assert torch.allclose(found, torch.stack(expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["alexnet", "vgg16"])
def test_the_gradient_is_that_of_finite_differences(tmp_path: Path, kind: str) -> None:
    save(tmp_path, kind)
    distance = load_lpips(str(tmp_path))
    images = pictures(36).double()
    image = images[1:2].requires_grad_()
    (gradient,) = torch.autograd.grad(distance.distances(image, images[0]).sum(), image)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        ends = [distance.distances(image + side * step * direction, images[0]).sum() for side in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)
    flat = torch.full((1, 3, 36, 36), 0.5, dtype=torch.float64, requires_grad=True)
    assert bool(torch.autograd.grad(distance.distances(flat, images[0]).sum(), flat)[0].isfinite().all())


def test_the_metric_is_the_distance_from_the_file_resized_to_the_images(tmp_path: Path) -> None:
    save(tmp_path / "lpips", "alexnet")
    config = ModelConfig(lpips=str(tmp_path / "lpips"))
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(3)).float() / 255
    for name, side in (("same.png", 64), ("larger.png", 128)):
        picture = Image.fromarray((255 * images[0]).round().byte().permute(1, 2, 0).numpy())
        picture.resize((side, side), Image.Resampling.NEAREST).save(tmp_path / name)
    metric = parse(f"lpips: {tmp_path / 'same.png'}", loaders=config.metric_loaders)
    scores = metric(images)
    assert not metric.maximize and float(scores[0]) == pytest.approx(0, abs=1e-6) and float(scores[1]) > 1e-3
    assert parse(f"lpips: {tmp_path / 'larger.png'}", loaders=config.metric_loaders)(images).shape == (2,)
    with pytest.raises(UsageError, match="expected `lpips` to compare images with, a folder"):
        parse(f"lpips: {tmp_path / 'same.png'}", loaders=ModelConfig().metric_loaders)
    with pytest.raises(UsageError, match="metric 'lpips' needs the weights of LPIPS, and there is none"):
        parse(f"lpips: {tmp_path / 'same.png'}")
    with pytest.raises(UsageError, match="metric lpips reads a file of this machine"):
        parse(f"lpips: {tmp_path / 'same.png'}", read_files=False, loaders=config.metric_loaders)
    with pytest.raises(UsageError, match="large enough for AlexNet, got 20 x 20"):
        metric(images[..., :20, :20])


def _without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def _with(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("lin3.model.1.weight"), "lin3.model.1.weight is missing"),
        (_without("features.6.bias"), "features.6.bias is missing"),
        (_without("features.0.weight"), "expected torchvision's AlexNet or VGG16"),
        (
            _with("lin1.model.1.weight", torch.rand(1, 9, 1, 1)),
            "of 1 x 5 x 1 x 1, got 1 x 9 x 1 x 1",
        ),
        (_with("features.3.weight", torch.rand(5, 4, 3, 3)), "of any x 4 x 5 x 5, got 5 x 4 x 3 x 3"),
        (_with("lin5.model.1.weight", torch.rand(1, 4, 1, 1)), "got lin5.model.1.weight as well"),
        (_with("features.8.bias", torch.ones(5, dtype=torch.int64)), "got integers in features.8.bias"),
        (_with("features.8.bias", torch.full((5,), torch.nan)), "hold NaN or infinity"),
    ],
)
def test_odd_weights_are_one_line(tmp_path: Path, change: Callable, message: str) -> None:
    trunk, heads = save(tmp_path, "alexnet")
    tensors = {f"features.{name}": tensor for name, tensor in trunk.state_dict().items()}
    tensors |= {f"lin{index}.model.1.weight": head for index, head in enumerate(heads)}
    change(tensors)
    (tmp_path / "heads.safetensors").unlink()
    save_file(tensors, tmp_path / "trunk.safetensors")
    with pytest.raises(ThalwegError, match=message) as caught:
        load_lpips(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_odd_folders_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "owner/model"):
        with pytest.raises(UsageError, match="with the trunk and the heads as safetensors, found none"):
            load_lpips(name)
    save(tmp_path / "twice", "vgg16")
    (tmp_path / "twice" / "copy.safetensors").write_bytes((tmp_path / "twice" / "heads.safetensors").read_bytes())
    with pytest.raises(UsageError, match="is in two files"):
        load_lpips(str(tmp_path / "twice"))
    (tmp_path / "twice" / "copy.safetensors").write_bytes(b"<html>")
    with pytest.raises(ThalwegError, match="it is a web page"):
        load_lpips(str(tmp_path / "twice"))
