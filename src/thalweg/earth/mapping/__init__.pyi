from .map_dataset import mapped_dataset
from .mapping_config import MappingConfig, mapping_bytes, window_side
from .mapping_fit import MappingFit, fit_mapping
from .mapping_report import (
    ClassScores,
    applied_report,
    class_scores,
    confusion,
    fit_areas,
    mapped_hectares,
    write_fit_report,
)
from .mapping_run import MappingResult, apply_model, map_labels

__all__ = [
    "ClassScores",
    "MappingConfig",
    "MappingFit",
    "MappingResult",
    "applied_report",
    "apply_model",
    "class_scores",
    "confusion",
    "fit_areas",
    "fit_mapping",
    "map_labels",
    "mapped_dataset",
    "mapped_hectares",
    "mapping_bytes",
    "window_side",
    "write_fit_report",
]
