"""Model repositories: folders of a model on the Hugging Face hub, and their model card."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
