"""Loading of models from a diffusers folder, a single file or, by name, the Hugging Face hub and its cache."""

import inspect
from pathlib import Path
from typing import Any

import torch

from thalweg.devices import read_device, read_dtype
from thalweg.diffusion.checkpoints.identity import Hashes, hash_network
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.checkpoints.model_folder import (
    INDEX,
    VOCABULARIES,
    WEIGHT_STEMS,
    check_files,
    find_folder,
    find_weights,
    hint_nearby,
    read_config,
    read_object,
)
from thalweg.diffusion.checkpoints.single_file import SingleFile, find_model
from thalweg.diffusion.checkpoints.weight_files import file_type, load_network, load_part
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.pipelines.registry import PIPELINE_ADAPTERS
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.diffusion.schedulers import make_scheduler
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import shown

CONFIG_FILES = ("*.json", "*.txt", "*.model")
"""Files of a hub model that a single-file checkpoint needs."""


def load(
    name_or_folder: str | Path,
    *,
    base: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    **settings: Any,
) -> DiffusionGenerator:
    """Load the model in a diffusers folder or a single-file checkpoint, or a hub model by its name, as a generator.

    Weights are read from safetensors only, and no code in the folder is run. All weights must be there; none are
    initialised at random. Where a folder holds the variant fp16 only, that is loaded. Settings, device and the model's
    scheduler are checked before any network is loaded.

    Args:
        name_or_folder: a folder with a model_index.json, a checkpoint of Stable Diffusion 1 or 2 or SDXL in one
            safetensors file, or a hub name (owner/model); models in the hub's cache load offline.
        base: for a single file: folder or hub name of a model of its kind, of which the configs, the tokenizers, the
            scheduler and the parts that the file lacks are taken; None: the model that most of its kind come from.
        device: device of the weights, such as cpu, cuda, cuda:1 or mps.
        dtype: floating type of the weights, or its name; None: float32 on a CPU, elsewhere the half precision of the
            pipeline adapter.
        **settings: fields of `thalweg.diffusion.SamplingConfig`, which replace the adapter's defaults.

    Returns:
        The generator: images (S, 3, H, W), float32 in 0..1, from embeddings and seeds.

    Raises:
        UsageError: no such model, an unsupported pipeline class, settings that it does not take, or a device that this
            machine lacks.
        ThalwegError: no network, or files that can't be read; weights that are missing, unexpected or not finite.
    """
    sampling = SamplingConfig().changed(**settings)
    place, wanted = read_device(device), read_dtype(dtype)
    import diffusers

    checkpoint, folder = _find_files(str(name_or_folder), base)
    name = checkpoint.name if checkpoint else folder.resolve().name if folder else str(name_or_folder)
    index_file = folder / INDEX if folder else _download_index(name)
    if not index_file.is_file():
        raise UsageError(f"expected a diffusers folder, found no {INDEX} in {name}{hint_nearby(index_file.parent)}")
    index = read_object(index_file, name)
    class_name = _pipeline_class(name, index)
    if checkpoint:
        checkpoint.check_base(class_name, str(folder))
    adapter = PIPELINE_ADAPTERS[class_name]
    pipeline_type = load_part(lambda: getattr(diffusers, class_name), name)
    types = _part_types(name, pipeline_type, adapter, index)
    folder = folder or _download(pipeline_type, name, adapter)
    wanted = wanted or (torch.float32 if place.type == "cpu" else adapter.half)
    parts: dict[str, Any] = dict.fromkeys(_parts(pipeline_type, adapter))
    hashes: dict[str, Hashes] = {}
    for part, part_type in sorted(types.items(), key=lambda item: issubclass(item[1], torch.nn.Module)):
        label = f"{name}: its {part}"
        if not (folder / part).is_dir():
            raise ThalwegError(f"{label}: expected a folder {part}, found none; {_without(part, adapter)}")
        if issubclass(part_type, torch.nn.Module):
            parts[part], precise = _load_network(part_type, folder / part, label, wanted, checkpoint)
            if precise is not None and part in (*adapter.encoders, adapter.denoiser):
                hashes[part] = precise
        else:
            parts[part] = _load_plain(part_type, folder / part, label)
            if part == "scheduler":
                _check_scheduler(parts[part], sampling, checkpoint)
    _check_tokenizers(name, parts, adapter)
    # The pipeline loads none of the parts that it is given; the rest of the index are settings of the pipeline.
    pipeline = load_part(lambda: pipeline_type.from_pretrained(str(folder), **parts), name)
    generator = DiffusionGenerator(load_part(lambda: pipeline.to(place), f"{name}: on {place}"), name, **settings)
    generator.adapter.identifier.remember(parts, hashes)
    if captions.is_own_tokenizer(pipeline.tokenizer):
        generator.adapter.vocabulary = captions.VOCABULARY
    return generator


