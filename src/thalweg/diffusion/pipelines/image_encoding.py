"""Images that chains start from: files read at an image's size, and the latents of a pipeline's own encoder."""

import torch
from torch import Tensor

from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import NotFiniteError, UsageError
from thalweg.io.image_files import read_image, read_mask

MAX_DISTORTION = 0.03
"""Largest relative difference of the aspect of an image to that of the images to generate."""
MASK_THRESHOLD = 0.5
"""Brightness from which a mask's pixel is white."""


class EncodesImages(PipelineAdapter):
    """Pipeline whose decoder comes with an encoder, and whose class in diffusers has one for images to start from."""

    takes_image = True

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the latents (1, C, h, w) of an image (3, H, W) in 0..1: the most likely ones, without noise.

        Raises:
            NotFiniteError: the encoder gives NaN or infinity.
        """
        vae = self.pipeline.vae
        with torch.no_grad(), quiet():
            found = vae.encode((2 * image[None] - 1).to(vae.device, vae.dtype)).latent_dist.mode()
        if not bool(found.isfinite().all()):
            raise NotFiniteError(
                f"the encoder of {self.name} gives NaN or infinity: load the model in float32, or check its weights"
            )
        return self.scale(found.to(self.precision))

    def scale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the chain from those of the encoder."""
        config = self.pipeline.vae.config
        return (latents - (config.get("shift_factor") or 0)) * config.scaling_factor

    def first_step(self, settings: SamplingConfig) -> int:
        """Return the number of steps that a chain from the settings' image leaves out, rounded as in diffusers."""
        return settings.steps - int(settings.steps * settings.image_strength)


def read_start(adapter: PipelineAdapter, settings: SamplingConfig) -> tuple[Tensor, Tensor | None]:
    """Return the latents (1, C, h, w) of the settings' image, and the mask (1, 1, h, w) of those that are generated.

    Raises:
        UsageError: no image files, an image of another aspect than the images to generate, a mask of another size than
            the image, or one without white; or a model without an encoder.
    """
    if not isinstance(adapter, EncodesImages) or settings.image is None:
        raise UsageError(f"expected no `image` for {adapter.name}: its pipeline in diffusers starts from none")
    image = read_image(settings.image)
    rows, columns = (side * adapter.latent_pixels for side in adapter.latent_shape(settings)[1:])
    height, width = image.shape[1:]
    if abs(width * rows / (height * columns) - 1) > MAX_DISTORTION:
        fits = f"crop it, or set `height={_nearest(columns * height / width, adapter)}` for a width of {columns}"
        raise UsageError(
            f"{settings.image}: expected an image of the aspect of the images to generate, {columns} x {rows}; got "
            f"{width} x {height}: {fits}"
        )
    latents = adapter.encode_image(_resized(image, rows, columns))
    if settings.image_mask is None:
        return latents, None
    mask = read_mask(settings.image_mask)
    if mask.shape != image.shape[1:]:
        raise UsageError(
            f"{settings.image_mask}: expected a mask of the image's size, {width} x {height}; got "
            f"{mask.shape[1]} x {mask.shape[0]}"
        )
    white = (_resized(mask[None], rows, columns) >= MASK_THRESHOLD).to(latents)
    white = torch.nn.functional.interpolate(white[None], size=latents.shape[2:])
    if not bool(white.any()):
        raise UsageError(f"{settings.image_mask}: expected white where the image is to be generated, got a black mask")
    return latents, white


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    """Return an image (C, H, W) in 0..1 at another size."""
    if image.shape[1:] == (height, width):
        return image
    found = torch.nn.functional.interpolate(image[None], size=(height, width), mode="bicubic", antialias=True)
    return found[0].clamp(0, 1)


def _nearest(size: float, adapter: PipelineAdapter) -> int:
    """Return the size nearest to `size` that the model takes."""
    step = adapter.latent_pixels * adapter.patch
    return max(step, round(size / step) * step)
