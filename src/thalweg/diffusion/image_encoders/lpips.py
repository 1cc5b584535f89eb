"""LPIPS: a learned perceptual distance of two images (arXiv 1801.03924), from local safetensors files."""

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.model_folder import find_folder
from thalweg.diffusion.checkpoints.weight_files import check_finite
from thalweg.errors import UsageError
from thalweg.io.safetensors_files import SUFFIX, read_tensors

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and standard deviation of the channels of images in -1..1, of LPIPS version 0.1."""
EPS = 1e-10
"""Constant that is added to the length of a feature vector."""

_UNUSED = re.compile(r"classifier\.\d+\.(weight|bias)")  # of torchvision's trunks


@dataclass(frozen=True)
class Trunk:
    """Convolutions of a torchvision classifier, by their number in its `features`.

    Attributes:
        title: name in messages.
        blocks: numbers of the convolutions of each block; the features of a block are those after its last one.
        kernel: side of the first convolution's kernel, by which the trunk is recognised.
        pooled: indices of the blocks that begin with a pooling.
        pooling: side of the pooling's kernel; its stride is 2.
        strides: stride and padding of convolutions other than 1 and 1.
    """

    title: str
    blocks: tuple[tuple[int, ...], ...]
    kernel: int
    pooled: tuple[int, ...]
    pooling: int
    strides: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of all convolutions."""
        return tuple(itertools.chain(*self.blocks))


TRUNKS = (
    Trunk("AlexNet", ((0,), (3,), (6,), (8,), (10,)), 11, (1, 2), 3, {0: (4, 2), 3: (1, 2)}),
    Trunk("VGG16", ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), 3, (1, 2, 3, 4), 2),
)


