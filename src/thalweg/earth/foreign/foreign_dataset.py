"""Embedding datasets built from other projects' files: lazy values, coordinates and attributes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends.common import BackendArray
from xarray.core import indexing

from thalweg.earth.store.portable import portable
from thalweg.earth.store.schema import spatial_attributes
from thalweg.errors import ThalwegError, UsageError, one_line

if TYPE_CHECKING:
    import xarray as xr
    from pyproj import CRS

Spans = tuple[slice, slice, slice, slice]
"""Times, dimensions, rows and columns to read."""

ReadVectors = Callable[[Spans], NDArray[np.float32]]
"""Function that returns the values of spans, float32 (T, K, h, w), NaN where there is no embedding."""

MAX_REASON = 160
"""Largest number of characters of another library's message that is shown."""

_YEAR = re.compile(r"(?:19|20)\d\d")
_SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Publication:
    """Published embeddings: their names and provenance.

    Attributes:
        identifier: identifier of the model (`thalweg:model`), which tells embeddings that compare from others.
        title: title of the embeddings.
        model: URI of the model.
        source_data: URIs or titles of the data that the model read.
        data_type: type in which the values are stored.
    """

    identifier: str
    title: str
    model: str
    source_data: tuple[str, ...]
    data_type: str


@dataclass(frozen=True, eq=False)
class VectorGrid:
    """Embeddings on a pixel grid.

    Attributes:
        where: file or store, for messages.
        times: (T,), datetime64[ns].
        x: (W,), centres of the columns, rising.
        y: (H,), centres of the rows, falling.
        crs: reference system.
        dimensions: number of dimensions K.
        block: rows and columns that are read at once.
    """

    where: str
    times: NDArray[np.datetime64]
    x: NDArray[np.floating]
    y: NDArray[np.floating]
    crs: "CRS"
    dimensions: int
    block: tuple[int, int]

    def dataset(self, read: ReadVectors, publication: Publication) -> "xr.Dataset":
        """Return the embedding dataset, whose values are read when they are used.

        Raises:
            UsageError: The pixels are not square.
        """
        import rioxarray  # noqa: F401  (registers .rio)
        import xarray as xr

        step = _step(self.x, self.y, self.where)
        shape = (len(self.times), self.dimensions, len(self.y), len(self.x))
        data = indexing.LazilyIndexedArray(LazyVectors(shape, read, self.where))
        dims = ("time", "embedding", "y", "x")
        encoding = {"preferred_chunks": {"y": self.block[0], "x": self.block[1]}}
        dataset = xr.Dataset(
            {"embeddings": xr.Variable(dims, data, {"long_name": "embedding", "units": "1"}, encoding)},
            coords={
                "time": ("time", self.times),
                "embedding": ("embedding", np.arange(self.dimensions)),
                "y": ("y", self.y, {"standard_name": "projection_y_coordinate"}),
                "x": ("x", self.x, {"standard_name": "projection_x_coordinate"}),
            },
            attrs={
                **table_attributes(publication, self.where, self.dimensions, self.crs),
                "geoemb:gsd": step,
                **spatial_attributes(self.x, self.y, step),
            },
        )
        return portable(dataset.rio.write_crs(self.crs.to_wkt()))


def table_attributes(publication: Publication, where: str, dimensions: int, crs: "CRS") -> dict[str, Any]:
    """Return the attributes of a dataset that do not depend on a pixel grid."""
    code = crs.to_epsg()
    return {
        "Conventions": "CF-1.8",
        "title": f"{publication.title}: {where}",
        "geoemb:type": "pixel",
        "geoemb:dimensions": dimensions,
        "geoemb:model": publication.model,
        "geoemb:source_data": list(publication.source_data),
        "geoemb:data_type": publication.data_type,
        **({"proj:code": f"EPSG:{code}"} if code else {}),
        "proj:wkt2": crs.to_wkt(),
        "thalweg:model": publication.identifier,
    }


def _step(x: NDArray[np.floating], y: NDArray[np.floating], where: str) -> float:
    """Return the side of the pixels.

    Raises:
        UsageError: The axes are not evenly spaced by the same step, x rising and y falling.
    """
    if len(x) < 2 or len(y) < 2:
        raise UsageError(f"{where}: {len(y)} x {len(x)} px: expected at least two rows and two columns")
    step = (x[-1] - x[0]) / (len(x) - 1)
    is_even = all(np.abs(np.diff(axis) - step).max() <= _SPACING_TOLERANCE * abs(step) for axis in (x, -y))
    if step <= 0 or not is_even:
        raise UsageError(f"{where}: pixels that are not square and north-up: expected the grid it was published on")
    return float(step)


class LazyVectors(BackendArray):
    """Embeddings that xarray reads when they are used.

    Args:
        shape: (T, K, H, W).
        read: function that reads spans.
        where: file or store, for messages.
    """

    def __init__(self, shape: tuple[int, ...], read: ReadVectors, where: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.float32)
        self._read_spans, self._where = read, where

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the values at an index of xarray."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        spans = [
            slice(*part.indices(size)) if isinstance(part, slice) else slice(int(part), int(part) + 1)
            for part, size in zip(key, self.shape, strict=True)
        ]
        counts = [len(range(span.start, span.stop, span.step or 1)) for span in spans]
        if 0 in counts:
            values = np.empty(counts, np.float32)
        else:
            values = self._checked((spans[0], spans[1], spans[2], spans[3]))
        return values[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]

    def _checked(self, spans: Spans) -> NDArray[np.float32]:
        try:
            return self._read_spans(spans)
        except (MemoryError, ThalwegError):
            raise
        except Exception as error:  # raster and array libraries raise many kinds on damaged bytes
            raise ThalwegError(
                f"{self._where}: rows {spans[2].start} to {spans[2].stop - 1}, columns {spans[3].start} to "
                f"{spans[3].stop - 1} cannot be read ({one_line(error)[:MAX_REASON]}): get the file again"
            ) from error


def start_of_years(years: Sequence[int]) -> NDArray[np.datetime64]:
    """Return the first day of years, datetime64[ns]: the time of an annual embedding."""
    return np.array([f"{year}-01-01" for year in years], "datetime64[ns]")


def year_of_path(path: Path, year: int | None) -> int:
    """Return the year of an annual embedding from the folders of its path.

    Args:
        path: file of a published archive.
        year: year that the caller names.

    Raises:
        UsageError: No folder is named by a year and none is given, or the two differ.
    """
    found = next((int(part) for part in reversed(path.absolute().parts[:-1]) if _YEAR.fullmatch(part)), None)
    if found is None:
        if year is None:
            raise UsageError(f"{path}: no folder of its path is named by a year: name it as `year`")
        return year
    if year not in (None, found):
        raise UsageError(f"{path}: lies in the folder of {found}, `year` is {year}: leave it out, or open another file")
    return found
