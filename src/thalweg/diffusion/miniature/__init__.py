"""The miniature: a small text-to-image model that ships with the package; its world and its training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier

SHIPPED = Path(__file__).parent / "weights"
"""The shipped model, in the layout of a diffusers pipeline."""

READER = Path(__file__).parent / "attribute_classifier.safetensors"
"""The shipped attribute reader: a judge, not part of the model."""

DEFAULTS: dict[str, Any] = {"steps": 20, "guidance_scale": 3.0}


def load(folder: Path | str = SHIPPED, *, device: torch.device | str = "cpu", **settings: Any) -> "DiffusionGenerator":
    """Load the miniature as a generator of images (S, 3, 64, 64); `settings` are those of `thalweg.diffusion.load`.

    Raises:
        UsageError: no model in the folder, or settings that it does not take.
    """
    from thalweg.diffusion.loading import load as load_model

    return load_model(_model(folder), device=device, **{**DEFAULTS, **settings})


def load_scorer(folder: Path | str = SHIPPED, *, device: torch.device | str = "cpu") -> "ClipScorer":
    """Load the miniature's text and image encoder as a CLIP-style scorer.

    Raises:
        UsageError: no model in the folder, or no such device.
        ThalwegError: weights that are missing, unexpected or not finite.
    """
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

    from thalweg.devices import read_device
    from thalweg.diffusion.checkpoints.weight_files import load_network, load_part
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.text_inputs import TextInput

    place, folder = read_device(device), _model(folder)
    words: Any = load_part(lambda: CLIPTokenizer.from_pretrained(folder / "tokenizer"), f"{folder.name}: its tokenizer")
    text, image = (
        load_network(kind, folder / part, f"{folder.name}: its {part}", torch.float32)
        .to(place)
        .eval()
        .requires_grad_(False)
        for part, kind in (("text_encoder", CLIPTextModel), ("image_encoder", CLIPVisionModelWithProjection))
    )

    def texts(said: str) -> Tensor:
        tokens = words(said, padding="max_length", truncation=True, return_tensors="pt")
        return text(tokens.input_ids.to(place)).pooler_output[0]

    def images(scaled: Tensor) -> Tensor:
        return image(scaled).image_embeds

    side = int(image.config.image_size)
    reads = TextInput(words, words.model_max_length)
    return ClipScorer(texts, images, side, mean=[0.5] * 3, deviation=[0.5] * 3, reads=reads)


def load_attribute_classifier(path: Path | str = READER) -> "AttributeClassifier":
    """Load the attribute reader that judges the miniature's images.

    Raises:
        UsageError: no reader there.
        ThalwegError: weights that are missing, unexpected or not finite.
    """
    from thalweg.diffusion.miniature.attribute_classifier import load as load_weights

    if not Path(path).is_file():
        raise UsageError(f"{path}: expected a trained reader's weights, found none; train one first")
    return load_weights(Path(path))


def _model(folder: Path | str) -> Path:
    folder = Path(folder)
    if not (folder / "model_index.json").is_file():
        raise UsageError(f"{folder}: expected a trained miniature, found no model_index.json; train one first")
    return folder
