"""Text-to-image models as generators, with exact gradients through the whole denoising chain."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
