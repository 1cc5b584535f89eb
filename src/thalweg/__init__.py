"""Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""

from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

from thalweg import _accessor

if TYPE_CHECKING:
    import xarray as xr

# Heavy libraries load at first use, so that importing the package stays quick; `__init__.pyi` lists the names.
__getattr__, _lazy_dir, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["open"]

_accessor.install()


def __dir__() -> list[str]:
    return [*_lazy_dir(), "open"]


def open(path: str | Path) -> "xr.Dataset":
    """Open an embedding store.

    Args:
        path: a store that `thalweg earth embed` wrote (docs/store.md).

    Returns:
        A lazy dataset: `embeddings` and `uncertainty` of dimensions (time, embedding, y, x), float32, with quality, RGB
        preview and gaps; it has the accessors `.thalweg` and `.rio`.

    Raises:
        UsageError: the path holds no store of embeddings, or a damaged one.
        MissingPathError: the path does not exist.
    """
    from thalweg.earth.store.reader import open_store

    return open_store(path)
