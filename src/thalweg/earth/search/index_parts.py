"""Parts of an index: lists of vectors, and the pixel and the uncertainty of each of their entries."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.search.vector_lists import VectorLists

MIN_UNCERTAINTY, MAX_UNCERTAINTY = 1e-4, 10.0
"""Range of the encoded uncertainty; values beyond it are clipped."""

MIN_PROBES = 8
"""Lists of a part that a query reads, at least."""

READ_PER_CANDIDATE = 24
"""Entries of the lists that a query reads, per candidate."""

_STEP = np.log(MAX_UNCERTAINTY / MIN_UNCERTAINTY) / 255
_DECODED = (MIN_UNCERTAINTY * np.exp(_STEP * np.arange(256))).astype(np.float32)


def encode_uncertainty(uncertainty: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return uncertainties (any shape) in 8 bits on a logarithmic scale, in steps of 4.6 %; NaN as the largest."""
    known = np.nan_to_num(uncertainty, nan=MAX_UNCERTAINTY)
    steps = np.log(np.clip(known, MIN_UNCERTAINTY, MAX_UNCERTAINTY) / MIN_UNCERTAINTY) / _STEP
    return np.asarray(np.rint(steps), np.uint8)


def decode_uncertainty(encoded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the uncertainties (any shape) that `encode_uncertainty` encoded."""
    return np.asarray(_DECODED[encoded])


@dataclass(frozen=True)
class PartFiles:
    """Paths of the files of a part.

    Attributes:
        lists: the vectors.
        pixels: the pixel of each entry, row * columns of the store + column, uint32 (N,).
        uncertainty: the uncertainty of each entry in 8 bits, uint8 (N, K).
    """

    lists: Path
    pixels: Path
    uncertainty: Path

    @classmethod
    def of(cls, folder: Path, part: int) -> "PartFiles":
        """Return the paths of a part of the index in `folder`, by its number from 0."""
        return cls(
            folder / f"vectors-{part:04}.faiss", folder / f"pixels-{part:04}.npy", folder / f"uncertainty-{part:04}.npy"
        )


@dataclass(frozen=True, eq=False)
class IndexPart:
    """A part of an index; its arrays are mapped from their files.

    Attributes:
        first: number of its first entry in the index.
        lists: scaled vectors.
        pixels: (N,), uint32.
        uncertainty: (N, K), uint8.
    """

    first: int
    lists: VectorLists
    pixels: NDArray[np.uint32]
    uncertainty: NDArray[np.uint8]

    @classmethod
    def read(cls, files: PartFiles, first: int, entries: int, dimensions: int) -> "IndexPart":
        """Open a part of `entries` entries.

        Raises:
            ValueError: The files contradict each other.
            ThalwegError: The lists cannot be read.
        """
        lists = VectorLists.read(files.lists, dimensions)
        pixels = np.load(files.pixels, mmap_mode="r", allow_pickle=False)
        uncertainty = np.load(files.uncertainty, mmap_mode="r", allow_pickle=False)
        if not len(lists) == entries == len(pixels) or uncertainty.shape != (entries, dimensions):
            raise ValueError(f"{files.lists.name} of {len(lists)} entries, expected {entries}")
        return cls(first, lists, pixels, uncertainty)

    def candidates(
        self, scaled: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return the nearest entries by the distance of scaled vectors.

        Args:
            scaled: (Q, K), queries as they are in the lists.
            count: entries per query. The lists that are read hold about `READ_PER_CANDIDATE` times as many.

        Returns:
            Their numbers in the index (Q, C), -1 where there are fewer, their scaled vectors and their uncertainty
            (Q, C, K).
        """
        entries = len(self.lists)
        probes = max(MIN_PROBES, -(-READ_PER_CANDIDATE * count * self.lists.lists // entries))
        found, vectors = self.lists.nearest(scaled, min(count, entries), probes)
        uncertainty = decode_uncertainty(self.uncertainty[np.maximum(found, 0)])
        return np.where(found >= 0, found + self.first, -1), vectors, uncertainty
