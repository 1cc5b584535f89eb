"""Models from a diffusers folder or, by name, from the Hugging Face hub and its cache."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from thalweg.diffusion.families import FAMILIES
from thalweg.diffusion.family import quiet
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.errors import ThalwegError, UsageError

INDEX = "model_index.json"


def load(
    name_or_folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    **settings: Any,
) -> DiffusionGenerator:
    """Return the generator of a model in a diffusers folder, or of a hub model by its name (owner/model).

    Args:
        name_or_folder: a folder with a model_index.json, or a hub name; what is in the hub's cache loads offline.
        device: where its weights go.
        dtype: their type; None: float32 on a CPU, elsewhere the half precision that the family uses.
        **settings: of `thalweg.diffusion.Settings`, in place of the family's defaults.

    Raises:
        UsageError: no such model, a family this package does not know, or settings that it does not take.
        ThalwegError: no network, or files that can't be read.
    """
    folder = Path(name_or_folder)
    name = folder.resolve().name if folder.is_dir() else str(name_or_folder)
    index = folder / INDEX if folder.is_dir() else _download_index(name)
    kind = _pipeline_class(name, index)
    family = FAMILIES[kind]
    family.defaults.changed(**settings)
    if dtype is None:
        dtype = torch.float32 if torch.device(device).type == "cpu" else family.half

    import diffusers

    try:
        with quiet():
            pipeline = getattr(diffusers, kind).from_pretrained(
                str(name_or_folder), dtype=dtype, **dict.fromkeys(family.left_out)
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ThalwegError(f"{name}: the model's files can't be read; fetch them anew. {reason}") from error
    return DiffusionGenerator(pipeline.to(device), name, **settings)


def _pipeline_class(name: str, index: Path) -> str:
    """Return the pipeline class that a model's index names."""
    if not index.is_file():
        raise UsageError(f"expected a diffusers folder, found no {INDEX} in {name}")
    try:
        kind = json.loads(index.read_text())["_class_name"]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{name}: its {INDEX} names no pipeline class ({error!r})") from error
    if kind not in FAMILIES:
        raise UsageError(f"{name}: expected a model of a known family, {', '.join(FAMILIES)}; got a {kind}")
    return kind


def _download_index(name: str) -> Path:
    """Return a hub model's index, from the hub or from its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"expected a folder with a {INDEX} or a hub model's name (owner/model), got {name!r}")
    try:
        return Path(hf_hub_download(name, INDEX))
    except GatedRepoError as error:
        raise UsageError(
            f"{name}: its owner gives access on request; accept the conditions at https://huggingface.co/{name} and "
            "log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"expected a folder or a hub model of a known family ({', '.join(FAMILIES)}), found no {name}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ThalwegError(
            f"{name}: no network, and the model is not in the cache; load it once with a network, or give the folder "
            "of a model"
        ) from error
    except EntryNotFoundError as error:
        raise UsageError(f"{name}: expected a diffusers model, the hub's has no {INDEX}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ThalwegError(f"{name}: the hub can't be reached ({type(error).__name__}); try again later") from error
