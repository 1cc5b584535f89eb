"""Pipeline adapters with one text encoder, a language model: T5, Gemma 2, Qwen 2.5 VL or Qwen 3."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
