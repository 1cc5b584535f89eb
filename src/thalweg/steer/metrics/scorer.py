"""Protocols of encoders: of images alone, such as DINOv2, and of texts and images to one space, such as CLIP."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ImageEncoder(Protocol):
    """A model that maps images to features, as DINOv2 does."""

    def embed_images(self, images: "Tensor") -> "Tensor":
        """Return the features (S, d), unit length, of images (S, 3, H, W) in 0..1; differentiable."""
        ...


class Scorer(Protocol):
    """A model that maps texts and images to one space, as CLIP does."""

    def embed_text(self, text: str) -> "Tensor":
        """Return the text's features (d), unit length."""
        ...

    def embed_images(self, images: "Tensor") -> "Tensor":
        """Return the features (S, d), unit length, of images (S, 3, H, W) in 0..1; differentiable."""
        ...
