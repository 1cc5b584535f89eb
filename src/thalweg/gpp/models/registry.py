"""Registry of the GPP models: names and functions that make an unfitted model from a seed."""

from collections.abc import Callable, Iterable
from functools import partial

from thalweg.errors import unknown_name
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.boosting import BoostingLearner
from thalweg.gpp.models.ensemble import Ensemble, Learner


def transformer(seed: int = 0) -> Ensemble:
    """Make an ensemble of the 90-day temporal transformer."""
    from thalweg.gpp.models.transformer import TransformerLearner

    return Ensemble({"small": TransformerLearner}, seed=seed)


def boosting(seed: int = 0) -> Ensemble:
    """Make an ensemble of gradient boosting on the last day and the means of 7, 30 and 90 days, with two tree sizes."""
    small_trees = partial(BoostingLearner, leaves=15, rate=0.08, least_leaf=200, trees=300)
    return Ensemble({"31 leaves": BoostingLearner, "15 leaves": small_trees}, seed=seed)


def ridge(seed: int = 0) -> Ensemble:
    """Make an ensemble of ridge regression on the same summaries, with three penalties."""
    candidates: dict[str, Callable[[int], Learner]] = {
        "10": RidgeLearner,
        "1000": partial(RidgeLearner, penalty=1000.0),
        "30000": partial(RidgeLearner, penalty=30_000.0),
    }
    return Ensemble(candidates, seed=seed)


def climatology(seed: int = 0) -> Ensemble:
    """Make an ensemble of the mean GPP of the day of year."""
    return Ensemble({"day of year": ClimatologyLearner}, seed=seed)


MODELS: dict[str, Callable[[int], Ensemble]] = {
    "transformer": transformer,
    "boosting": boosting,
    "ridge": ridge,
    "climatology": climatology,
}
"""Functions that make a model from a seed, by the model's name."""

FEATURELESS = ("climatology",)
"""Models that use no features; an evaluation runs them once, not once per set of predictors."""


def check_models(names: Iterable[str]) -> None:
    """Refuse names of models that are not known.

    Raises:
        UsageError: A name is not a key of `MODELS`; the message suggests a close one.
    """
    for name in names:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS)
