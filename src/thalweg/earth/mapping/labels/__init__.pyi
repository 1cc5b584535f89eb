from .feature_pixels import FeaturePixels, feature_pixels
from .geometry_files import read_geometries, usable_geometries, with_reference_system
from .label_pixels import LabelPixels, class_name, label_pixels
from .sampled_quantities import SampledQuantities
from .series_sample import check_sample_name, sample, write_sample

__all__ = [
    "FeaturePixels",
    "LabelPixels",
    "SampledQuantities",
    "check_sample_name",
    "class_name",
    "feature_pixels",
    "label_pixels",
    "read_geometries",
    "sample",
    "usable_geometries",
    "with_reference_system",
    "write_sample",
]
