"""Adapters from files: LoRA at a strength, and textual inversions in the layouts that are in use."""

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.adapter_files import LoraFile, check_inversion_file
from thalweg.diffusion.checkpoints.weight_files import check_finite, load_part, widened
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import SUFFIX, read_tensors
from thalweg.limits import shown

MAX_VECTORS = 256
"""Most vectors of a learned word; those in use have 1 to 75."""
MAX_WORD = 100
"""Most characters of a learned word."""

_STRENGTH_NAMES = ("alpha", "dora_scale", "scale")
"""Last parts of the names of a LoRA file's numbers that become no weight of their own."""

_ENCODERS_OF_KEYS = {
    "clip_l": "text_encoder",
    "text_encoders_0": "text_encoder",
    "clip_g": "text_encoder_2",
    "text_encoders_1": "text_encoder_2",
}
"""Text encoder by the name of its vectors in textual inversions of models with two of them."""


def add_loras(generator: DiffusionGenerator, files: Sequence[str | LoraFile]) -> None:
    """Load LoRA files into a generator's model; its identity then holds them at their strengths.

    LoRA that were active before are switched off: give all of them in one call.

    Args:
        generator: the model; it is changed.
        files: safetensors files in the layouts of diffusers, peft or kohya, each as a path or as "path:strength".

    Raises:
        UsageError: no such file, or the strength is no number from -10 to 10.
        ThalwegError: a file is no LoRA of this kind of model, or only some of its weights fit.
    """
    pipeline = generator.adapter.pipeline
    strengths: dict[str, float] = {}
    for number, given in enumerate(files):
        lora = given if isinstance(given, LoraFile) else LoraFile.parse(given)
        label = f"LoRA {lora.path.name}"
        tensors = {key: widened(value) for key, value in read_tensors(lora.path, label).items()}
        if not tensors:
            raise ThalwegError(f"{label}: expected the weights of a LoRA, found none in it; fetch the file again")
        check_finite(label, tensors)
        name = f"{re.sub(r'[^0-9A-Za-z_]', '_', lora.path.stem)}_{number}"
        _load_lora(pipeline, dict(tensors), name, f"{label}: for {generator.adapter.name}")
        expected = sum(not key.rpartition(".")[2].startswith(_STRENGTH_NAMES) for key in tensors)
        loaded = _count_weights(pipeline, name)
        if loaded < expected:
            pipeline.delete_adapters(name)
            raise ThalwegError(
                f"{label}: {expected - loaded} of its {expected} weights do not fit {generator.adapter.name}: take a "
                "LoRA that was trained on this kind of model"
            )
        strengths[name] = lora.strength
    if strengths:
        load_part(lambda: pipeline.set_adapters(list(strengths), list(strengths.values())), "LoRA strengths")
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.requires_grad_(False).eval()


def _load_lora(pipeline: Any, tensors: dict[str, Tensor], name: str, label: str) -> None:
    """Load a LoRA under a name; a file that diffusers takes for nothing at all is an error as well."""
    try:
        with warnings.catch_warnings():  # a second adapter is meant
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            load_part(partial(pipeline.load_lora_weights, tensors, adapter_name=name), label)
    except ThalwegError as error:
        reason = str(error.__cause__ or error).split("\n")[0][:160]
        raise ThalwegError(
            f"{label}: it can't be loaded, take a LoRA in safetensors that was trained on this kind of model ({reason})"
        ) from error


def _count_weights(pipeline: Any, name: str) -> int:
    """Return the number of weights of an adapter in all parts of a pipeline."""
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(f".{name}." in key and "lora_" in key for network in networks for key in network.state_dict())


def add_inversions(generator: DiffusionGenerator, files: Sequence[str | Path]) -> list[str]:
    """Load textual inversions into a generator's text encoders; prompts may then hold their words.

    Read are the layouts of diffusers (a word and its vectors), A1111 (`string_to_param`, `emb_params`) and models with
    two encoders (`clip_l` and `clip_g`, `text_encoders_0` and `text_encoders_1`), in safetensors, or in pickles of
    tensors alone, which are read without running code.

    Args:
        generator: the model; it is changed.
        files: the files.

    Returns:
        The word of each file: the one inside, or else the file's name without its suffix.

    Raises:
        UsageError: no such file, or a model without learned words.
        ThalwegError: a file of another layout, or vectors of another width than the model's.
    """
    return [_add_inversion(generator, check_inversion_file(Path(file))) for file in files]


