"""Reading of image files as a viewer shows them, and encoding of images as PNG."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import MissingPathError, NotFiniteError, UsageError

MAX_PIXELS = 64_000_000
"""Largest number of pixels of an image that is read."""
MAX_BYTES = 256_000_000
"""Largest size of an image file that is read."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats that are read, by Pillow's names; others start external programs or are not images."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""
WHITE = 255
"""Value of a white pixel, uint8."""


def read_image(source: Path | str | bytes, name: str | None = None) -> Tensor:
    """Return an image file as a viewer shows it on a white page.

    The orientation in its EXIF data is applied, transparent parts are white, and 16-bit and floating-point greys in
    0..1 keep their brightness.

    Args:
        source: path of the file, or its content.
        name: name of the image in messages; the path by default.

    Returns:
        Float32 (3, H, W) in 0..1.

    Raises:
        MissingPathError: There is no such file.
        UsageError: The file is not an image, or a damaged, animated or too large one, or its values are out of range.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    pixels = _load(source, name)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(source: Path | str | bytes, name: str | None = None) -> Tensor:
    """Return the brightness of an image file, float32 (H, W) in 0..1; the arguments are those of `read_image`.

    Raises:
        UsageError: As `read_image`.
    """
    luma = torch.tensor((0.299, 0.587, 0.114))[:, None, None]  # ITU-R BT.601
    return (read_image(source, name or "the mask" if isinstance(source, bytes) else name) * luma).sum(0).clamp(0, 1)


def check_channels(count: int) -> None:
    """Raise a UsageError unless an image has the 3 channels that files hold."""
    if count != 3:
        raise UsageError(f"expected an image of 3 channels, got {count}: leave out the run folder")


def png(image: Tensor, name: str = "image") -> bytes:
    """Return an image as the bytes of a PNG file.

    Args:
        image: float (3, H, W) in 0..1; other values are clipped.
        name: name of the image in messages.

    Raises:
        UsageError: The image has other than 3 channels.
        NotFiniteError: The image contains NaN or infinity.
    """
    from PIL import Image

    check_channels(image.shape[0])
    image = image.detach()
    not_finite = ~image.isfinite()
    if bool(not_finite.any()):
        raise NotFiniteError(
            f"{name}: {float(not_finite.float().mean()):.0%} of its values are NaN or infinity, no image is written: "
            "choose another scheduler, less guidance or float32"
        )
    pixels = (image.cpu().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def png_size(path: Path) -> tuple[int, int]:
    """Return width and height, pixels, of a PNG file from its header.

    Raises:
        UsageError: The file is no PNG.
    """
    with path.open("rb") as file:
        header = file.read(24)
    if len(header) < 24 or not header.startswith(PNG_SIGNATURE):
        raise UsageError(f"{path.parent}: its {path.name} can't be read: expected a PNG file; this is none")
    width, height = struct.unpack(">II", header[16:])
    return width, height


def _load(source: Path | str | bytes, name: str) -> np.ndarray:
    """Return the pixels (H, W, 3) in 0..1."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{name}: expected an image file of at most {MAX_BYTES:,} bytes, got {size:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about sizes and metadata; the checks below cover them
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise UsageError(
                        f"{name}: expected an image of at most {MAX_PIXELS:,} pixels, got {file.width} x {file.height}"
                    )
                # The further frames of a camera's JPEG (MPO) are previews; viewers show the first.
                frames = getattr(file, "n_frames", 1)
                if file.format != "MPO" and frames > 1:
                    raise UsageError(f"{name}: expected a still image, got {frames} frames; save one of them")
                file.load()
                return _pixels(ImageOps.exif_transpose(file), name)
    except UsageError:
        raise
    except UnidentifiedImageError as error:
        raise UsageError(f"{name}: expected an image file, such as PNG or JPEG; this is none") from error
    except FileNotFoundError as error:
        raise MissingPathError(f"{name}: expected an image file, found none") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UsageError(f"{name}: expected an image file, this one can't be read ({reason})") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"{name}: expected an image of at most {MAX_PIXELS:,} pixels, got far more") from error


def _pixels(image: Any, name: str) -> np.ndarray:
    """Return the pixels (H, W, 3) in 0..1 of an image in any mode."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        return np.repeat(_greys(image, name)[..., None], 3, axis=2)
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        image = _in_srgb(image, profile)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, 255))
        image = Image.alpha_composite(page, image).convert("RGB")
    if image.mode == "RGB":
        image = _in_srgb(image, profile)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def _in_srgb(image: Any, profile: bytes | None) -> Any:
    """Convert an image to sRGB; one with an unreadable profile is returned unchanged, as in viewers."""
    from PIL import ImageCms

    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image


def _greys(image: Any, name: str) -> np.ndarray:
    """Return the greys (H, W) in 0..1 of an image with more than 8 bits per value."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: expected finite values, got NaN or infinity")
    smallest, largest = float(values.min()), float(values.max())
    scale = 1.0 if image.mode == "F" else 65535.0
    if smallest < 0 or largest > scale:
        raise UsageError(
            f"{name}: expected greys from 0 to {scale:g}, got {smallest:g} to {largest:g}; save it with 8 or 16 bits"
        )
    return (values / scale).astype(np.float32)
