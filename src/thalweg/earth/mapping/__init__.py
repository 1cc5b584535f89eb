"""Maps from embeddings and labels: features, learners, plausible classes, areas, and series sampled at geometries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
