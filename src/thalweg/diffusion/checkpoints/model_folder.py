"""Checks of a model's folder before anything in it is loaded: index, parts, configs and weight files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError, UsageError
from thalweg.io.json_files import read_json
from thalweg.io.safetensors_files import LFS_POINTER, describe_wrong_content, open_safetensors
from thalweg.limits import shown

INDEX = "model_index.json"
CONFIG = "config.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
WEIGHT_STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Name of a part's weight files by library, without variant and suffix."""

UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"
"""Name of a weight that all single-file checkpoints of Stable Diffusion 1 and 2 and SDXL hold."""

PREFERRED_VARIANTS = ("", "fp32", "fp16", "bf16")
"""Variants of the same weights, the most precise first; a folder may hold several."""

VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")

QUANTIZERS = {
    "awq": ("awq", "autoawq"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "gguf": ("gguf", "gguf"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "hqq": ("hqq", "hqq"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "torchao": ("torchao", "torchao"),
}
"""Module and package that quantized weights need, by the name of the method."""


@dataclass(frozen=True)
class WeightFiles:
    """Weight files of a part.

    Attributes:
        variant: variant such as fp16; None: the plain files.
        types: type of each tensor as safetensors names it (F32, F16, BF16, ...), by the tensor's name.
    """

    variant: str | None
    types: Mapping[str, str]


def find_folder(name: str) -> Path | None:
    """Return the folder `name`; None where `name` is a hub model's name (owner/model).

    Raises:
        UsageError: a file instead of a folder, or neither a folder nor a hub name.
    """
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return path
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, no such user's home
        raise UsageError(f"expected a model's folder or a hub name (owner/model), got {shown(name)}") from error
    if is_file:
        raise UsageError(f"{path.name}: {_hint_for_file(path)}")
    if path.suffix in (*PICKLES, ".safetensors", ".gguf"):
        raise UsageError(f"expected a model's folder or a hub name (owner/model), found no file {shown(name)}")
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise UsageError(
            f"expected a folder with a {INDEX} or a hub model's name (owner/model), got {shown(name)}, which is neither"
        )
    return None


def _hint_for_file(path: Path) -> str:
    """Return the next step for a model that is one file instead of a folder."""
    from thalweg.embedding import FORMAT

    if path.suffix == ".gguf":
        return "gguf weights are not read; expected a diffusers folder with safetensors weights"
    kind = "a single file"
    if path.suffix in PICKLES:
        kind = "one file of pickles, which can run code when opened"
    elif path.suffix == ".safetensors":
        with open_safetensors(path, path.name) as file:
            names, metadata = list(file.keys()), file.metadata() or {}
        if metadata.get("format") == FORMAT:
            return f"expected a diffusers folder with a {INDEX}, got an embedding file; give it as the prompt"
        if UNET_INPUT in names:
            return "it is a single-file checkpoint of an image model: give the file as the model"
        if any("lora" in name.lower() for name in names):
            return (
                f"expected a diffusers folder with a {INDEX}, got a LoRA, which belongs on top of a model; load it "
                "onto a pipeline with load_lora_weights(FILE) and wrap that with thalweg.diffusion.DiffusionGenerator"
            )
    return (
        f"expected a diffusers folder with a {INDEX}, or one safetensors file of SD 1, 2 or SDXL in the original "
        f"layout; got {kind}: make a folder of it with diffusers' from_single_file(FILE) and save_pretrained(FOLDER), "
        "and give that folder"
    )


def hint_nearby(folder: Path) -> str:
    """Return a hint at a model near a folder without an index; empty where there is none."""
    if (folder.resolve().parent / INDEX).is_file():
        return f"; it is a part of the model {folder.resolve().parent.name}, give that folder"
    inner = sorted({*folder.glob(f"*/{INDEX}"), *folder.glob(f"snapshots/*/{INDEX}")})
    if inner:
        return f"; there is one in {inner[0].parent.relative_to(folder)}, give that folder"
    files = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (*PICKLES, ".safetensors", ".gguf"))
    return f"; {files[0]} there: {_hint_for_file(folder / files[0])}" if files else ""


def read_object(path: Path, label: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UsageError: no file, or no JSON object in it.
    """
    if not path.is_file():
        raise UsageError(f"{label}: expected {path.name}, found none")
    if instead := describe_wrong_content(path):
        raise UsageError(f"{label}: its {path.name} can't be read: {instead}")
    value = read_json(path, f"{label}: its {path.name}")
    if not isinstance(value, dict):
        raise UsageError(f"{label}: expected an object in its {path.name}, got {shown(value)}")
    return value


def check_files(folder: Path, label: str) -> None:
    """Check that no file in a tokenizer's or a scheduler's folder is a Git LFS pointer.

    Raises:
        ThalwegError: a file is a pointer; the message names it.
    """
    for file in sorted(folder.iterdir()):
        if file.is_file() and describe_wrong_content(file) == LFS_POINTER:
            raise ThalwegError(f"{label}: its {file.name} can't be read: {LFS_POINTER}")


def read_config(folder: Path, label: str) -> dict[str, Any]:
    """Return a part's config.json.

    Raises:
        UsageError: no such file, or no JSON object in it.
        ThalwegError: its weights are quantized by a library that is not installed.
    """
    config = read_object(folder / CONFIG, label)
    quantized = config.get("quantization_config")
    if not quantized:
        return config
    if not isinstance(quantized, dict):
        raise UsageError(f"{label}: expected an object as quantization_config in its {CONFIG}, got {shown(quantized)}")
    method = quantized.get("quant_method")
    if method is None and (quantized.get("load_in_8bit") or quantized.get("load_in_4bit")):
        method = "bitsandbytes"
    if not isinstance(method, str) or method not in QUANTIZERS:
        raise UsageError(
            f"{label}: its weights are quantized by {shown(method)}, known are {', '.join(QUANTIZERS)}; take the "
            "model that is not quantized"
        )
    module, package = QUANTIZERS[method]
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # the package around a submodule is absent
        found = False
    if not found:
        raise ThalwegError(
            f"{label}: its weights are quantized by {method}, whose library is not installed: pip install {package}, "
            "or take the model that is not quantized"
        )
    return config


def find_weights(folder: Path, stem: str, label: str) -> WeightFiles:
    """Return the safetensors files of a part, of several variants the most precise; reads every header.

    Raises:
        ThalwegError: no safetensors files, or incomplete ones; the message names the files found instead.
    """
    names = sorted(entry.name for entry in folder.iterdir())
    single = re.compile(rf"{stem}(?:\.(\w+))?\.safetensors")
    sharded = re.compile(rf"{stem}\.safetensors\.index(?:\.(\w+))?\.json")
    found = {match[1] or "": name for name in names if (match := single.fullmatch(name) or sharded.fullmatch(name))}
    if not found:
        raise ThalwegError(f"{label}: {_weights_instead(names, stem)}")
    variant = next((known for known in PREFERRED_VARIANTS if known in found), None)
    if variant is None:
        if len(found) > 1:
            raise ThalwegError(
                f"{label}: expected one set of weights, found the variants {', '.join(found)}; keep one of them"
            )
        (variant,) = found
    name = found[variant]
    files = [name]
    if name.endswith(".json"):
        shards = read_object(folder / name, label).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()):
            raise ThalwegError(f"{label}: its {name} names no files of weights; fetch it again")
        files = sorted(set(shards.values()))
    types: dict[str, str] = {}
    for file in files:
        if file not in names:
            raise ThalwegError(f"{label}: its {name} names {file}, which is missing; fetch it")
        types |= read_header(folder / file, label)
    return WeightFiles(variant or None, types)


def _weights_instead(names: list[str], stem: str) -> str:
    """Return the message for a folder of these files, which has no safetensors weights."""
    expected = f"expected weights in {stem}.safetensors"
    if others := [name for name in names if name.endswith(".safetensors")]:
        return f"{expected}, found {', '.join(others[:3])}; its name or its index file is missing"
    if gguf := [name for name in names if name.endswith(".gguf")]:
        return f"{expected}, found {gguf[0]}; gguf weights are not read: take the model in safetensors"
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        return (
            f"{expected}, found {pickles[0]}; pickles can run code when opened and are refused: load the part once "
            "where you trust it and write it with save_pretrained(FOLDER), or take the model in safetensors"
        )
    return f"{expected}, found none; fetch the model again"


def read_header(path: Path, label: str) -> dict[str, str]:
    """Return the type of each tensor in a safetensors file, by name; reads no tensor.

    Raises:
        ThalwegError: not a complete safetensors file.
    """
    with open_safetensors(path, f"{label}: its {path.name}") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
