"""Steering in an embedding space: toward a metric, by a user's choices, or by what one seed shows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
