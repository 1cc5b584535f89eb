"""Opening of embeddings of any known kind: this package's stores, and what other projects publish."""

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.earth.foreign.feature_vectors import is_feature_table
from thalweg.earth.store.reader import open_store
from thalweg.errors import MissingPathError, UsageError
from thalweg.io.redaction import redact

if TYPE_CHECKING:
    import xarray as xr

KINDS = (
    "a store of `thalweg earth embed`, AlphaEarth GeoTIFFs (.tiff), a TESSERA tile (grid_LON_LAT.npy) or zone "
    "(STORE/utm31), or a GeoParquet table of vectors (.parquet)"
)
"""Kinds of embeddings that `open_embeddings` opens, for messages."""

_TABLE_SUFFIXES = (".parquet", ".geoparquet")


def open_embeddings(path: str | Path, year: int | None = None, column: str | None = None) -> "xr.Dataset":
    """Open embeddings of any known kind; the kind is told by the name, and then checked against the content.

    Args:
        path: a store of this package; an AlphaEarth tile, or a folder of one place; a TESSERA tile, a folder with one,
            or a zone of its Zarr store; or a GeoParquet table of vectors.
        year: year of annual embeddings, where neither path nor table states it.
        column: list column of a table with several.

    Returns:
        Dataset with `embeddings` (time, embedding, y, x), float32, NaN where there is none; those of a table of
        scattered geometries are (time, embedding, feature). Only this package's stores have `uncertainty` and
        `quality`. It has the accessor `.thalweg`.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: The path holds none of these, or not what its name says.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError(f"{redact(str(path))}: no such store")
    kind = _kind(path)
    if column is not None and kind != "table":
        raise UsageError(f"{path}: `column` is for tables: leave it out")
    if year is not None and kind in ("store", "tessera-zarr"):
        raise UsageError(f"{path}: `year` is for embeddings without dates: leave it out")
    if kind == "alphaearth":
        from thalweg.earth.foreign.alphaearth import open_alphaearth

        return open_alphaearth(path, year)
    if kind == "tessera":
        from thalweg.earth.foreign.tessera_tiles import open_tessera_tiles

        return open_tessera_tiles(path, year)
    if kind == "tessera-zarr":
        from thalweg.earth.foreign.tessera_zarr import open_tessera_zarr

        return open_tessera_zarr(path)
    if kind == "table":
        from thalweg.earth.foreign.vector_tables import open_vector_table

        return open_vector_table(path, year, column)
    return open_store(path)


def open_grid(path: str | Path) -> "xr.Dataset":
    """Open embeddings of any known kind on a pixel grid (`open_embeddings`).

    Raises:
        MissingPathError: The path does not exist.
        UsageError: The path holds none of these, not what its name says, or scattered vectors.
    """
    dataset = open_embeddings(path)
    if is_feature_table(dataset):
        raise UsageError(
            f"{path}: scattered vectors have no pixel grid: open the table with thalweg.open, whose accessor has at, "
            "similar, pca and classify"
        )
    return dataset


def _kind(path: Path) -> str:
    """Return the kind of embeddings that the names at a path tell.

    Raises:
        UsageError: They tell none.
    """
    from thalweg.earth.foreign.alphaearth import SUFFIXES
    from thalweg.earth.foreign.tessera_tiles import tile_files
    from thalweg.earth.foreign.tessera_zarr import is_tessera_zarr

    if path.is_file():
        suffix = path.suffix.lower()
        kinds = {**dict.fromkeys(SUFFIXES, "alphaearth"), ".npy": "tessera", **dict.fromkeys(_TABLE_SUFFIXES, "table")}
        if suffix not in kinds:
            raise UsageError(f"{path}: not a kind of embeddings that is known: expected {KINDS}")
        return kinds[suffix]
    if is_tessera_zarr(path):
        return "tessera-zarr"
    if (path / "zarr.json").exists() or (path / ".zgroup").exists():
        return "store"
    if tile_files(path):
        return "tessera"
    if any(file.suffix.lower() in SUFFIXES for file in path.rglob("*")):
        return "alphaearth"
    return "store"
