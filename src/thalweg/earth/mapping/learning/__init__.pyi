from .applicability import Applicability
from .area_estimates import AreaEstimates, area_estimates, mean_estimate
from .conformal import interval_half_width, label_weights, plausible_classes, set_threshold, weighted_quantile
from .cross_validation import CrossValidation, LearnerChoice, choose, cross_validate, learning_curve, score
from .estimator_checks import TREE_TYPES, check_estimator
from .learners import AUTO, CLASSIFIERS, REGRESSORS, LearnerKind, class_probabilities, learners
from .mapping_model import MODEL_FILE, MappingCard, MappingModel
from .spatial_blocks import SpatialBlocks, autocorrelation_range, block_folds

__all__ = [
    "AUTO",
    "CLASSIFIERS",
    "MODEL_FILE",
    "REGRESSORS",
    "TREE_TYPES",
    "Applicability",
    "AreaEstimates",
    "CrossValidation",
    "LearnerChoice",
    "LearnerKind",
    "MappingCard",
    "MappingModel",
    "SpatialBlocks",
    "area_estimates",
    "autocorrelation_range",
    "block_folds",
    "check_estimator",
    "choose",
    "class_probabilities",
    "cross_validate",
    "interval_half_width",
    "label_weights",
    "learners",
    "learning_curve",
    "mean_estimate",
    "plausible_classes",
    "score",
    "set_threshold",
    "weighted_quantile",
]
