"""The miniature: a small text-to-image model that ships with the package, with its synthetic dataset and training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.errors import MissingPathError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier

SHIPPED = Path(__file__).parent / "weights"
"""Folder of the shipped model, in the layout of a diffusers pipeline."""

ATTRIBUTE_CLASSIFIER = Path(__file__).parent / "attribute_classifier.safetensors"
"""Weights of the shipped attribute classifier, which evaluates the model's images and is no part of the model."""

DEFAULTS: dict[str, Any] = {"steps": 20, "guidance_scale": 3.0}
"""Sampling settings of the miniature where none are given."""


def load(
    folder: Path | str = SHIPPED, *, device: "torch.device | str" = "cpu", **settings: Any
) -> "DiffusionGenerator":
    """Load the miniature as a generator.

    Args:
        folder: a trained miniature; the shipped one by default.
        device: device of the weights, such as cpu, cuda, cuda:1 or mps.
        **settings: as those of `thalweg.diffusion.load`; 20 steps and a guidance scale of 3 by default.

    Returns:
        The generator: images (S, 3, 64, 64), float32 in 0..1, from embeddings with `prompt` and `negative` (32, 128).

    Raises:
        MissingPathError: no model in the folder.
        UsageError: settings that it does not take, or a device that this machine lacks.
        ThalwegError: files that can't be read; weights that are missing, unexpected or not finite.
    """
    folder = check_folder(folder)
    from thalweg.diffusion.loading import load as load_model

    return load_model(folder, device=device, **{**DEFAULTS, **settings})


def load_scorer(folder: Path | str = SHIPPED, *, device: "torch.device | str" = "cpu") -> "ClipScorer":
    """Load the miniature's text and image encoder as a CLIP scorer.

    Args:
        folder: a trained miniature; the shipped one by default.
        device: device of the weights, such as cpu, cuda, cuda:1 or mps.

    Returns:
        The scorer: features (128), float32 of unit length, of texts and of images (S, 3, H, W) in 0..1.

    Raises:
        MissingPathError: no model in the folder.
        UsageError: no such device.
        ThalwegError: weights that are missing, unexpected or not finite.
    """
    folder = check_folder(folder)
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

    from thalweg.devices import read_device
    from thalweg.diffusion.checkpoints.weight_files import load_network, load_part
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing
    from thalweg.diffusion.miniature import captions
    from thalweg.diffusion.pipelines.text_inputs import TextInput

    place = read_device(device)
    tokenizer: Any = load_part(
        lambda: CLIPTokenizer.from_pretrained(folder / "tokenizer"), f"{folder.name}: its tokenizer"
    )
    text_encoder, image_encoder = (
        load_network(network_type, folder / part, f"{folder.name}: its {part}", torch.float32)
        .to(place)
        .eval()
        .requires_grad_(False)
        for part, network_type in (("text_encoder", CLIPTextModel), ("image_encoder", CLIPVisionModelWithProjection))
    )

    def text_features(text: str) -> "Tensor":
        tokens = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        return text_encoder(tokens.input_ids.to(place)).pooler_output[0]

    def image_features(normalised: "Tensor") -> "Tensor":
        return image_encoder(normalised).image_embeds

    side = int(image_encoder.config.image_size)
    vocabulary = captions.VOCABULARY if captions.is_own_tokenizer(tokenizer) else None
    text_input = TextInput(tokenizer, tokenizer.model_max_length, vocabulary=vocabulary)
    preprocess = ImagePreprocessing((side, side), None, mean=(0.5,) * 3, deviation=(0.5,) * 3)
    return ClipScorer(text_features, image_features, preprocess, text_input)


def load_attribute_classifier(path: Path | str = ATTRIBUTE_CLASSIFIER) -> "AttributeClassifier":
    """Load the attribute classifier that evaluates the miniature's images.

    Args:
        path: its weights; the shipped ones by default.

    Raises:
        MissingPathError: no such file.
        ThalwegError: weights that are missing, unexpected or not finite.
    """
    path = check_attribute_classifier(path)
    from thalweg.diffusion.miniature.attribute_classifier import load as load_weights

    return load_weights(path)


def check_attribute_classifier(path: Path | str) -> Path:
    """Return the path of an attribute classifier's weights; needs no torch.

    Raises:
        MissingPathError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingPathError(f"{path}: expected the weights of an attribute classifier, found none; train one first")
    return path


def check_folder(folder: Path | str) -> Path:
    """Return the folder of a trained miniature; needs no torch.

    Raises:
        MissingPathError: no model in the folder.
    """
    folder = Path(folder)
    if not (folder / "model_index.json").is_file():
        raise MissingPathError(f"{folder}: expected a trained miniature, found no model_index.json; train one first")
    return folder
