"""Windows of 90 days whose last day's GPP is predicted (paper, section "GPP use").

A window is a view: one array holds every day of every site once, and a window is the row of its last day. A model may
use the windows themselves (`Windows.values`) or run over the days once (`Windows.daily`, `Windows.runs`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.climatology import day_of_year
from thalweg.gpp.tables.physical_limits import SITE_COLUMNS
from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY, target_of

DAYS = 90
"""Length of a window in days."""

MEANS = (7, 30, 90)
"""Lengths of the running means of every model, in days."""


@dataclass(frozen=True)
class Windows:
    """N windows of 90 days over F daily features.

    Attributes:
        features: F names.
        daily: (D, F) float32, every day of every site without gaps, NaN where a value is missing.
        runs: (S, 2) int64, first row and one past the last row of each site in ``daily``.
        last: (N,) int64, row of each window's last day in ``daily``.
        target: (N,) float32 target of the last day, GPP in gC m-2 d-1 by default; NaN where unknown.
        site: (N,) str.
        time: (N,) datetime64[ns], the last day.
        vegetation: (N,) str, "" where the table has none.
        uncertainty: (N,) float32 standard deviation of the target in its units, NaN where unknown; None where the
            table has no column of it.
        importance: (N,) float32 factors of the days' weights in a fit; None where all are equal.
    """

    features: tuple[str, ...]
    daily: NDArray[np.float32]
    runs: NDArray[np.int64]
    last: NDArray[np.int64]
    target: NDArray[np.float32]
    site: NDArray[np.str_]
    time: NDArray[np.datetime64]
    vegetation: NDArray[np.str_]
    uncertainty: NDArray[np.float32] | None = None
    importance: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.last)

    @property
    def values(self) -> NDArray[np.float32]:
        """Days of the windows, (N, 90, F) float32, in order of time."""
        return self.daily[self.last[:, None] + np.arange(1 - DAYS, 1)]

    @property
    def sites(self) -> list[str]:
        """Sorted names of the sites that have a window."""
        return sorted(set(self.site.tolist()))

    @property
    def year(self) -> NDArray[np.int64]:
        """Calendar year of the last day, (N,) int64."""
        return self.time.astype("datetime64[Y]").astype(np.int64) + 1970

    @property
    def day_of_year(self) -> NDArray[np.int64]:
        """Day of year of the last day, (N,) int64, 1 to 366."""
        return day_of_year(self.time)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Mask of the days that lie in any window, (D,) boolean."""
        edges = np.zeros(len(self.daily) + 1, np.int64)
        np.add.at(edges, self.last - DAYS + 1, 1)
        np.add.at(edges, self.last + 1, -1)
        return np.cumsum(edges[:-1]) > 0

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Mask of the features that change within the record of any site, (F,) boolean; a vegetation class does not."""
        records = [self.daily[slice(*run)] for run in self.runs]
        ranges = [np.fmax.reduce(days) - np.fmin.reduce(days) for days in records]
        return np.asarray(np.fmax.reduce(ranges) > 0)

    def running_means(self) -> NDArray[np.float32]:
        """Return (D, 3 F) float32 means of the 7, 30 and 90 days up to each day, NaN where none has a value.

        On the last day of a window they are means within the window; before a site's first window they may include
        days of another site.
        """
        totals = np.cumsum(np.nan_to_num(self.daily, nan=0.0), axis=0, dtype=np.float64)
        counts = np.cumsum(np.isfinite(self.daily), axis=0, dtype=np.int64)
        means = []
        for days in MEANS:
            total, count = totals.copy(), counts.copy()
            total[days:] -= totals[:-days]
            count[days:] -= counts[:-days]
            mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
            means.append(mean.astype(np.float32))
        return np.concatenate(means, 1)

    def summaries(self, varies: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return (N, K) float32: the last day's features, and the means of 7, 30 and 90 days of those that vary.

        Args:
            varies: Mask (F,) of the features to average; those that vary in these windows by default. A fitted model
                keeps the mask of its training, since a single site can be constant in what varies elsewhere.
        """
        varies = self.varies if varies is None else varies
        means = self.running_means()[self.last][:, np.tile(varies, len(MEANS))]
        return np.concatenate([self.daily[self.last], means], 1)

    def select(self, chosen: NDArray | slice) -> "Windows":
        """Return the windows of a mask, an index or a slice; the days are shared, not copied."""
        fields = ("last", "target", "site", "time", "vegetation", "uncertainty", "importance")
        held = {name: getattr(self, name) for name in fields}
        return replace(self, **{name: values[chosen] for name, values in held.items() if values is not None})

    def touches(self, year: int) -> NDArray[np.bool_]:
        """Return a mask (N,) of the windows with any of their 90 days in a calendar year."""
        first = (self.time - np.timedelta64(DAYS - 1, "D")).astype("datetime64[Y]").astype(np.int64) + 1970
        return (first <= year) & (year <= self.year)

    def split(
        self, sites: Collection[str] | None = None, years: Collection[int] | None = None
    ) -> "tuple[Windows, Windows]":
        """Split into training and held-out windows by sites, by years, or by both.

        Held out are the windows whose last day is at one of the sites and in one of the years. Training has no window
        of these sites, and none with any of its 90 days in these years, so that no window straddles the split.

        Args:
            sites: Sites to hold out; None selects by year alone.
            years: Calendar years to hold out; None selects by site alone.

        Returns:
            Training and held-out windows, which share their days.
        """
        training, held_out = np.ones((2, len(self)), bool)
        if sites is not None:
            here = np.isin(self.site, list(sites))
            training &= ~here
            held_out &= here
        for_years = list(years) if years is not None else []
        for year in for_years:
            training &= ~self.touches(year)
        if years is not None:
            held_out &= np.isin(self.year, for_years)
        return self.select(training), self.select(held_out)


