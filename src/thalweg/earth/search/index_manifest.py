"""Manifest of an index folder: its stores, its scales and its files, with checks of each."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.positions import dataset_geobox
from thalweg.earth.store.reader import fingerprint
from thalweg.errors import MissingPathError, UsageError
from thalweg.io.hashing import json_hash
from thalweg.io.json_files import read_as, read_json

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

MANIFEST = "index.json"
"""File name of the manifest; it is written last."""

FORMAT = 1
"""Version of the layout of an index folder."""

HASH = "hash"
"""Name of the hash of a manifest in its file."""

CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class IndexedStore:
    """A store of an index.

    Attributes:
        path: absolute path of the store.
        fingerprint: `fingerprint` of its files when it was indexed.
        shape: rows and columns of its grid.
        transform: affine transform of its grid, six numbers: from column and row to map coordinates.
        crs: reference system of its grid, WKT 2.
        dates: ISO dates and times of its embeddings (UTC).
    """

    path: str
    fingerprint: str
    shape: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]
    crs: str
    dates: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, dataset: "xr.Dataset") -> "IndexedStore":
        """Describe a store that was opened from a path."""
        grid = dataset_geobox(dataset)
        affine = grid.affine
        return cls(
            str(path.resolve()),
            fingerprint(path),
            (grid.shape[0], grid.shape[1]),
            (affine.a, affine.b, affine.c, affine.d, affine.e, affine.f),
            dataset.attrs["proj:wkt2"],
            tuple(np.datetime_as_string(dataset.time.values, "ns").tolist()),
        )

    def times(self) -> NDArray[np.datetime64]:
        """Return the dates of the store, datetime64[ns] (T,)."""
        return np.array(self.dates, "datetime64[ns]")

    def grid(self) -> "GeoBox":
        """Return the pixel grid of the store."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        return GeoBox(self.shape, Affine(*self.transform), self.crs)

    def check_unchanged(self) -> None:
        """Check that the store is as it was when it was indexed.

        Raises:
            MissingPathError: The store is no longer there.
            UsageError: A file of the store was written, added or removed since.
        """
        path = Path(self.path)
        if not path.is_dir():
            raise MissingPathError(
                f"{path}: a store of the index is no longer there: restore it or build the index again"
            )
        if fingerprint(path) != self.fingerprint:
            raise UsageError(f"{path}: the store changed after it was indexed: build the index again")


@dataclass(frozen=True)
class IndexFile:
    """Size in bytes and CRC-32 of a file of an index."""

    bytes: int
    crc32: int

    @classmethod
    def of(cls, path: Path) -> "IndexFile":
        """Measure a file.

        Raises:
            OSError: The file cannot be read.
        """
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(CHUNK_BYTES):
                checksum = zlib.crc32(block, checksum)
        return cls(path.stat().st_size, checksum)


@dataclass(frozen=True)
class IndexManifest:
    """Everything about an index except its entries.

    Attributes:
        format: `FORMAT`.
        model: identifier of the model that made the embeddings.
        dimensions: dimensions of an embedding, K.
        every: step in pixels of the indexed rows and columns; 1 for all pixels.
        mean: (K,), subtracted before vectors are scaled.
        scale: (K,), divisor of the vectors in the lists.
        within: (K,), within-scale of the distance.
        parts: entries of each part; a part is a file of lists with a table of its entries.
        stores: indexed stores.
        files: the other files of the folder by name.
    """

    format: int
    model: str
    dimensions: int
    every: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    within: tuple[float, ...]
    parts: tuple[int, ...]
    stores: tuple[IndexedStore, ...]
    files: dict[str, IndexFile]

    def __post_init__(self) -> None:
        if {len(self.mean), len(self.scale), len(self.within)} != {self.dimensions} or not self.parts:
            raise UsageError("a damaged index (its scales are not of its dimensions): build it again")

    def to_json(self) -> dict[str, object]:
        """Return the manifest as JSON values, with a hash of them."""
        values = asdict(self)
        return {**values, HASH: json_hash(values)}

    @classmethod
    def read(cls, folder: Path) -> "IndexManifest":
        """Read the manifest of an index folder and check all files against it.

        Raises:
            MissingPathError: There is no such folder.
            UsageError: The folder holds no index, an unfinished one, one of another version, or a damaged one.
        """
        if not folder.exists():
            raise MissingPathError(f"{folder}: no such index")
        if not (folder / MANIFEST).is_file():
            raise UsageError(f"{folder}: not an index: expected a folder that `thalweg earth index` wrote")
        value = read_json(folder / MANIFEST)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UsageError(f"{folder}: not an index of format {FORMAT}: build it again")
        if value.pop(HASH, None) != json_hash(value):
            raise UsageError(f"{folder}: its file {MANIFEST} is damaged: build the index again")
        manifest = read_as(cls, value, str(folder / MANIFEST))
        for name, stated in manifest.files.items():
            path = folder / name
            if Path(name).name != name or not path.is_file() or IndexFile.of(path) != stated:
                raise UsageError(f"{folder}: its file {name} is missing or damaged: build the index again")
        return manifest
