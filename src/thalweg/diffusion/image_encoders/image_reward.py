"""ImageReward: a learned score of an image for a text (arXiv 2304.05977), from a local folder."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.checkpoints.model_folder import find_folder, read_object
from thalweg.diffusion.checkpoints.weight_files import fill_with, load_part
from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing
from thalweg.diffusion.pipelines.text_inputs import TextInput, warn_of_text
from thalweg.errors import UsageError
from thalweg.io.safetensors_files import SUFFIX, read_tensors
from thalweg.limits import shown
from thalweg.prompts import check_prompt

REWARD_MEAN, REWARD_DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Mean and standard deviation of the head's output, by which the published score is normalised."""
IMAGE_MEAN, IMAGE_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MAX_TOKENS = 35
"""Tokens of a text; shorter ones are padded."""
HEAD_SIZE = 64
"""Width of an attention head of BLIP's image encoder."""
TEXT_CONFIG = "med_config.json"
_TEXT_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    "max_position_embeddings",
)
_UNUSED = re.compile(r"blip\.(vision|text)_proj\.(weight|bias)")  # of BLIP's contrastive training
_RENAMED = (
    (r"^blip\.visual_encoder\.", "vision."),
    (r"^vision\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^vision\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^vision\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^vision\.norm\.", "vision.post_layernorm."),
    (r"^vision\.blocks\.", "vision.encoder.layers."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^blip\.text_encoder\.", "text."),
    (r"^mlp\.layers\.", "head."),
)
"""Names in the published file and in the networks of transformers."""


class ImageReward(nn.Module):
    """BLIP encoders of an image and a text, and a head for the score.

    Attributes:
        vision: BLIP's image encoder.
        text: BLIP's text encoder, which attends to the image.
        head: linear layers by their number, without activations between them.
        preprocess: preprocessing of the images.
    """

    def __init__(self, vision: nn.Module, text: nn.Module, head: nn.ModuleDict, text_input: TextInput) -> None:
        """Create a score of networks; `text_input` is the input of the text encoder."""
        super().__init__()
        self.vision, self.text, self.head = vision, text, head
        self._text_input = text_input
        side = int(vision.config.image_size)  # type: ignore[union-attr, arg-type]
        self.preprocess = ImagePreprocessing(side, (side, side), IMAGE_MEAN, IMAGE_DEVIATION)

    def rewards(self, images: Tensor, text: str) -> Tensor:
        """Return the scores (S) of images (S, 3, H, W) in 0..1 for a text; differentiable.

        Scores are normalised: 0 is the mean of the training images, 1 one standard deviation above.

        Raises:
            UsageError: images of another shape, or a text that no model takes.
        """
        tokens = self._text_input.tokenizer(
            check_prompt(text), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(images.device)
        seen = self.vision(pixel_values=self.preprocess(images)).last_hidden_state
        ids, mask = (tokens[name].expand(len(images), -1) for name in ("input_ids", "attention_mask"))
        values = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state[:, 0]
        for layer in self.head.values():
            values = layer(values)
        return (values[:, 0] - REWARD_MEAN) / REWARD_DEVIATION

    def warn_of_text(self, text: str) -> None:
        """Warn of parts of a text that the model does not see, as `DiffusionGenerator.embed`."""
        with quiet():
            warn_of_text(text, [self._text_input], stacklevel=3)


def load_image_reward(name: str, device: torch.device | str = "cpu") -> ImageReward:
    """Load ImageReward from a folder.

    The folder holds one safetensors file with the state_dict of the published `ImageReward.pt` (names `blip.*` and
    `mlp.layers.*`), the published `med_config.json`, and the tokenizer's files of bert-base-uncased (`vocab.txt` or
    `tokenizer.json`).

    Raises:
        UsageError: no such folder, a file in it is missing or invalid, or a device that this machine lacks.
        ThalwegError: weights that are missing, unexpected, of another shape or not finite.
    """
    place = read_device(device)
    folder = find_folder(name)
    label = f"{folder.resolve().name if folder else name}: ImageReward"
    files = [] if folder is None else sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    if folder is None or len(files) != 1:
        raise UsageError(
            f"{label}: expected a folder with one safetensors file, found {len(files) or 'none'}; write the state_dict "
            "of ImageReward.pt once with safetensors.torch.save_file"
        )
    tokenizer = _load_tokenizer(folder, label)
    tensors = {
        _renamed(key): tensor
        for key, tensor in read_tensors(files[0], f"{label}: its {files[0].name}").items()
        if not _UNUSED.fullmatch(key)
    }
    model = ImageReward(*_networks(folder, tensors, label), TextInput(tokenizer, MAX_TOKENS))
    if len(tokenizer) > (words := int(model.text.config.vocab_size)):  # type: ignore[union-attr, arg-type]
        raise UsageError(f"{label}: its tokenizer has {len(tokenizer)} tokens, its text encoder {words}")
    fill_with(model, tensors, label)
    return model.to(place).eval().requires_grad_(False)


def _load_tokenizer(folder: Path, label: str) -> Any:
    import transformers

    if not any((folder / file).is_file() for file in ("vocab.txt", "tokenizer.json")):
        raise UsageError(f"{label}: expected vocab.txt or tokenizer.json of bert-base-uncased, found none")
    return load_part(lambda: transformers.BertTokenizer.from_pretrained(folder), f"{label}: its tokenizer")


def _renamed(name: str) -> str:
    """Return the name in transformers' networks of a weight in the published file."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _networks(folder: Path, tensors: Mapping[str, Tensor], label: str) -> tuple[nn.Module, nn.Module, nn.ModuleDict]:
    """Return untrained networks of the sizes that the weights and `med_config.json` state.

    Raises:
        UsageError: the weights are not those of ImageReward, or no config.
    """
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    patches = tensors.get("vision.embeddings.patch_embedding.weight", torch.empty(0))
    positions = tensors.get("vision.embeddings.position_embedding", torch.empty(0))
    heads = sorted(int(name.split(".")[1]) for name in tensors if re.fullmatch(r"head\.\d+\.weight", name))
    if patches.ndim != 4 or positions.ndim != 3 or not heads:
        raise UsageError(
            f"{label}: expected the weights of ImageReward (blip.visual_encoder.*, blip.text_encoder.*, mlp.layers.*), "
            f"found {', '.join(sorted(tensors)[:3]) or 'none'}"
        )
    width, patch = patches.shape[0], patches.shape[-1]
    hidden = tensors.get("vision.encoder.layers.0.mlp.fc1.weight", torch.empty(0))
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=hidden.shape[0] if hidden.ndim else 0,
        num_hidden_layers=_count_layers(tensors, "vision.encoder.layers"),
        num_attention_heads=max(1, width // HEAD_SIZE),
        image_size=round((positions.shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    given = read_object(folder / TEXT_CONFIG, label)
    sizes: dict[str, Any] = {field: given.get(field) for field in _TEXT_FIELDS}
    if bad := [field for field, size in sizes.items() if not isinstance(size, int) or size < 1]:
        raise UsageError(f"{label}: expected {bad[0]} in its {TEXT_CONFIG} to be a number, got {shown(sizes[bad[0]])}")
    text = BlipTextConfig(**sizes, encoder_hidden_size=width, layer_norm_eps=1e-12, is_decoder=True)
    shapes = {number: tensors[f"head.{number}.weight"].shape for number in heads}
    if wrong := [number for number, shape in shapes.items() if len(shape) != 2]:
        raise UsageError(f"{label}: expected linear layers in its head, mlp.layers.{wrong[0]}.weight is none")
    head = {str(number): nn.Linear(shape[1], shape[0]) for number, shape in shapes.items()}
    networks = load_part(lambda: (BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False)), label)
    return *networks, nn.ModuleDict(head)


def _count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of layers whose weights there are."""
    return len({name.removeprefix(f"{prefix}.").split(".")[0] for name in tensors if name.startswith(f"{prefix}.")})