def summary_columns(varies: NDArray[np.bool_]) -> int:
    """Return the number of columns of `Windows.summaries` for a mask of the features to average."""
    return len(varies) + len(MEANS) * int(varies.sum())


def make_windows(
    table: pd.DataFrame, features: Sequence[str], stride: int = 1, complete: float = 0.5, with_target: bool = True
) -> Windows:
    """Make the windows of a daily table.

    A window needs all its 90 days within the site's record, every feature on its last day, and at least the share
    ``complete`` of its values. Constants of the site, such as its canopy height, may be missing.

    Args:
        table: Daily table; see `daily_table`.
        features: Columns to use.
        stride: Days between the last days of a site's windows; the paper uses 10.
        complete: Smallest share of a window's values that must be present, 0 to 1.
        with_target: Keep only windows whose last day has the target; False predicts every day.

    Raises:
        UsageError: A feature is not in the table, or a site has fewer than 90 days with features (and the target).
    """
    if missing := [name for name in features if name not in table]:
        raise UsageError(f"no column {missing[0]!r} in the table: it has {', '.join(map(str, table.columns))}")
    if not features:
        raise UsageError("no features: expected at least one column")
    wanted = target_of(table)
    needed = [name not in SITE_COLUMNS for name in features]
    daily, runs, parts, uncertainties = [], [], [], []
    offset = 0
    for site, rows in table.groupby("site", sort=True):
        days = pd.date_range(rows["time"].iloc[0], rows["time"].iloc[-1], freq="D")
        gapless = rows.set_index("time").reindex(days)
        values = gapless[list(features)].to_numpy(np.float32)
        target = gapless[wanted.column].to_numpy(np.float32)
        usable = np.isfinite(values[:, needed]).all(1) & (np.isfinite(target) if with_target else True)
        if usable.sum() < DAYS:
            raise UsageError(
                f"site {site}: {usable.sum()} days with every feature{f' and {wanted.label}' if with_target else ''}: "
                f"expected at least {DAYS}; leave the site out, or choose features that it has"
            )
        share = np.concatenate(([0.0], np.cumsum(np.isfinite(values[:, needed]).mean(1) if any(needed) else usable)))
        usable[: DAYS - 1] = False
        usable[DAYS - 1 :] &= (share[DAYS:] - share[:-DAYS]) / DAYS >= complete
        chosen = np.flatnonzero(usable)
        chosen = chosen[(chosen - DAYS + 1) % stride == 0]
        vegetation = str(rows["vegetation"].iloc[0]) if "vegetation" in rows else ""
        parts.append((offset + chosen, target[chosen], days.to_numpy()[chosen], str(site), vegetation))
        if TARGET_UNCERTAINTY in gapless:
            uncertainties.append(gapless[TARGET_UNCERTAINTY].to_numpy(np.float32)[chosen])
        daily.append(values)
        runs.append((offset, offset + len(days)))
        offset += len(days)
    if not parts:
        raise UsageError("an empty table: expected at least one site with 90 days")
    counts = [len(last) for last, *_ in parts]
    return Windows(
        features=tuple(features),
        daily=np.concatenate(daily),
        runs=np.array(runs),
        last=np.concatenate([last for last, *_ in parts]),
        target=np.concatenate([target for _, target, *_ in parts]),
        site=np.repeat([site for *_, site, _ in parts], counts),
        time=np.concatenate([time for _, _, time, *_ in parts]),
        vegetation=np.repeat([vegetation for *_, vegetation in parts], counts),
        uncertainty=np.concatenate(uncertainties) if uncertainties else None,
    )
