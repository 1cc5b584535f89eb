"""Moving in an embedding space: toward a metric, along a person's choices, until a seed's look is in the embedding."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
