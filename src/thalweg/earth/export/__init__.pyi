from .bands import write_bands
from .categorical import write_categorical
from .geoparquet import write_geoparquet
from .raster import write_cogs
from .stac import write_catalogue
from .unsharded import write_unsharded

__all__ = [
    "write_bands",
    "write_catalogue",
    "write_categorical",
    "write_cogs",
    "write_geoparquet",
    "write_unsharded",
]
