"""Properties of a site in a table: plant type, climate of the record, and constants such as canopy height."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.trees.lightgbm_learner import MIN_RECORD, site_climate
from thalweg.gpp.tables.daily_table import CLASS_PREFIX

LIMIT = 2.5
"""Standard deviations beyond which a value counts as no more extreme."""


@dataclass(frozen=True)
class SiteTable:
    """Sites and what is known of them.

    Attributes:
        sites: S names.
        types: (S,) columns of the plant types, "" where unknown.
        climate: (S, C) means and standard deviations over the record, NaN where the record is too short.
        constants: (S, O) columns that do not vary within a site, NaN where unknown; O may be 0.
    """

    sites: list[str]
    types: NDArray[np.str_]
    climate: NDArray[np.float64]
    constants: NDArray[np.float64]


def site_table(windows: Windows, varies: NDArray[np.bool_]) -> SiteTable:
    """Return the table of the sites of windows.

    Args:
        windows: Windows of any sites.
        varies: Mask (F,) of the features that vary within a site of the training; the others are plant types and
            constants.
    """
    sites = windows.sites
    first = [int(np.flatnonzero(windows.site == site)[0]) for site in sites]
    is_type = np.array([name.startswith(CLASS_PREFIX) for name in windows.features])
    names = np.array(windows.features)
    types = [next(iter(names[is_type & (row == 1)]), "") for row in windows.daily[windows.last[first]]]
    climate = site_climate(windows, MIN_RECORD)[first][:, np.tile(varies, 2)]
    constants = site_climate(windows, 1)[first][:, np.append(~varies & ~is_type, np.zeros(len(varies), bool))]
    return SiteTable(sites, np.array(types), climate.astype(float), constants.astype(float))


@dataclass(frozen=True)
class Standardisation:
    """Means and standard deviations of columns over sites.

    Attributes:
        mean: (K,) means; 0 where no site has a value.
        scale: (K,) standard deviations; 1 where a column is constant.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray) -> "Standardisation":
        """Return the standardisation of (S, K) values."""
        known = np.isfinite(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0.0).sum(0) / count
        scale = np.sqrt(np.where(known, np.square(values - mean), 0.0).sum(0) / count)
        return cls(mean, np.where(scale > 1e-9, scale, 1.0))

    def apply(self, values: NDArray) -> NDArray[np.float64]:
        """Return standardised values within `LIMIT`; a missing value is 0, the mean."""
        return np.clip(np.nan_to_num((values - self.mean) / self.scale, nan=0.0), -LIMIT, LIMIT)
