"""Inverted lists of scaled vectors in half precision (faiss): training, writing, and search of candidates."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import ThalwegError, one_line

if TYPE_CHECKING:
    import faiss

LANES = 8
"""Vectors are padded with zeros to a multiple of this many dimensions, which faiss compares at once."""

MAX_VALUE = 60_000.0
"""Largest absolute value of a scaled dimension; half precision ends at 65,504."""

VECTORS_PER_CENTROID = 48
"""Training vectors per list, at most."""

MIN_VECTORS_PER_LIST = 39
"""Training vectors per list, at least; faiss warns below."""

MAX_LISTS = 2**14
ITERATIONS = 10
SEED = 0


def list_count(entries: int, training_vectors: int) -> int:
    """Return the number of lists: a power of two near four times the root of the number of entries."""
    wanted = 2 ** round(np.log2(4 * np.sqrt(max(entries, 1))))
    return int(max(1, min(wanted, MAX_LISTS, training_vectors // MIN_VECTORS_PER_LIST)))


class VectorLists:
    """Inverted lists of vectors, (K,) each, under consecutive numbers.

    A vector belongs to the list of its nearest centroid; a search reads the lists of the centroids that are nearest to
    the query. The vectors are kept in half precision.

    Attributes:
        dimensions: dimensions of a vector, K.
    """

    def __init__(self, index: "faiss.IndexIVFScalarQuantizer", dimensions: int) -> None:
        self._index, self.dimensions = index, dimensions

    @classmethod
    def train(cls, sample: NDArray[np.float32], lists: int) -> "VectorLists":
        """Return empty lists around the centroids (k-means) of a sample (N, K) of at least `lists` vectors."""
        import faiss

        width = -(-sample.shape[1] // LANES) * LANES
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(width), width, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
        )
        index.cp.niter, index.cp.seed, index.cp.max_points_per_centroid = ITERATIONS, SEED, VECTORS_PER_CENTROID
        index.train(_padded(sample, width))
        return cls(index, sample.shape[1])

    @classmethod
    def read(cls, path: Path, dimensions: int) -> "VectorLists":
        """Open lists that `write` wrote; they are read when they are searched.

        Raises:
            ThalwegError: The file does not hold such lists.
        """
        import faiss

        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError, OSError) as error:
            raise ThalwegError(f"{path}: no readable lists ({one_line(error)[:120]}): build the index again") from error
        if not isinstance(index, faiss.IndexIVFScalarQuantizer) or not dimensions <= index.d < dimensions + LANES:
            raise ThalwegError(f"{path}: expected lists of vectors of {dimensions} dimensions: build the index again")
        return cls(index, dimensions)

    @property
    def lists(self) -> int:
        """Number of lists."""
        return int(self._index.nlist)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors (N, K); their numbers continue those of the vectors before them."""
        self._index.add(_padded(vectors, self._index.d))

    def write(self, path: Path) -> None:
        """Write the lists to a file.

        Raises:
            OSError: The file cannot be written.
        """
        import faiss

        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(one_line(error)) from error

    def clear(self) -> None:
        """Remove all vectors; the centroids stay."""
        self._index.reset()

    def nearest(
        self, vectors: NDArray[np.float32], count: int, probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest vectors in the lists of the nearest centroids.

        Args:
            vectors: (Q, K), queries.
            count: vectors per query.
            probes: lists to read per query.

        Returns:
            Their numbers (Q, count), nearest first, -1 where the lists hold fewer, and the vectors (Q, count, K).
        """
        import faiss

        width: int = self._index.d
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(probes, self.lists)
        found: tuple[Any, Any, Any] = self._index.search_and_return_codes(
            _padded(vectors, width), count, params=parameters
        )
        codes = found[2].view(np.float16).reshape(*found[1].shape, width)
        return found[1], codes[..., : self.dimensions].astype(np.float32)


def _padded(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return vectors (N, K) within `MAX_VALUE` as contiguous float32 (N, width), filled up with zeros."""
    padded = np.zeros((len(vectors), width), np.float32)
    padded[:, : vectors.shape[1]] = np.clip(vectors, -MAX_VALUE, MAX_VALUE)
    return padded
