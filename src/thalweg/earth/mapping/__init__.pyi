from .map_dataset import mapped_dataset
from .mapping_config import MappingConfig, mapping_bytes, window_side
from .mapping_fit import MappingFit, fit_mapping
from .mapping_report import applied_report, confusion, fit_areas, write_fit_report
from .mapping_run import MappingResult, apply_model, map_labels

__all__ = [
    "MappingConfig",
    "MappingFit",
    "MappingResult",
    "applied_report",
    "apply_model",
    "confusion",
    "fit_areas",
    "fit_mapping",
    "map_labels",
    "mapped_dataset",
    "mapping_bytes",
    "window_side",
    "write_fit_report",
]
