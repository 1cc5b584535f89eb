"""Search of catalogues: from a request to the scenes of a sensor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
