"""Agreement of changes: slope through zero and correlation of decoded changes on those of physics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BandAgreement:
    """Agreement of one band's changes.

    Attributes:
        slope: decoded change over physical change, least squares through zero.
        correlation: their correlation; NaN where one of them does not vary.
    """

    slope: float
    correlation: float


def change_agreement(decoded: NDArray, physical: NDArray) -> tuple[float, list[BandAgreement]]:
    """Return the slope over all bands together, and the agreement of each band, of changes (N, B) each."""
    products, squares = (decoded * physical).sum(0), np.square(physical).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = products / squares
        correlations = [np.corrcoef(own, theirs)[0, 1] for own, theirs in zip(decoded.T, physical.T, strict=True)]
    bands = [BandAgreement(float(slope), float(r)) for slope, r in zip(slopes, correlations, strict=True)]
    return float(products.sum() / squares.sum()), bands
