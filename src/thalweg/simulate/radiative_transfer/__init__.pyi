from .canopy import LANDSAT8, SENTINEL2, SpectralBands, ViewGeometry
from .optics import CHLOROPHYLL_STEP, MOISTURE_STEP, add_optical_errors, render_reflectance, unit_responses
from .pixel_mixing import block_mean, mix_units, unit_entries
from .radar import observe_backscatter, unit_backscatter

__all__ = [
    "CHLOROPHYLL_STEP",
    "LANDSAT8",
    "MOISTURE_STEP",
    "SENTINEL2",
    "SpectralBands",
    "ViewGeometry",
    "add_optical_errors",
    "block_mean",
    "mix_units",
    "observe_backscatter",
    "render_reflectance",
    "unit_backscatter",
    "unit_entries",
    "unit_responses",
]