class Lpips:
    """LPIPS distance, version 0.1.

    Attributes:
        trunk: layout of the network.
    """

    def __init__(self, trunk: Trunk, weights: dict[str, Tensor]) -> None:
        """Create a distance of a trunk's weights (`features.N.weight`) and heads (`lin0.model.1.weight`, ...)."""
        self.trunk = trunk
        self._weights = weights

    def distances(self, images: Tensor, reference: Tensor) -> Tensor:
        """Return the distances (S) of images (S, 3, H, W) from a reference (3, H', W'), in 0..1; differentiable.

        A reference of another size is resized to that of the images.

        Raises:
            UsageError: images of another shape or too small for the network.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(f"expected images (S, 3, H, W), got {tuple(images.shape)}")
        other = reference[None].to(images)
        if other.shape[-2:] != images.shape[-2:]:
            other = functional.interpolate(other, images.shape[-2:], mode="bicubic", antialias=True)
        with torch.no_grad():
            targets = self._features(other)
        distances = images.new_zeros(len(images))
        for index, (found, target) in enumerate(zip(self._features(images), targets, strict=True)):
            head = self._weights[f"lin{index}.model.1.weight"].to(images)
            distances = distances + functional.conv2d((found - target).square(), head).mean((1, 2, 3))
        return distances

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return each block's features (S, C, h, w), of unit length per position."""
        shift, scale = (images.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        values = (2 * images - 1 - shift) / scale
        found = []
        for index, block in enumerate(self.trunk.blocks):
            if index in self.trunk.pooled:
                values = functional.max_pool2d(self._checked(values, self.trunk.pooling, images), self.trunk.pooling, 2)
            for number in block:
                stride, padding = self.trunk.strides.get(number, (1, 1))
                weight, bias = (self._weights[f"features.{number}.{part}"].to(images) for part in ("weight", "bias"))
                side = weight.shape[-1] - 2 * padding
                values = functional.conv2d(self._checked(values, side, images), weight, bias, stride, padding).relu()
            # The square root has no gradient at 0, where all features of a position are 0.
            squares = values.square().sum(1, keepdim=True)
            length = torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
            found.append(values / (length + EPS))
        return found

    def _checked(self, values: Tensor, side: int, images: Tensor) -> Tensor:
        if min(values.shape[-2:]) < side:
            size = " x ".join(map(str, images.shape[-2:]))
            raise UsageError(f"LPIPS: expected images large enough for {self.trunk.title}, got {size} pixels")
        return values


def load_lpips(name: str, device: torch.device | str = "cpu") -> Lpips:
    """Load LPIPS from the safetensors files in a folder: torchvision's trunk and the official package's heads.

    All files of the folder are read together. The trunk is torchvision's AlexNet or VGG16 (`features.0.weight`, ...;
    its `classifier` is not used), the heads are those of `lpips/weights/v0.1` (`lin0.model.1.weight` to
    `lin4.model.1.weight`, 1 x C x 1 x 1).

    Raises:
        UsageError: no such folder, no safetensors files in it, weights that are missing, unexpected or of another
            shape, or a device that this machine lacks.
        ThalwegError: a file that can't be read, or weights that are not finite.
    """
    place = read_device(device)
    folder = find_folder(name)
    files = [] if folder is None else sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    label = f"{folder.resolve().name if folder else name}: LPIPS"
    if not files:
        raise UsageError(
            f"{label}: expected a folder with the trunk and the heads as safetensors, found none; write the state_dict "
            "of each once with safetensors.torch.save_file"
        )
    tensors = _read_all(files, label)
    trunk = _check_layout(tensors, label)
    check_finite(label, tensors)
    return Lpips(trunk, {key: value.to(place, torch.float32) for key, value in tensors.items()})


def _read_all(files: list[Path], label: str) -> dict[str, Tensor]:
    """Return the tensors of all files but those of unused layers."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = read_tensors(file, f"{label}: its {file.name}")
        if twice := sorted(tensors.keys() & found.keys()):
            raise UsageError(f"{label}: expected one trunk and its heads, {twice[0]} is in two files")
        tensors |= {name: tensor for name, tensor in found.items() if not _UNUSED.fullmatch(name)}
    return tensors


def _check_layout(tensors: dict[str, Tensor], label: str) -> Trunk:
    """Return the trunk whose weights these are.

    Raises:
        UsageError: weights are missing, unexpected or of another shape.
    """
    first = tensors.get("features.0.weight")
    kernel = first.shape[-1] if first is not None and first.ndim == 4 else 0
    trunk = next((trunk for trunk in TRUNKS if trunk.kernel == kernel), None)
    if trunk is None:
        known = " or ".join(trunk.title for trunk in TRUNKS)
        raise UsageError(
            f"{label}: expected torchvision's {known} with the names features.0.weight, ..., found "
            f"{', '.join(sorted(tensors)[:3]) or 'no weights'}"
        )
    expected: dict[str, tuple[int | None, ...]] = {}
    channels = 3
    for index, block in enumerate(trunk.blocks):
        for number in block:
            weight = tensors.get(f"features.{number}.weight", torch.empty(0))
            side = _side(trunk, number)
            expected[f"features.{number}.weight"] = (None, channels, side, side)
            channels = weight.shape[0] if weight.ndim else 0
            expected[f"features.{number}.bias"] = (channels,)
        expected[f"lin{index}.model.1.weight"] = (1, channels, 1, 1)
    for name, shape in expected.items():
        if name not in tensors:
            raise UsageError(f"{label} of {trunk.title}: {name} is missing; the folder holds the trunk and its heads")
        found = tuple(tensors[name].shape)
        if len(found) != len(shape) or any(want not in (None, got) for want, got in zip(shape, found, strict=True)):
            size = " x ".join("any" if want is None else str(want) for want in shape)
            raise UsageError(f"{label} of {trunk.title}: expected {name} of {size}, got {' x '.join(map(str, found))}")
        if not tensors[name].is_floating_point():
            raise UsageError(f"{label} of {trunk.title}: expected floating weights, got integers in {name}")
    if other := sorted(tensors.keys() - expected.keys()):
        raise UsageError(f"{label} of {trunk.title}: expected its trunk and heads alone, got {other[0]} as well")
    return trunk


def _side(trunk: Trunk, number: int) -> int:
    """Return the side of a convolution's kernel."""
    if number == trunk.numbers[0]:
        return trunk.kernel
    return 2 * trunk.strides.get(number, (1, 1))[1] + 1
