"""Readers of files, folders and xarray objects as datasets with dimensions time, y and x."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
