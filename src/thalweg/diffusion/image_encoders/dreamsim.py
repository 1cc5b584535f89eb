"""DreamSim: a learned similarity of images (arXiv 2306.09344), from a folder of image encoders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.model_folder import find_folder, read_object
from thalweg.diffusion.image_encoders.dino import NETWORKS, load_image_network
from thalweg.diffusion.image_encoders.preprocessing import ImagePreprocessing
from thalweg.errors import UsageError
from thalweg.limits import shown

INDEX = "dreamsim.json"
FEATURES = {
    "cls": ("DINO or DINOv2", {"vit": "ViTModel", **NETWORKS}),
    "embedding": ("CLIP", {"clip": "CLIPModel", "clip_vision_model": "CLIPVisionModelWithProjection"}),
}
"""Features of a branch: the models that have them, and their classes in transformers by the type in config.json."""

_FOLDER = re.compile(r"\w[\w.-]*")


class ClassToken(nn.Module):
    """Class token of a DINO or DINOv2 network after its last block, before the final norm.

    Attributes:
        network: the network, without its final norm.
        preprocess: preprocessing of the images.
    """

    def __init__(self, network: Any, preprocess: ImagePreprocessing) -> None:
        """Create a branch of a transformers network, whose final norm is taken off."""
        super().__init__()
        network.layernorm = nn.Identity()
        self.network, self.preprocess = network, preprocess

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (S, d) of images (S, 3, H, W) in 0..1."""
        tokens: Tensor = self.network(pixel_values=self.preprocess(images)).last_hidden_state
        return tokens[:, 0]


class ProjectedEmbedding(nn.Module):
    """Image features of a CLIP network after its projection, not of unit length.

    Attributes:
        vision: the image encoder.
        projection: the linear layer on its pooled output.
        preprocess: preprocessing of the images.
    """

    def __init__(self, network: Any, preprocess: ImagePreprocessing) -> None:
        """Create a branch of the image part of a transformers network."""
        super().__init__()
        self.vision, self.projection, self.preprocess = network.vision_model, network.visual_projection, preprocess

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (S, d) of images (S, 3, H, W) in 0..1."""
        found: Tensor = self.projection(self.vision(pixel_values=self.preprocess(images)).pooler_output)
        return found


class DreamSim(nn.Module):
    """Image encoder whose features are those of several networks, one after the other.

    Attributes:
        branches: modules from images (S, 3, H, W) in 0..1 to features (S, d).
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        """Create an encoder of branches, in the order of their features."""
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the features (S, d), centred and of unit length, of images (S, 3, H, W) in 0..1; differentiable.

        1 less the cosine of two images' features is the published distance: there, features are divided by their
        length, then centred, and the cosine does not depend on the length.

        Raises:
            UsageError: images of another shape.
        """
        features = torch.cat([branch(images) for branch in self.branches], dim=-1)
        return normalize(features - features.mean(-1, keepdim=True), dim=-1)


def load_dreamsim(name: str, device: torch.device | str = "cpu") -> DreamSim:
    """Load DreamSim from a folder of image encoders; safetensors weights only.

    The folder holds `dreamsim.json`, `{"branches": [{"folder": "dino", "feature": "cls"}, ...]}`, and the folder of
    each branch, as `save_pretrained` of transformers writes a network and its image processor. The feature `cls` is
    that of `ClassToken`, `embedding` that of `ProjectedEmbedding`.

    Raises:
        UsageError: no such folder, no or an invalid `dreamsim.json`, a branch that is missing, of another type or with
            preprocessing that does not fit, or a device that this machine lacks.
        ThalwegError: weights that are missing, unexpected, not finite or in no safetensors file.
    """
    place = read_device(device)
    folder = find_folder(name)
    label = f"{folder.resolve().name if folder else name}: DreamSim"
    if folder is None or not (folder / INDEX).is_file():
        raise UsageError(f"{label}: expected a folder with {INDEX} and the folder of each branch, found none")
    branches = [_load_branch(folder, entry, label) for entry in _read_branches(folder, label)]
    return DreamSim(branches).to(place).eval().requires_grad_(False)


def _read_branches(folder: Path, label: str) -> list[tuple[str, str]]:
    """Return the folder and the feature of each branch, checked before any of them is loaded.

    Raises:
        UsageError: the file is invalid, or a folder is missing.
    """
    entries = read_object(folder / INDEX, label).get("branches")
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{label}: expected a list of branches in its {INDEX}, got {shown(entries)}")
    found = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != {"folder", "feature"}:
            raise UsageError(f"{label}: expected folder and feature of each branch in its {INDEX}, got {shown(entry)}")
        name, feature = entry["folder"], entry["feature"]
        if not isinstance(feature, str) or feature not in FEATURES:
            raise UsageError(
                f"{label}: expected the feature {' or '.join(FEATURES)} in its {INDEX}, got {shown(feature)}"
            )
        if not isinstance(name, str) or not _FOLDER.fullmatch(name):
            raise UsageError(f"{label}: expected the name of a folder beside its {INDEX}, got {shown(name)}")
        if not (folder / name).is_dir():
            raise UsageError(f"{label}: expected the folder {shown(name)} that its {INDEX} names, found none")
        found.append((name, feature))
    return found


def _load_branch(folder: Path, entry: tuple[str, str], label: str) -> nn.Module:
    name, feature = entry
    title, classes = FEATURES[feature]
    network, preprocess = load_image_network(folder / name, f"{label}: its branch {name}", title, classes)
    return ClassToken(network, preprocess) if feature == "cls" else ProjectedEmbedding(network, preprocess)
