"""Scorer protocol: a model that maps texts and images to one space, such as CLIP."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Scorer(Protocol):
    """A model that maps texts and images to one space, as CLIP does."""

    def embed_text(self, text: str) -> "Tensor":
        """Return the text's features (d), unit length."""
        ...

    def embed_images(self, images: "Tensor") -> "Tensor":
        """Return the features (S, d), unit length, of images (S, 3, H, W) in 0..1; differentiable."""
        ...
