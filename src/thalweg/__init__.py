"""Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg._version import __version__
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ThalwegError", "UsageError", "__version__", "open"]


def open(path: str | Path) -> "xr.Dataset":
    """Open an embedding store: a lazy xarray Dataset with the accessors `.thalweg` and `.rio` (docs/store.md).

    Raises:
        UsageError: the path holds no store written by `thalweg earth embed`.
    """
    from thalweg.earth.accessor import open_store

    return open_store(path)