def _add_inversion(generator: DiffusionGenerator, path: Path) -> str:
    adapter, pipeline = generator.adapter, generator.adapter.pipeline
    label = f"textual inversion {path.name}"
    if not hasattr(pipeline, "load_textual_inversion"):
        raise UsageError(f"{label}: expected a model that takes learned words, got a {type(pipeline).__name__}")
    word, vectors = learned_word(path, label)
    by_encoder = _by_encoder(vectors, adapter.encoders[: max(1, len(vectors))], label)
    for encoder, rows in by_encoder.items():
        network = getattr(pipeline, encoder, None)
        width = network.get_input_embeddings().embedding_dim if network is not None else 0
        if rows.shape[-1] != width or len(by_encoder) != len(adapter.clip_encoders):
            raise ThalwegError(
                f"{label}: its vectors are for {len(by_encoder)} encoder(s), of width {rows.shape[-1]}; "
                f"{adapter.name} has {len(adapter.clip_encoders)}"
                f"{f', of width {width}' if width else ''}: take one that was trained on this kind of model"
            )
    for encoder, rows in by_encoder.items():
        network, tokenizer = getattr(pipeline, encoder), getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
        if word in tokenizer.get_vocab():
            raise UsageError(
                f"{label}: expected a new word, {word!r} is one of the model's; rename the file or its word"
            )
        insert = partial(pipeline.load_textual_inversion, {word: rows}, token=word)
        load_part(partial(insert, text_encoder=network, tokenizer=tokenizer), label)
        network.requires_grad_(False)
    return word


def _by_encoder(vectors: Mapping[str, Tensor], encoders: Sequence[str], label: str) -> dict[str, Tensor]:
    """Return the vectors (N, width) by the name of their text encoder."""
    if len(vectors) == 1 and next(iter(vectors)) not in _ENCODERS_OF_KEYS:
        return {encoders[0]: next(iter(vectors.values()))}
    unknown = sorted(set(vectors) - set(_ENCODERS_OF_KEYS))
    if unknown:
        raise ThalwegError(f"{label}: expected vectors of {', '.join(_ENCODERS_OF_KEYS)}, got {unknown[0]}")
    return {_ENCODERS_OF_KEYS[key]: rows for key, rows in vectors.items()}


def learned_word(path: Path, label: str) -> tuple[str, dict[str, Tensor]]:
    """Return a textual inversion's word and its vectors (N, width) by the name that the file gives them.

    Raises:
        ThalwegError: a file of another layout, vectors of another shape or not finite, or a word with a space in it.
    """
    content = _content(path, label)
    if isinstance(content.get("string_to_param"), Mapping):
        content = {"emb_params": next(iter(content["string_to_param"].values()), None)}
    vectors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    named = set(vectors) & {"emb_params", *_ENCODERS_OF_KEYS}
    if not vectors or (len(vectors) > 1 and named != set(vectors)):
        raise ThalwegError(
            f"{label}: expected the vectors of one word, got {shown(', '.join(sorted(map(str, content))) or 'nothing')}"
        )
    word = path.stem if named else next(iter(vectors))
    if word.split() != [word] or len(word) > MAX_WORD:
        raise ThalwegError(
            f"{label}: expected a word without spaces of at most {MAX_WORD} characters, got {shown(word)}; rename the "
            "file"
        )
    rows = {name: widened(value[None] if value.ndim == 1 else value) for name, value in vectors.items()}
    for name, value in rows.items():
        if value.ndim != 2 or not value.is_floating_point() or not 0 < len(value) <= MAX_VECTORS:
            raise ThalwegError(
                f"{label}: expected 1 to {MAX_VECTORS} vectors of numbers, got {tuple(value.shape)} in {shown(name)}"
            )
    check_finite(label, rows)
    return word, rows


def _content(path: Path, label: str) -> Mapping[str, Any]:
    """Return the entries of a file; of a pickle, if it holds tensors and plain values alone."""
    if path.suffix.lower() == SUFFIX:
        return read_tensors(path, label)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common class for what it does not read
        raise ThalwegError(
            f"{label}: it is no file of tensors alone, and nothing else in a pickle is read, because it can run code; "
            "take a safetensors file"
        ) from error
    if not isinstance(content, Mapping):
        raise ThalwegError(f"{label}: expected the vectors of one word, got a {type(content).__name__}")
    return content
