from .geoparquet import write_geoparquet
from .raster import write_cogs
from .stac import write_catalogue

__all__ = ["write_catalogue", "write_cogs", "write_geoparquet"]
