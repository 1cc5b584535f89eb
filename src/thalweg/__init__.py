"""Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg import _accessor
from thalweg._version import __version__
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.inference.job import embed

__all__ = ["ThalwegError", "UsageError", "__version__", "embed", "open"]

_accessor.install()


def open(path: str | Path) -> "xr.Dataset":
    """Open an embedding store: a lazy xarray Dataset with the accessors `.thalweg` and `.rio` (docs/store.md).

    Raises:
        UsageError: the path holds no store written by `thalweg earth embed`.
    """
    from thalweg.earth.store.accessor import open_store

    return open_store(path)


def __getattr__(name: str) -> Any:
    # `embed` brings torch and xarray: it loads at first use, so that importing the package stays quick.
    if name != "embed":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from thalweg.earth.inference.job import embed

    return embed
