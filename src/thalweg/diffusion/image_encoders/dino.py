"""DINOv2 image encoders, whose features compare images by what they show, without texts."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.model_folder import CONFIG, find_folder, read_config
from thalweg.diffusion.checkpoints.weight_files import load_network, load_part
from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing, read_preprocessing
from thalweg.errors import UsageError
from thalweg.limits import shown

NETWORKS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
"""Name of the network's class in transformers, by the type that config.json names."""


class DinoEncoder:
    """DINOv2 encoder of images.

    Attributes:
        preprocess: preprocessing of the images.
    """

    def __init__(self, network: Any, preprocess: ImagePreprocessing) -> None:
        """Create an encoder of a transformers network, frozen, and its preprocessing."""
        self._network, self.preprocess = network, preprocess

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the class token (S, d), float32 of unit length, of images (S, 3, H, W) in 0..1; differentiable.

        Raises:
            UsageError: images of another shape.
        """
        found = self._network(pixel_values=self.preprocess(images)).last_hidden_state[:, 0]
        return normalize(found.float(), dim=-1)


def load_dino(name: str, device: torch.device | str = "cpu") -> DinoEncoder:
    """Load a DINOv2 model, with registers or without, from a folder or the hub; safetensors weights only.

    Raises:
        UsageError: neither a folder nor a hub name, a model of another type, preprocessing that is not known, or a
            device that this machine lacks.
        ThalwegError: no network and not in the cache, or weights that are missing, unexpected or not finite.
    """
    place = read_device(device)
    import transformers

    source: Path | str = find_folder(name) or name
    label = f"{source.resolve().name if isinstance(source, Path) else source}: the DINOv2 model"
    network_type = getattr(transformers, NETWORKS[_read_type(source, label)])
    preprocess = read_preprocessing(source, label)
    network = load_network(network_type, source, label, torch.float32)
    patch = int(network.config.patch_size)
    if preprocess.output_size is None or any(side % patch for side in preprocess.output_size):
        raise UsageError(
            f"{label}: expected preprocessing to a multiple of {patch} pixels, got {preprocess.output_size}"
        )
    return DinoEncoder(network.to(place).eval().requires_grad_(False), preprocess)


def _read_type(source: Path | str, label: str) -> str:
    """Return the type in the config.json of a folder or a hub model, one of `NETWORKS`."""
    from transformers import PretrainedConfig

    if isinstance(source, Path):
        if not (source / CONFIG).is_file():
            raise UsageError(f"{label}: expected the folder of a DINOv2 model, found no {CONFIG} in it")
        config = read_config(source, label)
    else:
        config, _ = load_part(lambda: PretrainedConfig.get_config_dict(source), label)
    found = config.get("model_type")
    if not isinstance(found, str) or found not in NETWORKS:
        raise UsageError(f"{label}: expected a model of the type {' or '.join(NETWORKS)}, got {shown(found)}")
    return found
