"""Models of photosynthesis from meteorology, scaled to towers, and regressions on what they leave."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
