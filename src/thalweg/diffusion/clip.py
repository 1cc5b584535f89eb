"""Scorers of CLIP's and SigLIP's kind: a text and an image encoder with one feature space, for image-text metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.checkpoints.model_folder import VOCABULARIES, find_folder
from thalweg.diffusion.checkpoints.weight_files import load_network, load_part, read_model_type
from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing, read_preprocessing
from thalweg.diffusion.pipelines.text_inputs import TextInput, warn_of_text
from thalweg.errors import ThalwegError, UsageError
from thalweg.prompts import check_prompt


@dataclass(frozen=True)
class ScorerFamily:
    """Kind of image-text models, by the type that their config.json names.

    Attributes:
        title: name in messages.
        network: name of the network's class in transformers.
        tokenizer: name of the tokenizer's class in transformers.
        vocabularies: files of which the tokenizer needs one.
        lowercase: whether texts are lowercased, as in the model's training.
        padded: whether texts are padded to the encoder's length and read without a mask.
    """

    title: str
    network: str
    tokenizer: str
    vocabularies: tuple[str, ...]
    lowercase: bool = False
    padded: bool = False


FAMILIES = {
    "clip": ScorerFamily("CLIP", "CLIPModel", "CLIPTokenizer", VOCABULARIES),
    "siglip": ScorerFamily("SigLIP", "SiglipModel", "PreTrainedTokenizerFast", ("tokenizer.json",), True, True),
}
"""Families of scorers; PickScore and HPSv2 are CLIP models."""


class ClipScorer:
    """Text and image encoder with one feature space.

    Attributes:
        preprocess: preprocessing of the images.
    """

    def __init__(
        self,
        texts: Callable[[str], Tensor],
        images: Callable[[Tensor], Tensor],
        preprocess: ImagePreprocessing,
        text_input: TextInput | None = None,
    ) -> None:
        """Create a scorer of two encoders.

        Args:
            texts: text encoder, from a text to features (d).
            images: image encoder, from preprocessed images (S, 3, H, W) to features (S, d).
            preprocess: preprocessing of images (S, 3, H, W) in 0..1.
            text_input: input of the text encoder, for warnings of unseen parts of a text; None: no warnings.
        """
        self._text_input, self.preprocess = text_input, preprocess
        self._texts, self._images = texts, images

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
        return normalize(self._images(self.preprocess(images)).float(), dim=-1)


def load_scorer(name: str, device: torch.device | str = "cpu") -> ClipScorer:
    """Load a model of CLIP's or SigLIP's kind from a folder or the hub; safetensors weights only.

    CLIP models are OpenAI's and LAION's, PickScore and HPSv2; their scores here are cosines, without the factor of the
    model's temperature. Images are preprocessed as the model's files state.

    Raises:
        UsageError: neither a folder nor a hub name, a model of another type, preprocessing that is not known, or a
            device that this machine lacks.
        ThalwegError: no network and not in the cache, or weights that are missing, unexpected or not finite.
    """
    place = read_device(device)
    import transformers

    source: Path | str = find_folder(name) or name
    folder_name = source.resolve().name if isinstance(source, Path) else source
    family = _find_family(source, folder_name)
    label = f"{folder_name}: the {family.title} model"
    preprocess = read_preprocessing(source, label)
    model = load_network(getattr(transformers, family.network), source, label, torch.float32)
    preprocess.check_side(int(model.config.vision_config.image_size), label)
    tokenizer_type = getattr(transformers, family.tokenizer)
    tokenizer: Any = load_part(lambda: tokenizer_type.from_pretrained(source), f"{label}: its tokenizer")
    model = model.to(place).eval().requires_grad_(False)

    def images(scaled: Tensor) -> Tensor:
        return _features(model.get_image_features(pixel_values=scaled))

    limit = min(tokenizer.model_max_length, int(model.config.text_config.max_position_embeddings))
    convert = (lambda text, _: text.lower()) if family.lowercase else None
    text_input = TextInput(tokenizer, limit, convert)
    return ClipScorer(_text_encoder(model, text_input, family, label), images, preprocess, text_input)


def _find_family(source: Path | str, name: str) -> ScorerFamily:
    """Return the family of a folder or a hub model by its config.json; a folder's tokenizer files are checked."""
    kinds = " or ".join(family.title for family in FAMILIES.values())
    label = f"{name}: the scorer"
    family = FAMILIES[read_model_type(source, label, kinds, FAMILIES)]
    if isinstance(source, Path) and not any((source / file).is_file() for file in family.vocabularies):
        raise ThalwegError(f"{label}: expected {' or '.join(family.vocabularies)}, found none; fetch the model again")
    return family


def _text_encoder(model: Any, text_input: TextInput, family: ScorerFamily, label: str) -> Callable[[str], Tensor]:
    """Return the function from a text to its features (d)."""
    tokenizer = text_input.tokenizer
    if family.padded and tokenizer.pad_token_id is None:
        raise UsageError(f"{label}: expected a padding token in its tokenizer_config.json, found none")
    padding = "max_length" if family.padded else False

    def texts(text: str) -> Tensor:
        tokens = tokenizer(
            text_input.converted(text),
            truncation=True,
            max_length=text_input.limit,
            padding=padding,
            return_tensors="pt",
        ).to(model.device)
        names = ("input_ids",) if family.padded else ("input_ids", "attention_mask")
        return _features(model.get_text_features(**{name: tokens[name] for name in names}))[0]

    return texts


def _features(output: Any) -> Tensor:
    """Return the features as a tensor; newer versions of the library wrap them."""
    return output if isinstance(output, Tensor) else output.pooler_output
