"""Loading of weights into networks: all weights, no others, all finite; errors name the weights that do not fit."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thalweg.diffusion.checkpoints.identity import CONSTANT_BUFFERS
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.checkpoints.model_folder import CONFIG, WEIGHT_STEMS, WeightFiles, find_weights, read_config
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import read_tensors
from thalweg.limits import shown

FLOATING_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_SHAPES = re.compile(r"because (\S+) expected shape \D*([\d, ]*)\D*?, but got \D*([\d, ]*)\D*?\. ")

Part = TypeVar("Part")


def load_network(
    network_type: Any,
    source: Path | str,
    label: str,
    dtype: torch.dtype | None,
    files: WeightFiles | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return a network of diffusers or transformers with the weights of a part of a model.

    Args:
        network_type: class of the network.
        source: the part's folder; for classes of transformers also a hub model's name.
        label: name of the part in messages.
        dtype: floating type to cast the weights to; None: the type in the file.
        files: its weight files, where they are known; None: found in the folder.
        options: further arguments of the class's `from_pretrained`.

    Raises:
        UsageError: no config of such a network.
        ThalwegError: weights are missing, unexpected, of another shape or type, not finite, or in no safetensors file.
    """
    library = network_type.__module__.partition(".")[0]
    if isinstance(source, Path):
        config = read_config(source, label)
        named = config.get("_class_name")
        if library == "diffusers" and named not in (None, network_type.__name__):
            raise UsageError(f"{label}: expected a {network_type.__name__}, its config.json is of a {named}")
        files = files or find_weights(source, WEIGHT_STEMS[library], label)
        dtype = dtype or file_type(files)
    tolerant: dict[str, Any] = {"ignore_mismatched_sizes": True} if library == "transformers" else {}
    network, found = load_part(
        lambda: network_type.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            variant=files.variant if files else None,
            output_loading_info=True,
            **tolerant,
            **(options or {}),
        ),
        label,
    )
    mismatched = [f"{name} {tuple(theirs)} instead of {tuple(ours)}" for name, theirs, ours in found["mismatched_keys"]]
    check_names(label, found["missing_keys"], found["unexpected_keys"], mismatched)
    tensors = network.state_dict()
    stored = files.types if files is not None and getattr(network, "hf_quantizer", None) is None else {}
    if integers := [name for name, type_ in stored.items() if _is_integer(type_, tensors.get(name))]:
        raise ThalwegError(f"{label}: expected floating weights, its file holds integers in {_some(integers)}")
    check_finite(label, tensors)
    return network


def read_model_type(source: Path | str, label: str, title: str, known: Collection[str]) -> str:
    """Return the type that the config.json of a folder, or of a hub model, names.

    Args:
        source: the folder, or the hub model's name.
        label: name of the model in messages.
        title: the kinds of model that are expected, for messages.
        known: types of these kinds.

    Raises:
        UsageError: no config, or one of another type.
    """
    from transformers import PretrainedConfig

    if isinstance(source, Path):
        if not (source / CONFIG).is_file():
            raise UsageError(f"{label}: expected the folder of a {title} model, found no {CONFIG} in it")
        config = read_config(source, label)
    else:
        config, _ = load_part(lambda: PretrainedConfig.get_config_dict(source), label)
    found = config.get("model_type")
    if not isinstance(found, str) or found not in known:
        raise UsageError(f"{label}: expected a {title} model, got one of the type {shown(found)}")
    return found


def file_type(files: WeightFiles) -> torch.dtype:
    """Return the widest floating type in a part's files."""
    floating = [FLOATING_TYPES[name] for name in set(files.types.values()) if name in FLOATING_TYPES]
    widest = floating[0] if floating else torch.float32
    for dtype in floating:
        widest = torch.promote_types(widest, dtype)
    return widest


def load_part(load: Callable[[], Part], label: str) -> Part:
    """Return the result of `load` for a part's files, with the libraries' log messages silenced.

    Args:
        load: function that reads the files through a library.
        label: name of the part in messages.

    Raises:
        ThalwegError: for any exception of `load`; the libraries have no common class for files that they cannot read.
    """
    try:
        with quiet():
            return load()
    except ThalwegError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if shapes := _SHAPES.search(reason):
            name, ours, theirs = shapes.groups()
            raise ThalwegError(
                f"{label}: its weights have other shapes than its config.json says: {name} is ({theirs}) instead of "
                f"({ours}); fetch the model again"
            ) from error
        raise ThalwegError(
            f"{label}: it can't be loaded; fetch the model again ({type(error).__name__}: {reason[:200]})"
        ) from error


def check_names(label: str, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str] = ()) -> None:
    """Check that no weights are missing, unexpected, or of another shape than in the network.

    Raises:
        ThalwegError: some are; the message has the first of their names.
    """
    missing, unexpected = (
        sorted(name for name in names if name.rpartition(".")[2] not in CONSTANT_BUFFERS)
        for names in (missing, unexpected)
    )
    faults = [f"{len(missing)} of its weights are missing: {_some(missing)}"] if missing else []
    if unexpected:
        faults.append(f"{len(unexpected)} weights in its file belong to no part of it: {_some(unexpected)}")
    if mismatched := sorted(mismatched):
        faults.append(f"{len(mismatched)} of its weights have another shape: {_some(mismatched)}")
    if faults:
        raise ThalwegError(
            f"{label}: {'; '.join(faults)}; fetch the model again, or convert it with the current version of diffusers"
        )


def check_finite(label: str, tensors: Mapping[str, Tensor]) -> None:
    """Check that all weights are finite.

    Raises:
        ThalwegError: some are NaN or infinite; the message has the first of their names.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.is_meta}
    bad = [name for name, tensor in floating.items() if not bool(widened(tensor).isfinite().all())]
    if not bad:
        return
    hint = "fetch the model again"
    if any(floating[name].dtype == torch.float16 for name in bad):
        hint = "they are in its file or were too large for float16: load it with dtype bfloat16 or float32"
    raise ThalwegError(f"{label}: {len(bad)} of its weights hold NaN or infinity: {_some(bad)}; {hint}")


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 if its floating type has one byte, with which torch does not compute."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def fill(network: nn.Module, path: Path, label: str) -> None:
    """Load the weights of a safetensors file into `network`, cast to its own types.

    Raises:
        ThalwegError: weights are missing, unexpected, of another shape or not finite, or it is no safetensors file.
    """
    fill_with(network, read_tensors(path, label), label)


def fill_with(network: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
    """Load tensors into `network` by their names, cast to its own types.

    Raises:
        ThalwegError: weights are missing, unexpected, of another shape or type, or not finite.
    """
    own = network.state_dict()
    shared = own.keys() & tensors.keys()
    mismatched = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in shared
        if tensors[name].shape != own[name].shape
    ]
    check_names(label, own.keys() - shared, tensors.keys() - shared, mismatched)
    if integers := sorted(name for name in shared if own[name].is_floating_point() > tensors[name].is_floating_point()):
        raise ThalwegError(f"{label}: expected floating weights, its file holds integers in {_some(integers)}")
    check_finite(label, tensors)
    network.load_state_dict({name: tensors[name] for name in shared}, strict=False)


def _is_integer(stored: str, tensor: Tensor | None) -> bool:
    """Return whether a tensor is of a floating type in the network but of another type in the file."""
    floating = stored in FLOATING_TYPES or stored.startswith("F8_")
    return tensor is not None and tensor.is_floating_point() and not floating


def _some(names: list[str]) -> str:
    """Return the first three of `names` as a text."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
