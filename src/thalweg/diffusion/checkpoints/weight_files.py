"""Weights into networks: all of them, no others, finite; what does not fit is an error that names it."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thalweg.diffusion.checkpoints.identity import CONSTANT_BUFFERS
from thalweg.diffusion.checkpoints.model_folder import WEIGHT_STEMS, WeightFiles, find_weights, read_config
from thalweg.diffusion.pipeline import quiet
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import read_tensors

FILE_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_SHAPES = re.compile(r"because (\S+) expected shape \D*([\d, ]*)\D*?, but got \D*([\d, ]*)\D*?\. ")

Made = TypeVar("Made")


def load_network(
    kind: Any, source: Path | str, label: str, dtype: torch.dtype | None, files: WeightFiles | None = None
) -> Any:
    """Return the network of the class `kind` (diffusers or transformers) with the weights of a part of a model.

    Args:
        kind: its class.
        source: the part's folder; of transformers' classes a hub model's name, too.
        label: what messages call it.
        dtype: the type its weights are cast to; None: that of the file.
        files: its weight files where they are known; None: they are looked for.

    Raises:
        UsageError: no configuration of such a network.
        ThalwegError: weights are missing, unexpected, of another shape or type, not finite, or in no safetensors file.
    """
    library = kind.__module__.partition(".")[0]
    if isinstance(source, Path):
        config = read_config(source, label)
        named = config.get("_class_name")
        if library == "diffusers" and named not in (None, kind.__name__):
            raise UsageError(f"{label}: expected a {kind.__name__}, its config.json is of a {named}")
        files = files or find_weights(source, WEIGHT_STEMS[library], label)
        dtype = dtype or file_type(files)
    options: dict[str, Any] = {"ignore_mismatched_sizes": True} if library == "transformers" else {}
    network, found = load_part(
        lambda: kind.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            variant=files.variant if files else None,
            output_loading_info=True,
            **options,
        ),
        label,
    )
    mismatched = [f"{name} {tuple(theirs)} instead of {tuple(ours)}" for name, theirs, ours in found["mismatched_keys"]]
    check_names(label, found["missing_keys"], found["unexpected_keys"], mismatched)
    tensors = network.state_dict()
    stored = files.types if files is not None and getattr(network, "hf_quantizer", None) is None else {}
    if integers := [name for name, kept_as in stored.items() if _is_other(kept_as, tensors.get(name))]:
        raise ThalwegError(f"{label}: expected floating weights, its file holds integers in {_some(integers)}")
    check_finite(label, tensors)
    return network


def file_type(files: WeightFiles) -> torch.dtype:
    """Return the widest floating type in a part's files."""
    floating = [FILE_TYPES[kind] for kind in set(files.types.values()) if kind in FILE_TYPES]
    widest = floating[0] if floating else torch.float32
    for kind in floating:
        widest = torch.promote_types(widest, kind)
    return widest


def load_part(load: Callable[[], Made], label: str) -> Made:
    """Return what `load` makes of a part's files, with the libraries' chatter silenced.

    Raises:
        ThalwegError: whatever it raises; the libraries have no common class for files they cannot make sense of.
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
    """Refuse weights that a network lacks, does not know, or has in another shape.

    Raises:
        ThalwegError: with the first of their names.
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
            f"{label}: {'; '.join(faults)}; fetch the model again, or convert it with the present diffusers"
        )


def check_finite(label: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ThalwegError: with the first of their names.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.is_meta}
    bad = [name for name, tensor in floating.items() if not bool(tensor.isfinite().all())]
    if not bad:
        return
    hint = "fetch the model again"
    if any(floating[name].dtype == torch.float16 for name in bad):
        hint = "unless its file holds them they were too large for float16: load it with dtype bfloat16 or float32"
    raise ThalwegError(f"{label}: {len(bad)} of its weights hold NaN or infinity: {_some(bad)}; {hint}")


def fill(network: nn.Module, path: Path, label: str) -> None:
    """Give `network` the weights of a safetensors file, cast to its own types.

    Raises:
        ThalwegError: weights are missing, unexpected, of another shape or not finite, or no safetensors file.
    """
    tensors, own = read_tensors(path, label), network.state_dict()
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
    network.load_state_dict(tensors)


def _is_other(stored: str, tensor: Tensor | None) -> bool:
    """Whether a file's type is no floating one though that of the network's tensor is."""
    floating = stored in FILE_TYPES or stored.startswith("F8_")
    return tensor is not None and tensor.is_floating_point() and not floating


def _some(names: list[str]) -> str:
    """Return the first of `names` in words."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
