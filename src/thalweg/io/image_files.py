"""Image files in and out: the one place where pictures are read as a viewer shows them, and where they are written."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import NotFiniteError, UsageError

MAX_PIXELS = 64_000_000
"""Pixels of an image that is read."""
MAX_BYTES = 256_000_000
"""Size of its file."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is read, as Pillow names it; others run programs of their own or are no pictures."""
WHITE = 255


def read_image(source: Path | str | bytes, name: str | None = None) -> Tensor:
    """Return an image file as a viewer shows it on a white page: (3, H, W) in 0..1.

    The orientation in its EXIF data is applied, transparent parts show white, greys of 16 bits and of floating point
    values in 0..1 keep their brightness.

    Args:
        source: the file, or its content.
        name: what messages call it; None: the file's path as given.

    Raises:
        UsageError: no image, a damaged, animated or too large one, or numbers that no viewer shows.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    pixels = _load(source, name)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(source: Path | str | bytes, name: str | None = None) -> Tensor:
    """Return the brightness (H, W) in 0..1 of an image file, read as `read_image` does.

    Raises:
        UsageError: as `read_image`.
    """
    luma = torch.tensor((0.299, 0.587, 0.114))[:, None, None]  # ITU-R BT.601
    return (read_image(source, name or "the mask" if isinstance(source, bytes) else name) * luma).sum(0).clamp(0, 1)


def png(image: Tensor, name: str = "image") -> bytes:
    """Return an image (3, H, W) in 0..1 as the bytes of a PNG file; `name` is what messages call it.

    Raises:
        UsageError: other than 3 channels.
        NotFiniteError: it holds NaN or infinity.
    """
    from PIL import Image

    if image.shape[0] != 3:
        raise UsageError(f"expected a picture of 3 channels, got {image.shape[0]}: leave out the run folder")
    image = image.detach()
    broken = ~image.isfinite()
    if bool(broken.any()):
        raise NotFiniteError(
            f"{name}: {float(broken.float().mean()):.0%} of its values are NaN or infinity, no picture is written: "
            "choose another scheduler, less guidance or float32"
        )
    pixels = (image.cpu().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _load(source: Path | str | bytes, name: str) -> np.ndarray:
    """Return the pixels (H, W, 3) in 0..1."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{name}: expected an image file of at most {MAX_BYTES:,} bytes, got {size:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about sizes and metadata: the checks here say what matters
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise UsageError(
                        f"{name}: expected an image of at most {MAX_PIXELS:,} pixels, got {file.width} x {file.height}"
                    )
                # What a camera adds to its JPEG (MPO) are previews: viewers show the first.
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
        raise UsageError(f"{name}: expected an image file, found none") from error
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UsageError(f"{name}: expected an image file, this one can't be read ({reason})") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"{name}: expected an image of at most {MAX_PIXELS:,} pixels, got far more") from error


def _pixels(image: Any, name: str) -> np.ndarray:
    """Return a picture's pixels (H, W, 3) in 0..1, whatever its mode."""
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
    """Return a picture in the colours of the web; one whose profile cannot be read as it is, as viewers do."""
    from PIL import ImageCms

    if not profile:
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image


def _greys(image: Any, name: str) -> np.ndarray:
    """Return greys (H, W) in 0..1 of an image with more than 8 bits in a value."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: expected an image of numbers, got NaN or infinity in it")
    least, most = float(values.min()), float(values.max())
    scale = 1.0 if image.mode == "F" else 65535.0
    if least < 0 or most > scale:
        raise UsageError(
            f"{name}: expected greys from 0 to {scale:g}, got {least:g} to {most:g}; save it with 8 or 16 bits"
        )
    return (values / scale).astype(np.float32)
