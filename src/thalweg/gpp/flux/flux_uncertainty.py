"""Standard uncertainty of a target's days from the uncertainty columns of flux files.

ONEFlux gives percentiles of the flux over its thresholds of friction velocity, and the random uncertainty of net
exchange (NEE) and latent heat (LE). Their joint uncertainty is the root of the sum of squares of the random uncertainty
and half the range from the 16th to the 84th percentile, one standard deviation (Pastorello et al. 2020). Here the same
holds for GPP and RECO with their own percentiles and the random uncertainty of the NEE that they are partitioned from.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from thalweg.gpp.tables.target_columns import RANDOM_UNCERTAINTY

_CARBON = re.compile(r"(?P<flux>(?:(?:GPP|RECO)_[ND]T|NEE)_(?P<threshold>[CV]UT))_(?P<variant>\w+)")
_HEAT = re.compile(r"LE_(F_MDS|CORR)")
_PERCENTILES = (("16", "84", 2.0), ("25", "75", 1.349))
"""Lower and upper percentile, and their distance in standard deviations of a normal distribution."""


@dataclass(frozen=True)
class UncertaintyColumns:
    """Columns of a flux file that determine a target's uncertainty.

    Attributes:
        ranges: Lower and upper column and their distance in standard deviations, for each column of the target.
        random: Column of the random uncertainty; None without one.
    """

    ranges: tuple[tuple[str, str, float], ...]
    random: str | None

    @classmethod
    def of(cls, columns: tuple[str, ...], names: Collection[str]) -> "UncertaintyColumns | None":
        """Return the columns that a file has for a target; None if it has none.

        Args:
            columns: Columns whose mean is the target.
            names: Columns of the file.
        """
        found = [_range(column, names) for column in columns]
        ranges = tuple(one for one in found if one is not None) if None not in found else ()
        random = next((name for name in _random_names(columns[0]) if name in names), None)
        return cls(ranges, random) if ranges or random else None

    @property
    def names(self) -> tuple[str, ...]:
        """Columns to read."""
        names = [name for lower, upper, _ in self.ranges for name in (lower, upper)]
        return (*names, *([self.random] if self.random else []))

    @property
    def statement(self) -> str:
        """Formula in words of the columns."""
        spreads = [f"({upper} - {lower}) / {distance:g}" for lower, upper, distance in self.ranges]
        spread = spreads[0] if len(spreads) == 1 else f"the mean of {' and '.join(spreads)}" if spreads else ""
        if spread and self.random:
            return f"{spread} and {self.random} in quadrature"
        return f"{spread} without random uncertainty" if spread else f"{self.random} alone"

    def daily_values(self, days: pd.DataFrame) -> pd.Series:
        """Return one standard deviation of each day in the units of the columns, NaN where a part is missing.

        Args:
            days: Daily values with the columns `names`.
        """
        # The partitionings share the thresholds of one NEE: their spreads are averaged, not combined as independent.
        spreads = [(days[upper] - days[lower]).abs() / distance for lower, upper, distance in self.ranges]
        spread = sum(spreads) / len(spreads) if spreads else pd.Series(0.0, days.index)
        random = days[self.random] if self.random else 0.0
        return (spread**2 + random**2) ** 0.5


def _range(column: str, names: Collection[str]) -> tuple[str, str, float] | None:
    """Return the percentile columns of a flux, the widest that the file has."""
    if found := _CARBON.fullmatch(column):
        pairs = [(f"{found['flux']}_{low}", f"{found['flux']}_{high}", width) for low, high, width in _PERCENTILES]
    elif column == "LE_CORR":
        pairs = [(f"{column}_25", f"{column}_75", 1.349)]
    else:
        pairs = []
    return next((pair for pair in pairs if pair[0] in names and pair[1] in names), None)


def _random_names(column: str) -> list[str]:
    """Return the columns of random uncertainty in order of preference: of the version itself, or of the reference."""
    if _HEAT.fullmatch(column):
        return [f"LE{RANDOM_UNCERTAINTY}"]
    found = _CARBON.fullmatch(column)
    if found is None:
        return []
    return [f"NEE_{found['threshold']}_{variant}{RANDOM_UNCERTAINTY}" for variant in (found["variant"], "REF")]
