"""Registry of the GPP models: names and functions that make an unfitted model from a seed."""

from collections.abc import Callable, Iterable
from functools import partial

from thalweg.errors import UsageError, unknown_name
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble, Learner
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.physics.residual import ResidualLearner
from thalweg.gpp.models.sites.level_learner import LevelLearner
from thalweg.gpp.models.trees.boosting import BoostingLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner
from thalweg.gpp.tables.target_columns import GPP, FluxTarget

Candidates = dict[str, Callable[[int], Learner]]

_SMALL = LightGBMConfig(leaves=8, min_leaf=200, rate=0.08)
_TREES = {
    "31 leaves": LightGBMConfig(),
    "8 leaves": _SMALL,
    "8 leaves, climate": LightGBMConfig(leaves=8, min_leaf=200, rate=0.08, climate=True),
}


def _lightgbm_candidates() -> Candidates:
    return {name: partial(LightGBMLearner, config=config) for name, config in _TREES.items()}


def _residual_candidates(base: str) -> Candidates:
    return {name: partial(ResidualLearner, base=base, config=config) for name, config in _TREES.items()}


def _level_candidates() -> Candidates:
    return {
        "level, 8 leaves": partial(LevelLearner, config=_SMALL),
        "level, 31 leaves": partial(LevelLearner, config=LightGBMConfig()),
        "level, 8 leaves, site marks": partial(LevelLearner, config=_SMALL, site_marks=True),
        "level of the P-model, 8 leaves": partial(LevelLearner, base="p-model", config=_SMALL),
    }


def transformer(seed: int = 0) -> Ensemble:
    """Make an ensemble of the 90-day temporal transformer."""
    from thalweg.gpp.models.transformer import TransformerLearner

    return Ensemble({"small": TransformerLearner}, seed=seed)


def lightgbm(seed: int = 0) -> Ensemble:
    """Make an ensemble of LightGBM on the last day, means of 7, 30 and 90 days and the day of the year.

    Tree sizes, and whether the climate of the site's record is added, are chosen on the groups left out.
    """
    return Ensemble(_lightgbm_candidates(), seed=seed)


def site_level(seed: int = 0) -> Ensemble:
    """Make an ensemble of LightGBM relative to the level of the site, which is a regression of its own.

    The model below the level, tree sizes, and whether pressure and wind are shown are chosen on the groups left out.
    """
    return Ensemble(_level_candidates(), seed=seed)


def site_level_transformer(seed: int = 0) -> Ensemble:
    """Make an ensemble of the transformer relative to the level of the site."""
    return Ensemble({"level": partial(LevelLearner, inner="transformer")}, seed=seed)


def stack(seed: int = 0) -> Ensemble:
    """Make a stack of the transformer, LightGBM and the site-level model with weights from the groups left out."""
    from thalweg.gpp.models.transformer import TransformerLearner

    candidates: Candidates = {"transformer": TransformerLearner, **_lightgbm_candidates(), **_level_candidates()}
    return Ensemble(candidates, seed=seed, stacked=True)


def boosting(seed: int = 0) -> Ensemble:
    """Make an ensemble of gradient boosting on the last day and the means of 7, 30 and 90 days, with two tree sizes."""
    small_trees = partial(BoostingLearner, leaves=15, rate=0.08, least_leaf=200, trees=300)
    return Ensemble({"31 leaves": BoostingLearner, "15 leaves": small_trees}, seed=seed)


def ridge(seed: int = 0) -> Ensemble:
    """Make an ensemble of ridge regression on the same summaries, with three penalties."""
    candidates: Candidates = {
        "10": RidgeLearner,
        "1000": partial(RidgeLearner, penalty=1000.0),
        "30000": partial(RidgeLearner, penalty=30_000.0),
    }
    return Ensemble(candidates, seed=seed)


def light_use_efficiency(seed: int = 0) -> Ensemble:
    """Make an ensemble of the light-use-efficiency model of Makela et al. (2008)."""
    return Ensemble({"lue": LightUseEfficiencyLearner}, seed=seed)


def p_model(seed: int = 0) -> Ensemble:
    """Make an ensemble of the P-model, scaled to towers."""
    return Ensemble({"p-model": PModelLearner}, seed=seed)


def lue_residual(seed: int = 0) -> Ensemble:
    """Make an ensemble of LightGBM on what the light-use-efficiency model leaves."""
    return Ensemble(_residual_candidates("lue"), seed=seed)


def p_model_residual(seed: int = 0) -> Ensemble:
    """Make an ensemble of LightGBM on what the P-model leaves."""
    return Ensemble(_residual_candidates("p-model"), seed=seed)


def climatology(seed: int = 0) -> Ensemble:
    """Make an ensemble of the mean GPP of the day of year."""
    return Ensemble({"day of year": ClimatologyLearner}, seed=seed)


MODELS: dict[str, Callable[[int], Ensemble]] = {
    "transformer": transformer,
    "lightgbm": lightgbm,
    "site-level": site_level,
    "site-level-transformer": site_level_transformer,
    "stack": stack,
    "boosting": boosting,
    "ridge": ridge,
    "lue": light_use_efficiency,
    "p-model": p_model,
    "lue-residual": lue_residual,
    "p-model-residual": p_model_residual,
    "climatology": climatology,
}
"""Functions that make a model from a seed, by the model's name."""

DEFAULT_MODELS = ("transformer", "lightgbm", "site-level", "stack", "lue", "climatology")
"""Models of an evaluation that names none."""

FEATURELESS = ("climatology",)
"""Models that use no features; an evaluation runs them once, not once per set of predictors."""

PHYSICAL = ("lue", "p-model", "lue-residual", "p-model-residual")
"""Models that need temperature, vapour pressure deficit and radiation; other sets of predictors are left out."""
GPP_ONLY = (*PHYSICAL, "site-level", "site-level-transformer")
"""Models of photosynthesis, which other targets do not follow."""


def default_models(target: FluxTarget = GPP) -> tuple[str, ...]:
    """Return the models of an evaluation that names none: those of `DEFAULT_MODELS` that predict a target."""
    return tuple(name for name in DEFAULT_MODELS if target.is_gpp or name not in GPP_ONLY)


def check_models(names: Iterable[str], target: FluxTarget = GPP) -> None:
    """Refuse names of models that are not known, or do not predict a target.

    Raises:
        UsageError: A name is not a key of `MODELS`, and the message suggests a close one; or a model of GPP is asked
            for another target.
    """
    for name in names:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS)
        if name in GPP_ONLY and not target.is_gpp:
            known = ", ".join(model for model in MODELS if model not in GPP_ONLY)
            raise UsageError(f"model {name}: it predicts GPP only, got target {target.name}: expected {known}")
