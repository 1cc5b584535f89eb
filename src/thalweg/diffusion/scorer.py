"""Texts and images in one space, as CLIP puts them: what image-text metrics are computed with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from thalweg.diffusion.family import quiet
from thalweg.errors import ThalwegError, UsageError


class ClipScorer:
    """A text and an image encoder of one space.

    Attributes:
        side: images are brought to this size first, pixels.
    """

    def __init__(
        self,
        texts: Callable[[str], Tensor],
        images: Callable[[Tensor], Tensor],
        side: int,
        mean: list[float],
        deviation: list[float],
    ) -> None:
        """Take `texts` (a text to features (d)) and `images` (normalised images (S, 3, side, side) to (S, d))."""
        self._texts, self._images, self.side = texts, images, side
        self._mean = torch.tensor(mean)[:, None, None]
        self._deviation = torch.tensor(deviation)[:, None, None]

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """Return the text's features (d), unit length."""
        return normalize(self._texts(text).float(), dim=-1)

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the features (S, d), unit length, of images (S, 3, H, W) in 0..1; differentiable.

        Raises:
            UsageError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(f"expected images (S, 3, H, W), got {tuple(images.shape)}")
        if images.shape[-2:] != (self.side, self.side):
            images = interpolate(images, (self.side, self.side), mode="bicubic", antialias=True)
        scaled = (images - self._mean.to(images.device)) / self._deviation.to(images.device)
        return normalize(self._images(scaled).float(), dim=-1)


def load_scorer(name: str, device: torch.device | str = "cpu") -> ClipScorer:
    """Load a CLIP model from a folder or the hub, as "openai/clip-vit-large-patch14".

    Raises:
        ThalwegError: no such model, or no network and not in the cache.
    """
    from transformers import AutoProcessor, CLIPModel

    try:
        with quiet():
            model: Any = CLIPModel.from_pretrained(name, dtype=torch.float32)
            processor: Any = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ThalwegError(f"{name}: expected a CLIP model in a folder, the hub or its cache; {reason}") from error

    model = model.to(device).eval().requires_grad_(False)

    def texts(text: str) -> Tensor:
        tokens = processor.tokenizer(text, truncation=True, return_tensors="pt").to(device)
        return _features(model.get_text_features(**tokens))[0]

    def images(scaled: Tensor) -> Tensor:
        return _features(model.get_image_features(pixel_values=scaled))

    shown = processor.image_processor
    side = int(model.config.vision_config.image_size)
    return ClipScorer(texts, images, side, list(shown.image_mean), list(shown.image_std))


def _features(output: Any) -> Tensor:
    """The features as a tensor; newer versions of the library wrap them."""
    return output if isinstance(output, Tensor) else output.pooler_output
