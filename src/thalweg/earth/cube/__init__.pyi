from .cube import Cube
from .grid import containing_pixels, describe_crs, has_same_crs, pixel_centers, projection, read_grid
from .mosaics import Mosaic, overpass_groups
from .names import candidates, is_mask_name, match
from .reference_systems import grid_mappings, transforms
from .series import Observations, Series
from .windows import Window, grid_windows, window_at, window_count

__all__ = [
    "Cube",
    "Mosaic",
    "Observations",
    "Series",
    "Window",
    "candidates",
    "containing_pixels",
    "describe_crs",
    "grid_mappings",
    "grid_windows",
    "has_same_crs",
    "is_mask_name",
    "match",
    "overpass_groups",
    "pixel_centers",
    "projection",
    "read_grid",
    "transforms",
    "window_at",
    "window_count",
]
