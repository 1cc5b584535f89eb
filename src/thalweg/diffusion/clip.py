"""Texts and images in one space, as CLIP puts them: what image-text metrics are computed with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.model_folder import CONFIG, VOCABULARIES, find_folder, read_config
from thalweg.diffusion.checkpoints.weight_files import load_network, load_part
from thalweg.diffusion.pipeline import quiet
from thalweg.diffusion.text_inputs import TextInput, warn_of_text
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import shown
from thalweg.prompts import check_prompt


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
        reads: TextInput | None = None,
    ) -> None:
        """Take `texts` (a text to features (d)) and `images` (normalised images (S, 3, side, side) to (S, d)).

        Args:
            texts: the text encoder.
            images: the image encoder.
            side: of the images it takes, pixels.
            mean: that images are normalised with, per channel.
            deviation: likewise.
            reads: how it takes texts, so that what it does not see of them is said; None: nothing is said.
        """
        self._reads = reads
        self._texts, self._images, self.side = texts, images, side
        self._mean = torch.tensor(mean)[:, None, None]
        self._deviation = torch.tensor(deviation)[:, None, None]

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """Return the text's features (d), unit length; warn as `DiffusionGenerator.embed` does."""
        check_prompt(text)
        if self._reads is not None:
            with quiet():
                warn_of_text(text, [self._reads], stacklevel=3)
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
    """Load a CLIP model from a folder or the hub, as "openai/clip-vit-large-patch14"; its weights in safetensors.

    Raises:
        UsageError: no folder and no hub name, or a model of another kind.
        ThalwegError: no network and not in the cache, or weights that are missing, unexpected or not finite.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    place = read_device(device)
    source: Path | str = find_folder(name) or name
    label = f"{source.resolve().name if isinstance(source, Path) else source}: the CLIP model"
    if isinstance(source, Path):
        if not (source / CONFIG).is_file():
            raise UsageError(f"{source.resolve().name}: expected a CLIP model's folder, found no {CONFIG} in it")
        kind = read_config(source, label).get("model_type")
        if kind != CLIPConfig.model_type:
            raise UsageError(f"{label}: expected a CLIP model, got one of the kind {shown(kind)}")
        if not any((source / file).is_file() for file in VOCABULARIES):
            raise ThalwegError(f"{label}: expected {' or '.join(VOCABULARIES)}, found none; fetch the model again")
    model = load_network(CLIPModel, source, label, torch.float32)
    processor: Any = load_part(lambda: CLIPProcessor.from_pretrained(source), f"{label}: its processor")
    model = model.to(place).eval().requires_grad_(False)

    limit = min(processor.tokenizer.model_max_length, int(model.config.text_config.max_position_embeddings))

    def texts(text: str) -> Tensor:
        tokens = processor.tokenizer(text, truncation=True, max_length=limit, return_tensors="pt").to(place)
        return _features(model.get_text_features(**tokens))[0]

    def images(scaled: Tensor) -> Tensor:
        return _features(model.get_image_features(pixel_values=scaled))

    images_as = processor.image_processor
    side = int(model.config.vision_config.image_size)
    reads = TextInput(processor.tokenizer, limit)
    return ClipScorer(texts, images, side, list(images_as.image_mean), list(images_as.image_std), reads)


def _features(output: Any) -> Tensor:
    """The features as a tensor; newer versions of the library wrap them."""
    return output if isinstance(output, Tensor) else output.pooler_output
