from .bands import write_bands
from .categorical import write_categorical
from .geoparquet import write_geoparquet
from .raster import write_cogs
from .stac import write_catalogue

__all__ = ["write_bands", "write_catalogue", "write_categorical", "write_cogs", "write_geoparquet"]
