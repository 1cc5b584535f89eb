"""Single-file checkpoints: Stable Diffusion 1 and 2 and SDXL in one safetensors file of the original layout."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.diffusion.checkpoints.model_folder import UNET_INPUT, find_folder, read_config
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import SUFFIX, open_safetensors
from thalweg.limits import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.diffusion.checkpoints.identity import Hashes

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
"""Beginnings of the names of a part's weights; those of OpenCLIP's layout end with "model."."""

_SDXL_INPUT = "model.diffusion_model.label_emb.0.0.weight"
_REFINER = "conditioner.embedders.0.model."
_VELOCITY = "v_pred"
_OPEN_CLIP = "cond_stage_model.model."


@dataclass(frozen=True)
class SingleFile:
    """Checkpoint of a whole model in one file.

    Attributes:
        path: the file.
        shapes: shapes of its weights, by name.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def open(cls, path: Path) -> "SingleFile":
        """Read the header of a file.

        Raises:
            UsageError: the checkpoint of another kind of model.
            ThalwegError: not a whole safetensors file.
        """
        with open_safetensors(path, path.name) as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        found = cls(path, shapes)
        if any(name.startswith(_REFINER) for name in shapes):
            raise UsageError(
                f"{found.name}: expected a whole model, got a refiner, which alone makes no images of prompts"
            )
        return found

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.path.stem

    @property
    def pipeline_class(self) -> str:
        """Name of the diffusers pipeline that the weights belong to."""
        return "StableDiffusionXLPipeline" if _SDXL_INPUT in self.shapes else "StableDiffusionPipeline"

    @property
    def usual_base(self) -> str:
        """Hub name of the model from which most checkpoints of this kind were trained."""
        from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS as PATHS

        is_second = any(name.startswith(_OPEN_CLIP) for name in self.shapes)
        kind = "xl_base" if _SDXL_INPUT in self.shapes else "v2" if is_second else "v1"
        return PATHS[kind]["pretrained_model_name_or_path"]

    def check_base(self, pipeline_class: str, base: str) -> None:
        """Refuse a base model of another kind.

        Raises:
            UsageError: `pipeline_class` is not that of the file's weights.
        """
        if pipeline_class != self.pipeline_class:
            raise UsageError(
                f"{self.name}: its weights are those of a {self.pipeline_class}, the base {base} is a "
                f"{shown(pipeline_class)}; give another base"
            )

    def check_scheduler(self, scheduler: Any) -> None:
        """Refuse a base model's scheduler of another prediction type than the file states.

        Raises:
            UsageError: the file states that the model predicts velocity, and the scheduler is of another prediction.
        """
        predicts = scheduler.config.get("prediction_type")
        if _VELOCITY in self.shapes and predicts != "v_prediction":
            raise UsageError(
                f"{self.name}: it predicts velocity, the base model's scheduler is of {shown(predicts)}: give a base "
                "model with prediction_type v_prediction in its scheduler_config.json"
            )

    def prefix(self, part: str) -> str | None:
        """Return the beginning of the names of a part's weights; None where the file has none of the part."""
        found = (each for each in PREFIXES.get(part, ()) if any(name.startswith(each) for name in self.shapes))
        return next(found, None)

    def load_network(self, part: str, network_type: Any, folder: Path, dtype: Any) -> "tuple[Any, Hashes | None]":
        """Return a part's network and, where `dtype` is less precise than the file, the hashes of the file's weights.

        Args:
            part: name of the part, which the file holds.
            network_type: class of the network.
            folder: folder of the part in the base model, of which the config is read.
            dtype: floating type to cast the weights to.

        Raises:
            UsageError: the folder has no config of such a network.
            ThalwegError: weights are missing, of another shape or not finite.
        """
        import torch
        from accelerate import init_empty_weights

        from thalweg.diffusion.checkpoints.identity import hash_network
        from thalweg.diffusion.checkpoints.weight_files import check_finite, load_part

        label = f"{self.name}: its {part}"
        config = read_config(folder, label)

        def build() -> Any:
            if network_type.__module__.startswith("diffusers"):
                return network_type.from_config(config)
            return network_type(network_type.config_class.from_pretrained(folder))

        with init_empty_weights(include_buffers=False):
            network = load_part(build, label)
        converted = load_part(lambda: self._converted(part, config, network), label)
        tensors = _fitting(label, converted, network.state_dict())
        # Floating types of one byte are read as float16, which holds all their values.
        types = (tensor.dtype if tensor.element_size() > 1 else torch.float16 for tensor in tensors.values())
        widest = functools.reduce(torch.promote_types, types)
        cast = {name: tensor.to(widest).contiguous() for name, tensor in tensors.items()}
        network.load_state_dict(cast, strict=False, assign=True)
        check_finite(label, network.state_dict())
        precise = hash_network(network) if torch.promote_types(widest, dtype) != dtype else None
        return load_part(lambda: network.to(dtype), label).eval(), precise

    def _converted(self, part: str, config: Mapping[str, Any], network: "nn.Module") -> "dict[str, Tensor]":
        """Return the weights of a part under the names of its network."""
        from diffusers.loaders import single_file_utils as conversions

        prefix = self.prefix(part) or ""
        with open_safetensors(self.path, self.path.name) as file:
            tensors = {name: file.get_tensor(name) for name in self.shapes if name.startswith(prefix)}
        if part == "unet":
            return conversions.convert_ldm_unet_checkpoint(tensors, config)
        if part == "vae":
            return conversions.convert_ldm_vae_checkpoint(tensors, config)
        if prefix.endswith(".model."):
            tensors = conversions.convert_open_clip_checkpoint(network, tensors, prefix=prefix)
            prefix = ""
        inner = "text_model." if any(name.startswith("text_model.") for name in network.state_dict()) else ""
        plain = {name.removeprefix(prefix).removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        return {name if name == "text_projection.weight" else inner + name: plain[name] for name in plain}


def _fitting(label: str, found: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the weights of a checkpoint that belong to a network.

    A checkpoint holds more than the model: averaged weights, a noise schedule, layers that the model does not use.

    Raises:
        ThalwegError: weights are missing, of another shape or integers.
    """
    from thalweg.diffusion.checkpoints.weight_files import check_names

    tensors = {name: tensor for name, tensor in found.items() if name in own and tensor is not None}
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != own[name].shape
    ]
    try:
        check_names(label, own.keys() - tensors.keys(), (), wrong)
    except ThalwegError as error:
        fault = str(error).partition("; fetch the model again")[0]
        raise ThalwegError(f"{fault}; give a base model of the same kind, or fetch the file again") from error
    if integers := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise ThalwegError(f"{label}: expected floating weights, its file holds integers in {integers[0]}")
    return tensors


def find_model(name: str) -> Path | None:
    """Return the folder or the single-file checkpoint `name`; None where `name` is a hub model's name (owner/model).

    Raises:
        UsageError: a file of anything else, or neither a file, a folder nor a hub name.
    """
    path = _checkpoint(name)
    return find_folder(name) if path is None else path


def _checkpoint(name: str) -> Path | None:
    """Return the path of a single-file checkpoint; None for anything else."""
    try:
        path = Path(name).expanduser()
        if path.suffix.lower() != SUFFIX or not path.is_file():
            return None
    except (OSError, ValueError, RuntimeError):  # `find_folder` says what is wrong
        return None
    with open_safetensors(path, path.name) as file:
        return path if UNET_INPUT in file.keys() else None  # noqa: SIM118 (no mapping)
