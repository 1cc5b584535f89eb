"""Embeddings that other projects publish, opened as embedding datasets: AlphaEarth, TESSERA, tables of vectors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
