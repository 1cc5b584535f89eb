"""DINOv2 image encoders, whose features compare images by what they show, without texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.model_folder import find_folder
from thalweg.diffusion.checkpoints.weight_files import load_network, read_model_type
from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing, read_preprocessing
from thalweg.errors import UsageError

NETWORKS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
"""Name of the network's class in transformers, by the type that config.json names; they take images of any size."""
POOLED = ("vit",)
"""Types whose class adds a pooling layer that image encoders lack."""


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
    source: Path | str = find_folder(name) or name
    label = f"{source.resolve().name if isinstance(source, Path) else source}: the DINOv2 model"
    network, preprocess = load_image_network(source, label, "DINOv2", NETWORKS)
    return DinoEncoder(network.to(place), preprocess)


def load_image_network(
    source: Path | str, label: str, title: str, classes: Mapping[str, str]
) -> tuple[Any, ImagePreprocessing]:
    """Load an image encoder of transformers, frozen, and its preprocessing, which has to fit it.

    Args:
        source: its folder, or a hub model's name.
        label: name of the model in messages.
        title: the kinds of model that are expected, for messages.
        classes: name of the class in transformers, by the type that config.json names.

    Raises:
        UsageError: a model of another type, or preprocessing that is not known or does not fit.
        ThalwegError: no network and not in the cache, or weights that are missing, unexpected or not finite.
    """
    import transformers

    kind = read_model_type(source, label, title, classes)
    preprocess = read_preprocessing(source, label)
    options = {"add_pooling_layer": False} if kind in POOLED else None
    network = load_network(getattr(transformers, classes[kind]), source, label, torch.float32, options=options)
    config = getattr(network.config, "vision_config", network.config)
    if kind not in NETWORKS:
        preprocess.check_side(int(config.image_size), label)
    elif preprocess.output_size is None or any(side % int(config.patch_size) for side in preprocess.output_size):
        raise UsageError(
            f"{label}: expected preprocessing to a multiple of {config.patch_size} pixels, got {preprocess.output_size}"
        )
    return network.eval().requires_grad_(False), preprocess
