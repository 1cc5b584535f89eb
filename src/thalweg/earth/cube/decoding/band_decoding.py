"""The steps from one band's stored numbers to values in its sensor's units."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from thalweg.earth.cube.decoding.fill_values import is_fill_value


@dataclass(frozen=True)
class BandDecoding:
    """How one band's stored numbers become values; the steps come in the order of the attributes.

    Attributes:
        missing: codes that stand for no data.
        before: added per date, (T, 1, 1).
        factor: multiplied by.
        offset: added.
        after: added per date, (T, 1, 1).
        is_linear: whether the result is linear power, to be converted to dB.
        is_digital: whether the numbers are a product's digital numbers.
    """

    missing: tuple[float, ...] = ()
    before: np.ndarray | None = None
    factor: np.float32 | None = None
    offset: np.float32 | None = None
    after: np.ndarray | None = None
    is_linear: bool = False
    is_digital: bool = False

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Numbers (T, H, W) in the sensor's units, float32, NaN where a code means no data or power is not positive."""
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
        """The decoding of numbers of which each is of its own date, given as index (N,)."""
        return replace(
            self,
            before=None if self.before is None else self.before[dates],
            after=None if self.after is None else self.after[dates],
        )


Decoding = Mapping[str, BandDecoding]
"""The decoding of each band that a series has."""


def on_dates(decoding: Decoding, dates: np.ndarray) -> Decoding:
    """The decoding of a part of a series, its dates given as indices (T,)."""
    return {name: band.on(dates) for name, band in decoding.items()}
