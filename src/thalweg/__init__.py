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


def open(path: str | Path, year: int | None = None, column: str | None = None) -> "xr.Dataset":
    """Open an embedding store, or embeddings that another project published.

    Args:
        path: a store that `thalweg earth embed` wrote (docs/store.md), or AlphaEarth tiles, TESSERA tiles or a zone of
            its Zarr store, or a GeoParquet table of vectors (docs/interop.md).
        year: year of annual embeddings of others, where neither path nor table states it.
        column: list column of a table with several.

    Returns:
        A lazy dataset: `embeddings` of dimensions (time, embedding, y, x), float32; a store of this package also has
        `uncertainty`, quality, RGB preview and gaps. It has the accessors `.thalweg` and `.rio`. Vectors of scattered
        geometries have the dimensions (time, embedding, feature).

    Raises:
        UsageError: the path holds no embeddings of a known kind, damaged ones, or not what its name says.
        MissingPathError: the path does not exist.
    """
    from thalweg.earth.foreign.opening import open_embeddings

    return open_embeddings(path, year, column)
