"""Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""

from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

from thalweg import _accessor

if TYPE_CHECKING:
    import xarray as xr

# Heavy libraries load at first use, so that importing the package stays quick; `__init__.pyi` lists the names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["open"]

_accessor.install()


def open(path: str | Path) -> "xr.Dataset":
    """Open an embedding store: a lazy xarray Dataset with the accessors `.thalweg` and `.rio` (docs/store.md).

    Raises:
        UsageError: the path holds no store written by `thalweg earth embed`.
    """
    from thalweg.earth.store.reader import open_store

    return open_store(path)
