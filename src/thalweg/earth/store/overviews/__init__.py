"""Overviews of embedding stores: reduced copies of their maps, and their use where a whole map is shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
