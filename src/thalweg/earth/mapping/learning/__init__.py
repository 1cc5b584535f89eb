"""Learning from labelled pixels: blocks, learners, cross-validation, plausible classes, areas, applicability."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
