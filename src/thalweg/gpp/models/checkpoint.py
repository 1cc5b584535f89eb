"""Folder of a fitted GPP model, verified by hashes, without pickle.

`model.json` holds the features and settings, `weights.safetensors` the arrays, `NUMBER.NAME.txt` LightGBM's own text
and `NUMBER.NAME.skops` the estimators of scikit-learn.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field

from thalweg.earth.sensors import Declaration
from thalweg.errors import ThalwegError, UsageError, one_line
from thalweg.gpp.data.features import FeatureRecipe
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.footprint.footprint_series import embedding_names
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble, Learner, Member
from thalweg.gpp.models.learner_state import LearnerState
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.physics.residual import ResidualLearner
from thalweg.gpp.models.sites.level_learner import LevelLearner
from thalweg.gpp.models.transformer import TransformerLearner
from thalweg.gpp.models.trees.boosting import BoostingLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMLearner
from thalweg.gpp.tables.target_columns import TARGETS, FluxTarget
from thalweg.io.checkpoints import CARD, ModelFormat, bytes_hash


class _LearnerType(Protocol):
    """Class of a learner that can be restored."""

    kind: str

    def from_state(self, state: LearnerState) -> Learner:
        """Return the learner of a state."""
        ...


_TYPES: tuple[_LearnerType, ...] = (
    TransformerLearner,
    LightGBMLearner,
    BoostingLearner,
    RidgeLearner,
    ClimatologyLearner,
    LightUseEfficiencyLearner,
    PModelLearner,
    ResidualLearner,
    LevelLearner,
)
LEARNERS = {one.kind: one for one in _TYPES}
"""Classes of the learners that a model folder may hold, by kind."""


class GppCard(Declaration):
    """Contents of a GPP model's `model.json`."""

    format: int = Field(description="version of this layout")
    kind: Literal["gpp"] = Field(description="kind of model")
    features: tuple[str, ...] = Field(description="columns the model predicts from, in order")
    recipe: FeatureRecipe = Field(description="recipe of the features")
    members: int = Field(description="members that left out a group of sites; one more learned from all")
    weights: dict[str, float] = Field(description="weights of the candidates in use")
    learners: dict[str, dict[str, Any]] = Field(description="kind and settings by member and candidate")
    files: dict[str, str] = Field(description="SHA-256 of the other files by name")
    content_hash: str = Field(description="SHA-256 of the tensors: names, types, shapes and bytes")
    package_version: str = Field(description="version of thalweg that wrote the model")
    training: dict[str, Any] = Field(description="model, sites, number of days and seed of the training")


KIND = "gpp"
"""Kind of the saved models."""

GPP_MODEL = ModelFormat(GppCard, version=3, label="a GPP model", remedy="train it again")
"""Layout of a GPP model's folder."""

_SCORES = "scores"
_MAX_MEMBERS = 1000


@dataclass(frozen=True)
class GppModel:
    """Fitted GPP model.

    Attributes:
        ensemble: Fitted ensemble.
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

    @property
    def target(self) -> FluxTarget:
        """Target that the model learned."""
        return TARGETS[self.card.recipe.target]

    def check_target(self, name: str, source: str) -> None:
        """Refuse another target than the one that the model learned.

        Args:
            name: Name of the target.
            source: Name of what has the target, in a message.

        Raises:
            UsageError: The targets differ.
        """
        if name != self.target.name:
            raise UsageError(
                f"{source}: target {name}, the model learned {self.target.name}: use a table of {self.target.name}, or "
                f"a model of {name}"
            )


def save_model(ensemble: Ensemble, windows: Windows, recipe: FeatureRecipe, folder: Path, name: str = "") -> GppCard:
    """Write a fitted ensemble of any learners, all or nothing.

    Args:
        ensemble: Fitted ensemble.
        windows: Windows the ensemble was fitted to.
        recipe: Recipe of their features.
        folder: Model folder; must not exist.
        name: Name of the model in the registry, for the card.

    Returns:
        The card that was written.

    Raises:
        UsageError: The folder exists, or the ensemble is not fitted.
        ThalwegError: The folder cannot be written.
    """
    if ensemble.final is None:
        raise UsageError("the model is not fitted yet: expected a fitted model to save; call fit(windows) first")
    states = {
        f"{index}-{position}": member.learners[candidate].state()
        for index, member in enumerate([*ensemble.fitted, ensemble.final])
        for position, candidate in enumerate(ensemble.weights)
    }
    whole = LearnerState.join("ensemble", states, {})
    tensors = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in whole.arrays.items()}
    tensors[_SCORES] = torch.from_numpy(np.stack(ensemble.scores))
    return GPP_MODEL.write(
        folder,
        tensors,
        whole.files,
        kind=KIND,
        features=windows.features,
        recipe=recipe,
        members=len(ensemble.fitted),
        weights=ensemble.weights,
        learners=whole.settings["parts"],
        files={key: bytes_hash(content) for key, content in whole.files.items()},
        training={"model": name, "sites": windows.sites, "days": len(windows), "seed": ensemble.seed},
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
    files = {name: GPP_MODEL.read_file(folder, name, expected) for name, expected in card.files.items()}
    _check_features(card, path)
    if not 0 < card.members <= _MAX_MEMBERS or len(card.learners) != (card.members + 1) * len(card.weights):
        raise UsageError(f"{path}: {card.members} members, it holds {len(card.learners)} learners: train it again")
    try:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        whole = LearnerState("ensemble", {"parts": card.learners}, arrays, files)
        ensemble = Ensemble({}, members=card.members, seed=int(card.training["seed"]))
        members = [_member(whole, index, card.weights) for index in range(card.members + 1)]
        ensemble.fitted, ensemble.final, ensemble.weights = members[:-1], members[-1], dict(card.weights)
        ensemble.scores = list(arrays[_SCORES])
        if arrays[_SCORES].ndim != 2 or len(ensemble.scores) != card.members:
            raise ValueError("scores of other members")
    except ThalwegError as error:
        raise UsageError(f"{path}: {error}: do not trust it, or train it again") from error
    except Exception as error:  # skops and LightGBM raise many kinds on damaged files
        raise UsageError(f"{path}: no model can be built from it ({one_line(error)[:120]}): train it again") from error
    return GppModel(ensemble, card)


def _member(whole: LearnerState, index: int, weights: dict[str, float]) -> Member:
    learners = {}
    for position, candidate in enumerate(weights):
        state = whole.part(f"{index}-{position}")
        learners[candidate] = LEARNERS[state.kind].from_state(state)
    return Member(learners, dict(weights))


def _check_features(card: GppCard, path: Path) -> None:
    """Refuse features that do not match the recipe, because the model takes them by position.

    Raises:
        UsageError: A feature is repeated, or the embedding's dimensions are incomplete or out of order.
    """
    embedding = tuple(name for name in card.features if re.fullmatch(r"e\d+", name))
    if len(set(card.features)) != len(card.features) or embedding != embedding_names(card.recipe.size):
        raise UsageError(
            f"{path}: features {', '.join(card.features[:8])}: expected each once, and those of an embedding of "
            f"{card.recipe.size} dimensions in order; train it again"
        )
