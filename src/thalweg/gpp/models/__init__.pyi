from .checkpoint import GppModel, load_model, save_model
from .ensemble import Ensemble, HoldoutUnit
from .predictors import PredictorSet, predictor_sets, vegetation_indices, with_indices
from .registry import FEATURELESS, MODELS, check_models
from .transformer import TransformerLearner

__all__ = [
    "FEATURELESS",
    "MODELS",
    "Ensemble",
    "GppModel",
    "HoldoutUnit",
    "PredictorSet",
    "TransformerLearner",
    "check_models",
    "load_model",
    "predictor_sets",
    "save_model",
    "vegetation_indices",
    "with_indices",
]
