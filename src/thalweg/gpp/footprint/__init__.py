"""Footprint of a flux tower on the pixels of a cube, and the series that it averages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
