"""A fitted GPP model as a folder: `model.json` and `weights.safetensors`, proved by a content hash, never unpickled.

Only ensembles of the temporal transformer are saved: its members are tensors. The trees of gradient boosting are
Python objects that could only be pickled, and a pickle runs code when it is read.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from thalweg._version import __version__
from thalweg.earth.sensors import Declaration
from thalweg.errors import UsageError
from thalweg.gpp.data.features import FeatureRecipe
from thalweg.gpp.data.footprint import embedding_names
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.transformer import PiecewiseEncoding, TemporalTransformer, TransformerConfig, TransformerLearner
from thalweg.io.atomic import new_folder
from thalweg.io.hashing import content_hash

FORMAT = 2

_KINDS = ("encoding", "means")
_ENCODING = ("feature", "low", "high", "mean", "scale")


class GppCard(Declaration):
    """What a GPP model's `model.json` holds."""

    format: int = Field(description="version of this layout")
    kind: Literal["gpp-transformer"] = Field(description="what the folder holds")
    features: tuple[str, ...] = Field(description="columns it predicts from, in order")
    recipe: FeatureRecipe = Field(description="how the features were made")
    members: int = Field(description="networks in the ensemble")
    settings: dict[str, Any] = Field(description="of the networks")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote it")
    training: dict[str, Any] = Field(description="sites, days and seed it was fitted to")


@dataclass(frozen=True)
class SavedModel:
    """A model and its card."""

    model: Ensemble
    card: GppCard

    def check_embedding(self, identifier: str, where: str) -> None:
        """Refuse embeddings of another model than those it learned from."""
        if identifier != self.card.recipe.embedding_model:
            raise UsageError(
                f"{where}: embedded by {identifier}, the GPP model learned from {self.card.recipe.embedding_model}: "
                "embed it with that model, or train on these embeddings"
            )


def save_model(model: Ensemble, windows: Windows, recipe: FeatureRecipe, folder: Path) -> GppCard:
    """Write a fitted ensemble of transformers, all or nothing.

    Args:
        model: fitted.
        windows: what it was fitted to.
        recipe: how their features were made.
        folder: must not exist.

    Raises:
        UsageError: the folder exists, or the members are no transformers.
        ThalwegError: it can not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    members = [member for member in model.fitted if isinstance(member, TransformerLearner)]
    if not members or len(members) != len(model.fitted):
        raise UsageError("only a fitted transformer can be saved: trees and regressions would have to be pickled")
    tensors = {"beyond": torch.from_numpy(np.asarray(model.beyond, np.float32))}
    for index, member in enumerate(members):
        tensors |= {f"{index}.{name}": tensor for name, tensor in _tensors(member).items()}
    card = GppCard(
        format=FORMAT,
        kind="gpp-transformer",
        features=windows.features,
        recipe=recipe,
        members=len(members),
        settings=asdict(members[0].settings),
        content_hash=content_hash(tensors),
        package_version=__version__,
        training={"sites": windows.sites, "days": len(windows), "seed": model.seed},
    )
    with new_folder(folder, SafetensorError) as unfinished:
        save_file(tensors, unfinished / "weights.safetensors")
        (unfinished / "model.json").write_text(card.model_dump_json(indent=2) + "\n")
    return card


def load_model(folder: str | Path) -> SavedModel:
    """Read what `save_model` wrote.

    Raises:
        UsageError: the folder holds no GPP model, another version's, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    path = folder / "model.json"
    if not path.is_file():
        raise UsageError(
            f"{folder}: not a GPP model: expected model.json and weights.safetensors (`thalweg gpp train`)"
        )
    try:
        written = json.loads(path.read_text())
        kind = written.get("kind") if isinstance(written, dict) else None
        if kind != "gpp-transformer":
            raise UsageError(f"{folder}: a model of kind {kind}, expected gpp-transformer (`thalweg gpp train`)")
        card = GppCard.model_validate(written)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not a GPP model's card ({str(error).splitlines()[0]}): train it again") from error
    if card.format != FORMAT:
        raise UsageError(
            f"{path}: format {card.format}, of thalweg {card.package_version}; this one reads {FORMAT}: "
            "train it again, or use that version"
        )
    try:
        tensors = load_file(folder / "weights.safetensors")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise UsageError(f"{folder}: weights.safetensors is damaged ({error}): train it again") from error
    if content_hash(tensors) != card.content_hash:
        raise UsageError(f"{folder}: the tensors are not those of model.json (hash differs): train it again")
    _check_features(card, path)
    held = {name.partition(".")[0] for name in tensors} - {"beyond"}
    if len(held) != card.members:
        raise UsageError(f"{path}: {card.members} members, weights.safetensors holds {len(held)}: train it again")
    try:
        model = Ensemble({"transformer": TransformerLearner}, members=card.members, seed=int(card.training["seed"]))
        settings = TransformerConfig(**card.settings)
        model.fitted = [_learner(tensors, f"{index}.", settings, folder) for index in range(card.members)]
        model.beyond = tensors["beyond"].numpy()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # settings of another type, a tensor missing
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path}: no network can be built from it ({reason}): train it again") from error
    return SavedModel(model, card)


def _check_features(card: GppCard, path: Path) -> None:
    """Refuse features that the recipe does not give: the network takes them by position.

    Raises:
        UsageError: One comes twice, or the embedding's are not those of its size in order.
    """
    embedding = tuple(name for name in card.features if re.fullmatch(r"e\d+", name))
    if len(set(card.features)) != len(card.features) or embedding != embedding_names(card.recipe.size):
        raise UsageError(
            f"{path}: features {', '.join(card.features[:8])}: expected each once, and those of an embedding of "
            f"{card.recipe.size} dimensions in order; train it again"
        )


def _tensors(member: TransformerLearner) -> dict[str, Tensor]:
    encoding = {
        f"{kind}.{name}": torch.from_numpy(np.asarray(getattr(getattr(member, kind), name)))
        for kind in _KINDS
        for name in _ENCODING
    }
    network = {f"network.{name}": tensor.contiguous() for name, tensor in member.network.state_dict().items()}
    return {**encoding, **network, "target": torch.tensor([member.centre, member.scale])}


def _learner(tensors: dict[str, Tensor], prefix: str, settings: TransformerConfig, folder: Path) -> TransformerLearner:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    learner = TransformerLearner(settings=settings)
    for kind in _KINDS:
        encoding = PiecewiseEncoding.__new__(PiecewiseEncoding)
        for name in _ENCODING:
            setattr(encoding, name, own[f"{kind}.{name}"].numpy())
        setattr(learner, kind, encoding)
    learner.centre, learner.scale = own["target"].numpy()
    learner.network = TemporalTransformer(learner.encoding.inputs, learner.means.inputs, settings)
    weights = {name.removeprefix("network."): value for name, value in own.items() if name.startswith("network.")}
    try:
        learner.network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(f"{folder}: weights do not fit this version's network ({reason}): train it again") from error
    return learner
