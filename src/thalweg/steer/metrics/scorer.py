"""Protocols of models that metrics use: image encoders, scorers of texts and images, image distances and rewards."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ImageEncoder(Protocol):
    """A model that maps images to features, as DINOv2 and DreamSim do."""

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


class ImageDistance(Protocol):
    """A learned distance of images, as LPIPS is."""

    def distances(self, images: "Tensor", reference: "Tensor") -> "Tensor":
        """Return the distances (S) of images (S, 3, H, W) from a reference (3, H', W'), in 0..1; differentiable."""
        ...


class RewardModel(Protocol):
    """A model that scores an image and a text together, as ImageReward does."""

    def rewards(self, images: "Tensor", text: str) -> "Tensor":
        """Return the scores (S) of images (S, 3, H, W) in 0..1 for a text; differentiable."""
        ...

    def warn_of_text(self, text: str) -> None:
        """Warn of parts of a text that the model does not see."""
        ...
