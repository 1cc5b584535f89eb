"""Folder of a fitted GPP model: `model.json` and `weights.safetensors`, verified by a content hash, without pickle.

Only ensembles of the temporal transformer are saved: their members are tensors. The trees of gradient boosting are
Python objects that could only be pickled, and a pickle runs code when it is read.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from thalweg.earth.sensors import Declaration
from thalweg.errors import ThalwegError, UsageError
from thalweg.gpp.data.features import FeatureRecipe
from thalweg.gpp.data.footprint_series import embedding_names
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.transformer import PiecewiseEncoding, TemporalTransformer, TransformerConfig, TransformerLearner
from thalweg.io.checkpoints import CARD, ModelFormat, load_state

_ENCODINGS = ("encoding", "means")
_ENCODING_ARRAYS = ("feature", "low", "high", "mean", "scale")


class GppCard(Declaration):
    """Contents of a GPP model's `model.json`."""

    format: int = Field(description="version of this layout")
    kind: Literal["gpp-transformer"] = Field(description="kind of model")
    features: tuple[str, ...] = Field(description="columns the model predicts from, in order")
    recipe: FeatureRecipe = Field(description="recipe of the features")
    members: int = Field(description="networks in the ensemble")
    settings: dict[str, Any] = Field(description="configuration of the networks")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote the model")
    training: dict[str, Any] = Field(description="sites, number of days and seed of the training")


KIND = "gpp-transformer"
"""Kind of the saved models."""

GPP_MODEL = ModelFormat(GppCard, version=2, label="a GPP model", remedy="train it again")
"""Layout of a GPP model's folder."""


@dataclass(frozen=True)
class GppModel:
    """Fitted GPP model.

    Attributes:
        ensemble: Fitted ensemble of temporal transformers.
        card: Features, their recipe and the training of the model.
    """

    ensemble: Ensemble
    card: GppCard

    def check_embedding(self, identifier: str, source: str) -> None:
        """Refuse embeddings of another model than the one whose embeddings the GPP model learned from.

        Args:
            identifier: Identifier of the model that made the embeddings.
            source: Name of the embeddings in a message.

        Raises:
            UsageError: The identifiers differ.
        """
        if identifier != self.card.recipe.embedding_model:
            raise UsageError(
                f"{source}: embedded by {identifier}, the GPP model learned from {self.card.recipe.embedding_model}: "
                "embed it with that model, or train on these embeddings"
            )


def save_model(ensemble: Ensemble, windows: Windows, recipe: FeatureRecipe, folder: Path) -> GppCard:
    """Write a fitted ensemble of transformers, all or nothing.

    Args:
        ensemble: Fitted ensemble.
        windows: Windows the ensemble was fitted to.
        recipe: Recipe of their features.
        folder: Model folder; must not exist.

    Returns:
        The card that was written.

    Raises:
        UsageError: The folder exists, or the members are not transformers.
        ThalwegError: The folder cannot be written.
    """
    members = [member for member in ensemble.learners if isinstance(member, TransformerLearner)]
    if not members or len(members) != len(ensemble.learners):
        raise UsageError("only a fitted transformer can be saved: trees and regressions would have to be pickled")
    tensors = {"beyond": torch.from_numpy(np.asarray(ensemble.exceedances, np.float32))}
    for index, member in enumerate(members):
        tensors |= {f"{index}.{name}": tensor for name, tensor in _tensors(member).items()}
    return GPP_MODEL.write(
        folder,
        tensors,
        kind=KIND,
        features=windows.features,
        recipe=recipe,
        members=len(members),
        settings=asdict(members[0].config),
        training={"sites": windows.sites, "days": len(windows), "seed": ensemble.seed},
    )


def load_model(folder: str | Path) -> GppModel:
    """Read a model folder that `save_model` wrote.

    Args:
        folder: Model folder of `train_model` or `thalweg gpp train`.

    Returns:
        The fitted model.

    Raises:
        MissingPathError: The folder does not exist.
        UsageError: The folder holds no GPP model, a damaged one, or one of another format.
    """
    folder = Path(folder)
    path = folder / CARD
    card = GPP_MODEL.read_card(folder, KIND)
    tensors = GPP_MODEL.read_tensors(folder, card.content_hash)
    _check_features(card, path)
    held = {name.partition(".")[0] for name in tensors} - {"beyond"}
    if len(held) != card.members:
        raise UsageError(f"{path}: {card.members} members, weights.safetensors holds {len(held)}: train it again")
    try:
        ensemble = Ensemble({"transformer": TransformerLearner}, members=card.members, seed=int(card.training["seed"]))
        config = TransformerConfig(**card.settings)
        ensemble.learners = [_learner(tensors, f"{index}.", config, folder) for index in range(card.members)]
        ensemble.exceedances = tensors["beyond"].numpy()
    except ThalwegError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # a setting of another type, or a missing tensor
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path}: no network can be built from it ({reason}): train it again") from error
    return GppModel(ensemble, card)


def _check_features(card: GppCard, path: Path) -> None:
    """Refuse features that do not match the recipe, because the network takes them by position.

    Raises:
        UsageError: A feature is repeated, or the embedding's dimensions are incomplete or out of order.
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
        for kind in _ENCODINGS
        for name in _ENCODING_ARRAYS
    }
    network = {f"network.{name}": tensor.contiguous() for name, tensor in member.network.state_dict().items()}
    return {**encoding, **network, "target": torch.tensor([member.centre, member.scale])}


def _learner(tensors: dict[str, Tensor], prefix: str, config: TransformerConfig, folder: Path) -> TransformerLearner:
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    learner = TransformerLearner(config=config)
    for kind in _ENCODINGS:
        encoding = PiecewiseEncoding.__new__(PiecewiseEncoding)
        for name in _ENCODING_ARRAYS:
            setattr(encoding, name, own[f"{kind}.{name}"].numpy())
        setattr(learner, kind, encoding)
    learner.centre, learner.scale = own["target"].numpy()
    learner.network = TemporalTransformer(learner.encoding.inputs, learner.means.inputs, config)
    weights = {name.removeprefix("network."): value for name, value in own.items() if name.startswith("network.")}
    load_state(learner.network, weights, folder)
    return learner
