from .counterfactual import Counterfactual, band_table, decoded_spectra, find_counterfactual
from .counterfactual_plots import draw_counterfactual, draw_directions, draw_path
from .directions import principal_directions
from .generator import EarthGenerator
from .interpolation import decode_path
from .quantities import LinearProbe, Quantity, check_quantity_name
from .solver import minimal_perturbation
from .target import TargetText

__all__ = [
    "Counterfactual",
    "EarthGenerator",
    "LinearProbe",
    "Quantity",
    "TargetText",
    "band_table",
    "check_quantity_name",
    "decode_path",
    "decoded_spectra",
    "draw_counterfactual",
    "draw_directions",
    "draw_path",
    "find_counterfactual",
    "minimal_perturbation",
    "principal_directions",
]
