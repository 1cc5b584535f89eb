"""Export of embeddings to GeoTIFF, GeoParquet and STAC, and of maps to GeoTIFF."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
