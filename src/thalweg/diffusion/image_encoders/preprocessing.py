"""Preprocessing of images for an encoder, as its folder states it: resize, crop and normalise, differentiable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from thalweg.diffusion.checkpoints.model_folder import read_object
from thalweg.diffusion.checkpoints.weight_files import load_part
from thalweg.errors import UsageError
from thalweg.limits import shown

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
FILTERS = {2: "bilinear", 3: "bicubic"}
"""Filters by Pillow's number, as the libraries' files write them."""
MAX_SIDE = 4096
"""Largest side of an encoder's images, pixels."""

_STEPS = ("do_resize", "do_rescale", "do_normalize")  # always done; a file that leaves one out is refused


@dataclass(frozen=True)
class ImagePreprocessing:
    """Preprocessing of images for an encoder.

    Attributes:
        size: height and width to resize to; one number: the shorter side, the aspect ratio is preserved.
        crop: height and width of the centre that is used; None: the whole image.
        mean: mean of each of the 3 channels, for normalisation.
        deviation: standard deviation of each of the 3 channels, for normalisation.
        filter: bicubic or bilinear, with antialiasing.
    """

    size: int | tuple[int, int]
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    filter: str = "bicubic"

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every preprocessed image; None where they depend on the image."""
        return self.crop or (self.size if isinstance(self.size, tuple) else None)

    def check_side(self, side: int, label: str) -> None:
        """Check that every preprocessed image is a square of `side` pixels; `label` names the model in messages.

        Raises:
            UsageError: they are not.
        """
        if self.output_size != (side, side):
            raise UsageError(f"{label}: expected preprocessing to {side} x {side} pixels, got {self.output_size}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (S, 3, H, W) in 0..1 as the encoder takes them; differentiable.

        Unlike in the libraries, resized values are neither rounded to 8 bits nor clipped, so that the gradient is
        exact. Pixels beyond the crop have no gradient.

        Raises:
            UsageError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(f"expected images (S, 3, H, W), got {tuple(images.shape)}")
        size = self._resized(images.shape[-2], images.shape[-1])
        if images.shape[-2:] != size:
            images = interpolate(images, size, mode=self.filter, antialias=True)
        if self.crop is not None:
            top, left = ((whole - part) // 2 for whole, part in zip(size, self.crop, strict=True))
            images = images[..., top : top + self.crop[0], left : left + self.crop[1]]
        mean, deviation = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return (images - mean) / deviation

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing."""
        if isinstance(self.size, tuple):
            return self.size
        longer = int(self.size * max(height, width) / min(height, width))
        return (self.size, longer) if height <= width else (longer, self.size)


def read_preprocessing(source: Path | str, label: str) -> ImagePreprocessing:
    """Return the preprocessing that an encoder's folder or hub model states.

    Args:
        source: the folder, with a preprocessor_config.json or the newer processor_config.json; or a hub model's name.
        label: name of the model in messages.

    Raises:
        UsageError: no such file, or steps in it that are not known.
        ThalwegError: no network and not in the cache.
    """
    if isinstance(source, Path):
        return parse_preprocessing(_read_file(source, label), label)
    from transformers import ImageProcessingMixin

    found, _ = load_part(lambda: ImageProcessingMixin.get_image_processor_dict(source), f"{label}: its preprocessing")
    return parse_preprocessing(found, label)


def parse_preprocessing(config: Mapping[str, Any], label: str) -> ImagePreprocessing:
    """Return the preprocessing in the object of a preprocessor_config.json; `label` names the model in messages.

    Raises:
        UsageError: values that are missing or not known; the message names the first.
    """
    for step in _STEPS:
        if config.get(step, True) is not True:
            raise _invalid(label, step, "true", config[step])
    factor = config.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise _invalid(label, "rescale_factor", "1/255", factor)
    resample = config.get("resample", 3)
    if not isinstance(resample, int) or resample not in FILTERS:
        raise _invalid(label, "resample", "2 (bilinear) or 3 (bicubic)", resample)
    size = _read_size(config.get("size"), label, "size")
    crop = None
    if config.get("do_center_crop", "crop_size" in config):
        crop = _sides(_read_size(config.get("crop_size"), label, "crop_size"))
        if any(part > whole for part, whole in zip(crop, _sides(size), strict=True)):
            raise _invalid(label, "crop_size", f"at most its size {size}", config.get("crop_size"))
    mean = _read_channels(config.get("image_mean"), label, "image_mean")
    deviation = _read_channels(config.get("image_std"), label, "image_std")
    if min(deviation) <= 0:
        raise _invalid(label, "image_std", "3 numbers above 0", config["image_std"])
    return ImagePreprocessing(size, crop, mean, deviation, FILTERS[resample])


def _read_file(folder: Path, label: str) -> Mapping[str, Any]:
    """Return the image processor's object in a folder; the nested one of newer files goes first, as in the library."""
    if (folder / PROCESSOR).is_file():
        nested = read_object(folder / PROCESSOR, label).get("image_processor")
        if isinstance(nested, dict):
            return nested
    if not (folder / PREPROCESSOR).is_file():
        raise UsageError(f"{label}: expected {PREPROCESSOR} or {PROCESSOR}, found none; fetch the model again")
    return read_object(folder / PREPROCESSOR, label)


def _read_size(value: Any, label: str, name: str) -> int | tuple[int, int]:
    """Return the shorter side, or height and width, of a size in a file."""
    if _is_side(value):
        return int(value)
    if isinstance(value, dict):
        keys = {key for key, side in value.items() if side is not None}
        if keys == {"shortest_edge"} and _is_side(value["shortest_edge"]):
            return int(value["shortest_edge"])
        if keys == {"height", "width"} and _is_side(value["height"]) and _is_side(value["width"]):
            return int(value["height"]), int(value["width"])
    raise _invalid(label, name, f"a shortest_edge, or a height and a width, of 1 to {MAX_SIDE} pixels", value)


def _read_channels(value: Any, label: str, name: str) -> tuple[float, ...]:
    """Return the numbers of the three channels."""
    is_list = isinstance(value, Sequence) and len(value) == 3
    if not is_list or not all(isinstance(number, int | float) and math.isfinite(number) for number in value):
        raise _invalid(label, name, "3 numbers", value)
    return tuple(float(number) for number in value)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _invalid(label: str, name: str, expected: str, got: Any) -> UsageError:
    return UsageError(f"{label}: expected {name} in its image preprocessing to be {expected}, got {shown(got)}")