def _find_files(name: str, base: str | Path | None) -> tuple[SingleFile | None, Path | None]:
    """Return a model's single file, if it is one, and its folder or that of its base; no folder for a hub model.

    Raises:
        UsageError: no such model, or a base for a model that is no single file.
    """
    found = find_model(name)
    if found is not None and found.is_file():
        checkpoint = SingleFile.open(found)
        return checkpoint, _base_folder(checkpoint, base)
    if base is not None:
        raise UsageError(f"expected no `base` for {name}: only a single-file checkpoint needs one")
    return None, found


def _base_folder(checkpoint: SingleFile, base: str | Path | None) -> Path:
    """Return the folder of a single file's base; of a hub model, the configs and tokenizers are fetched or cached.

    Raises:
        UsageError: no such folder.
        ThalwegError: the hub model's files are not cached, and can't be fetched.
    """
    from huggingface_hub import snapshot_download

    name = checkpoint.usual_base if base is None else str(base)
    folder = find_folder(name) if base is not None else None
    if folder is not None:
        return folder
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=list(CONFIG_FILES)))
    except (OSError, ValueError) as error:
        include = " ".join(f"'{pattern}'" for pattern in CONFIG_FILES)
        raise ThalwegError(
            f"{checkpoint.name}: its file holds no configs and no tokenizer, and those of {name} are not in the cache "
            f"and can't be fetched: run `hf download {name} --include {include}` with a network, or give the folder of "
            "a model of its kind as `base`"
        ) from error


def _load_plain(part_type: Any, folder: Path, label: str) -> Any:
    """Return a part without weights: a tokenizer or a scheduler."""
    check_files(folder, label)
    if "tokenizer" in folder.name and not any((folder / file).is_file() for file in VOCABULARIES):
        raise ThalwegError(f"{label}: expected {' or '.join(VOCABULARIES)}, found none; fetch the model again")
    return load_part(lambda: part_type.from_pretrained(folder), label)


def _check_scheduler(scheduler: Any, sampling: SamplingConfig, checkpoint: SingleFile | None) -> None:
    """Refuse a scheduler that the model does not take, before any network is loaded."""
    if isinstance(sampling.scheduler, str):
        make_scheduler(sampling.scheduler, scheduler)
    if checkpoint:
        checkpoint.check_scheduler(scheduler)


def _load_network(
    network_type: Any, folder: Path, label: str, dtype: torch.dtype, checkpoint: SingleFile | None
) -> tuple[Any, Hashes | None]:
    """Return a part's network and, where `dtype` is less precise than its file, the hashes of the file's weights."""
    if checkpoint and checkpoint.prefix(folder.name):
        return checkpoint.load_network(folder.name, network_type, folder, dtype)
    label += " (of the base model, the file has none)" if checkpoint else ""
    read_config(folder, label)
    files = find_weights(folder, WEIGHT_STEMS[network_type.__module__.partition(".")[0]], label)
    precise, own = None, file_type(files)
    if torch.promote_types(own, dtype) != dtype:
        precise = hash_network(load_network(network_type, folder, label, own, files))
    return load_network(network_type, folder, label, dtype, files), precise


def _pipeline_class(name: str, index: dict[str, Any]) -> str:
    """Return the pipeline class that a model's index names."""
    class_name = index.get("_class_name")
    if class_name is None:
        raise UsageError(f"{name}: its {INDEX} names no pipeline class (_class_name)")
    supported = ", ".join(PIPELINE_ADAPTERS)
    if isinstance(class_name, list):
        raise UsageError(
            f"{name}: expected a supported pipeline, {supported}; got a custom pipeline, {shown(class_name)}, whose "
            "own code is never run"
        )
    if not isinstance(class_name, str) or class_name not in PIPELINE_ADAPTERS:
        found = class_name if isinstance(class_name, str) and class_name.isidentifier() else shown(class_name)
        raise UsageError(f"{name}: expected a supported pipeline, {supported}; got a {found}")
    return class_name


def _parts(pipeline_type: Any, adapter: type[PipelineAdapter]) -> dict[str, bool]:
    """Return the names of a pipeline's parts: True for the parts that are used, False for those that are left out."""
    found = inspect.signature(pipeline_type.__init__).parameters
    left_out = [part for part in adapter.left_out if part in found]
    used = [part for part, taken in found.items() if part != "self" and taken.default is inspect.Parameter.empty]
    return dict.fromkeys(used, True) | dict.fromkeys(left_out, False)


