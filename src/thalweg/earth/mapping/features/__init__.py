"""Features of a pixel: embeddings on the days of a calendar, or of one date."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
