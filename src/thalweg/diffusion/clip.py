"""CLIP scorers: a text and an image encoder with one feature space, for image-text metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.checkpoints.model_folder import CONFIG, VOCABULARIES, find_folder, read_config
from thalweg.diffusion.checkpoints.weight_files import load_network, load_part
from thalweg.diffusion.pipelines.text_inputs import TextInput, warn_of_text
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import shown
from thalweg.prompts import check_prompt


class ClipScorer:
    """Text and image encoder with one feature space.

    Attributes:
        side: height and width to which images are resized before they are encoded, pixels.
    """

    def __init__(
        self,
        texts: Callable[[str], Tensor],
        images: Callable[[Tensor], Tensor],
        side: int,
        mean: list[float],
        deviation: list[float],
        text_input: TextInput | None = None,
    ) -> None:
        """Create a scorer of two encoders.

        Args:
            texts: text encoder, from a text to features (d).
            images: image encoder, from normalised images (S, 3, side, side) to features (S, d).
            side: height and width of the images that it takes, pixels.
            mean: mean of each channel, for normalisation.
            deviation: standard deviation of each channel, for normalisation.
            text_input: input of the text encoder, for warnings of unseen parts of a text; None: no warnings.
        """
        self._text_input = text_input
        self._texts, self._images, self.side = texts, images, side
        self._mean = torch.tensor(mean)[:, None, None]
        self._deviation = torch.tensor(deviation)[:, None, None]

    @torch.no_grad()
    def embed_text(self, text: str) -> Tensor:
        """Return the text's features (d), float32 of unit length; warns as `DiffusionGenerator.embed`.

        Raises:
            UsageError: a text that no model takes, see `thalweg.prompts.check_prompt`.
        """
        check_prompt(text)
        if self._text_input is not None:
            with quiet():
                warn_of_text(text, [self._text_input], stacklevel=3)
        return normalize(self._texts(text).float(), dim=-1)

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the features (S, d), float32 of unit length, of images (S, 3, H, W) in 0..1; differentiable.

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
    """Load a CLIP model from a folder or the hub, such as openai/clip-vit-large-patch14; safetensors weights only.

    Raises:
        UsageError: neither a folder nor a hub name, a model of another type, or a device that this machine lacks.
        ThalwegError: no network and not in the cache, or weights that are missing, unexpected or not finite.
    """
    place = read_device(device)
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    source: Path | str = find_folder(name) or name
    label = f"{source.resolve().name if isinstance(source, Path) else source}: the CLIP model"
    if isinstance(source, Path):
        if not (source / CONFIG).is_file():
            raise UsageError(f"{source.resolve().name}: expected a CLIP model's folder, found no {CONFIG} in it")
        model_type = read_config(source, label).get("model_type")
        if model_type != CLIPConfig.model_type:
            raise UsageError(f"{label}: expected a CLIP model, got one of the type {shown(model_type)}")
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

    image_processor = processor.image_processor
    side = int(model.config.vision_config.image_size)
    mean, deviation = list(image_processor.image_mean), list(image_processor.image_std)
    return ClipScorer(texts, images, side, mean, deviation, TextInput(processor.tokenizer, limit))


def _features(output: Any) -> Tensor:
    """Return the features as a tensor; newer versions of the library wrap them."""
    return output if isinstance(output, Tensor) else output.pooler_output
