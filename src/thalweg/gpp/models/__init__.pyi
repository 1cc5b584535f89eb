from .checkpoint import GppModel, load_model, save_model
from .ensemble import Ensemble, HoldoutUnit
from .learner_state import LearnerState
from .predictors import PredictorSet, predictor_sets, vegetation_indices, with_indices
from .registry import DEFAULT_MODELS, FEATURELESS, MODELS, PHYSICAL, check_models
from .transformer import TransformerLearner

__all__ = [
    "DEFAULT_MODELS",
    "FEATURELESS",
    "MODELS",
    "PHYSICAL",
    "Ensemble",
    "GppModel",
    "HoldoutUnit",
    "LearnerState",
    "PredictorSet",
    "TransformerLearner",
    "check_models",
    "load_model",
    "predictor_sets",
    "save_model",
    "vegetation_indices",
    "with_indices",
]
