"""Decoding of one band: the steps from stored numbers to values in the sensor's units."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from thalweg.earth.cube.decoding.fill_values import is_fill_value


@dataclass(frozen=True)
class BandDecoding:
    """Decoding of one band's stored numbers; the steps are applied in the order of the attributes.

    Attributes:
        missing: fill values.
        before: offset of each date that is added before scaling, (T, 1, 1).
        factor: scale factor.
        offset: offset that is added after scaling.
        after: offset of each date that is added last, (T, 1, 1).
        is_linear: whether the result is linear power, which is then converted to dB.
        is_digital: whether the stored numbers are digital numbers of a product.
    """

    missing: tuple[float, ...] = ()
    before: np.ndarray | None = None
    factor: np.float32 | None = None
    offset: np.float32 | None = None
    after: np.ndarray | None = None
    is_linear: bool = False
    is_digital: bool = False

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Decode stored numbers (T, H, W) of any dtype.

        Returns:
            Values in the sensor's units, float32 (T, H, W), NaN at fill values and where power is not positive.
        """
        values: np.ndarray = raw.astype(np.float32)
        for number, operation in (
            (self.before, np.add),
            (self.factor, np.multiply),
            (self.offset, np.add),
            (self.after, np.add),
        ):
            if number is not None:
                values = operation(values, number)
        values[is_fill_value(raw, self.missing)] = np.nan
        if self.is_linear:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = (10 * np.log10(np.where(values > 0, values, np.nan))).astype(np.float32)
        return values

    def on(self, dates: np.ndarray) -> "BandDecoding":
        """Return the decoding of N numbers with the date of each given as an index (N,)."""
        return replace(
            self,
            before=None if self.before is None else self.before[dates],
            after=None if self.after is None else self.after[dates],
        )


Decoding = Mapping[str, BandDecoding]
"""Decoding of each band of a series, by the band's name."""


def on_dates(decoding: Decoding, dates: np.ndarray) -> Decoding:
    """Return the decoding of some dates of a series, given as indices (T,)."""
    return {name: band.on(dates) for name, band in decoding.items()}