def _part_types(name: str, pipeline_type: Any, adapter: type[PipelineAdapter], index: dict[str, Any]) -> dict[str, Any]:
    """Return the classes of the parts of a model that are used, by the name of their folder."""
    types: dict[str, Any] = {}
    for part, used in _parts(pipeline_type, adapter).items():
        if not used:
            continue
        named = index.get(part)
        if named in (None, [None, None]):
            if part not in adapter.optional_parts:
                hint = "; a refiner alone makes no images of prompts" if part == "text_encoder" else ""
                raise UsageError(
                    f"{name}: expected a whole {pipeline_type.__name__}, its {INDEX} names no {part}{hint}"
                )
            continue
        types[part] = _part_type(f"{name}: its {part}", named)
    if 0 < len(named_ones := [part for part in adapter.optional_parts if part in types]) < len(adapter.optional_parts):
        together = " and ".join(adapter.optional_parts)
        raise UsageError(f"{name}: expected {together}, or neither, its {INDEX} names {named_ones[0]} alone")
    return types


def _part_type(label: str, named: Any) -> Any:
    """Return the class of diffusers or transformers that an index names for a part; no code of a model is run."""
    import diffusers
    import transformers

    libraries = {"diffusers": diffusers, "transformers": transformers}
    if not (isinstance(named, list) and len(named) == 2 and all(isinstance(text, str) for text in named)):
        raise UsageError(f"{label}: expected [library, class] in {INDEX}, got {shown(named)}")
    library, class_name = named
    if library not in libraries:
        raise UsageError(
            f"{label}: expected a class of diffusers or transformers, got {shown(class_name)} of {shown(library)}; "
            "a model's own code is never run"
        )
    # A missing dependency of the class shows when the attribute is taken.
    found = load_part(lambda: getattr(libraries[library], class_name, None), f"{label}: {shown(class_name)}")
    guessing = library == "transformers" and class_name.startswith("Auto")
    if guessing or not isinstance(found, type) or not load_part(lambda: hasattr(found, "from_pretrained"), label):
        version = libraries[library].__version__
        raise UsageError(f"{label}: expected a class of {library} {version}, got {shown(class_name)}")
    return found


def _without(part: str, adapter: type[PipelineAdapter]) -> str:
    """Return the next step where a part's folder is missing."""
    if part not in adapter.optional_parts:
        return "fetch the model again"
    parts = " and ".join(adapter.optional_parts)
    return f"fetch it, or write [null, null] for {parts} in {INDEX} to use the model without"


def _check_tokenizers(name: str, parts: dict[str, Any], adapter: type[PipelineAdapter]) -> None:
    """Refuse a tokenizer with more tokens, or longer texts, than its encoder takes."""
    for part, encoder in parts.items():
        tokenizer = parts.get(part.replace("text_encoder", "tokenizer"))
        if not part.startswith("text_encoder") or tokenizer is None or encoder is None:
            continue
        label = f"{name}: its {part.replace('text_encoder', 'tokenizer')}"
        config = encoder.config.get_text_config()
        most = None if part in adapter.long_encoders else getattr(config, "max_position_embeddings", None)
        if len(tokenizer) > config.vocab_size:
            raise ThalwegError(
                f"{label}: it has {len(tokenizer)} tokens, its encoder {config.vocab_size}; they belong to two models"
            )
        if most is not None and tokenizer.model_max_length > most:
            raise ThalwegError(
                f"{label}: expected model_max_length of at most {most} in tokenizer_config.json, got "
                f"{tokenizer.model_max_length}; fetch the model again"
            )


def _download_index(name: str) -> Path:
    """Return a hub model's index, from the hub or from its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        with quiet():
            return Path(hf_hub_download(name, INDEX))
    except GatedRepoError as error:
        raise UsageError(
            f"{name}: its owner gives access on request; accept the conditions at https://huggingface.co/{name} and "
            "log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"expected a folder or a hub model with a supported pipeline, {', '.join(PIPELINE_ADAPTERS)}; found no "
            f"{name}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ThalwegError(
            f"{name}: no network, and the model is not in the cache; load it once with a network, or give the folder "
            f"of a model (there is no folder {name} here)"
        ) from error
    except EntryNotFoundError as error:
        raise UsageError(f"{name}: expected a diffusers model, the hub's has no {INDEX}") from error
    except HFValidationError as error:
        raise UsageError(
            f"expected a folder with a {INDEX} or a hub model's name (owner/model), got {name!r}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ThalwegError(f"{name}: the hub can't be reached ({type(error).__name__}); try again later") from error


def _download(pipeline_type: Any, name: str, adapter: type[PipelineAdapter]) -> Path:
    """Download a hub model's safetensors weights, the variant fp16 where it has no other; return its cache folder."""

    def fetch(variant: str | None) -> Path:
        with quiet():
            left_out = dict.fromkeys(part for part, used in _parts(pipeline_type, adapter).items() if not used)
            return Path(pipeline_type.download(name, use_safetensors=True, variant=variant, **left_out))

    try:
        return fetch(None)
    except (OSError, ValueError):
        return load_part(lambda: fetch("fp16"), f"{name}: no weights in safetensors could be fetched")
