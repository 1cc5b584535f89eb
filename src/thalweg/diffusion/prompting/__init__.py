"""Weighted and long prompts: the syntaxes of other programs, chunks of tokens, and the rows of a text encoder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
