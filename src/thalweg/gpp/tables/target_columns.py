"""Targets of a model (GPP, NEE, RECO, ET), their columns in flux files and the quality columns of these.

ONEFlux filters net exchange (NEE) by a friction-velocity threshold that varies by year (VUT) or is constant (CUT), as a
reference (REF), at a percentile of the thresholds (05 to 95), at the median threshold (USTAR50) or as a mean, and
partitions it into GPP and RECO by night-time (NT) or daytime (DT) fluxes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from thalweg.errors import UsageError, unknown_name
from thalweg.gpp.tables.physical_limits import GPP_UNITS, LIMITS, SECONDS_PER_DAY

_NOT_A_FLUX = re.compile(
    r"_(SE|SD|QC|FQC|UNC|RANDUNC(_\w+)?|JOINTUNC|NIGHT|DAY|SSITC_TEST|ANNOPTLM_\w+)$", re.IGNORECASE
)
_ONEFLUX = re.compile(r"(?:(?:GPP|RECO)_[ND]T_|NEE_)(?P<variant>[CV]UT_\w+)")
_LATENT_HEAT = re.compile(r"LE_(F_MDS|CORR\w*)")
TARGET_UNCERTAINTY = "TARGET_UNCERTAINTY"
"""Column of a daily table with the standard uncertainty of each day's target, in the target's units."""

_THRESHOLDS = ("VUT", "CUT")
_MAX_NAMES = 8  # in a message


@dataclass(frozen=True)
class FluxTarget:
    """Quantity that a model learns and predicts.

    Attributes:
        name: Name by which it is chosen.
        column: Column of a daily table that holds it.
        label: Short name in messages, reports and figures.
        long_name: Name in words.
        units: Units of a daily value.
        flux: First part of its columns' names in flux files.
        partitions: Partitionings whose mean it is; none where the net exchange or heat is not partitioned, and of
            GPP and RECO where the partitioning is an option.
    """

    name: str
    column: str
    label: str
    long_name: str
    units: str
    flux: str
    partitions: tuple[str, ...] = ()

    @property
    def is_gpp(self) -> bool:
        """True if the target is GPP, of any partitioning."""
        return self.column == "gpp"

    def holds(self, name: str) -> bool:
        """Return True if a column of a flux file holds the target by its name."""
        return bool(re.match(rf"{self.flux}($|_)", name)) and not _NOT_A_FLUX.search(name)

    def columns_in(self, names: Iterable[str]) -> list[str]:
        """Return the columns that hold the target, references first, without uncertainties and flags."""
        found = [name for name in names if self.holds(name)]
        return sorted(found, key=lambda name: not name.endswith("_REF"))

    def reference_columns(self, partitioning: str) -> list[tuple[str, ...]]:
        """Return the columns of which the first present are used, each time those whose mean is the target.

        Args:
            partitioning: "nt" or "dt", of a target that does not determine it.
        """
        if self.flux == "LE":
            return [("LE_F_MDS",)]
        if self.flux == "NEE":
            return [(f"NEE_{threshold}_REF",) for threshold in _THRESHOLDS]
        kinds = self.partitions or (partitioning.upper(),)
        return [tuple(f"{self.flux}_{kind}_{threshold}_REF" for kind in kinds) for threshold in _THRESHOLDS]

    def daily_values(self, days: pd.DataFrame, columns: tuple[str, ...], label: str) -> pd.Series:
        """Return the target of each day from the columns of a flux file.

        Args:
            days: Daily values (gC m-2 d-1; latent heat in W m-2 with air temperature in deg C).
            columns: Columns whose mean is the target.
            label: Name of the file in messages.

        Raises:
            UsageError: Latent heat comes without air temperature.
        """
        if self.flux != "LE":
            return days[list(columns)].mean(axis=1, skipna=False)
        temperature = next((name for name in ("TA_F", "TA_ERA") if name in days), None)
        if temperature is None:
            raise UsageError(f"{label}: no column TA_F or TA_ERA: expected air temperature to convert LE to ET")
        return days[columns[0]] * SECONDS_PER_DAY / heat_of_vaporisation(days[temperature])


def heat_of_vaporisation(temperature: pd.Series) -> pd.Series:
    """Return the latent heat of vaporisation of water in J kg-1 at air temperature in deg C (Harrison 1963)."""
    return 2.501e6 - 2361.0 * temperature.astype(np.float64)


_CARBON = {
    "gpp": ("gpp", "GPP", "gross primary production", "GPP", ()),
    "gpp-dt": ("gpp", "GPP (daytime)", "gross primary production of daytime partitioning", "GPP", ("DT",)),
    "gpp-mean": (
        "gpp", "GPP (mean of both)", "gross primary production, mean of both partitionings", "GPP", ("NT", "DT"),
    ),
    "nee": ("nee", "NEE", "net ecosystem exchange", "NEE", ()),
    "reco": ("reco", "RECO", "ecosystem respiration", "RECO", ()),
}  # fmt: skip
TARGETS = {
    name: FluxTarget(name, column, label, long_name, GPP_UNITS, flux, partitions)
    for name, (column, label, long_name, flux, partitions) in _CARBON.items()
} | {"et": FluxTarget("et", "et", "ET", "evapotranspiration", LIMITS["ET"].units, "LE")}
"""Targets by name; `gpp` is that of night-time partitioning unless another is chosen."""

GPP = TARGETS["gpp"]
"""Target of a table or model that names none."""

FLUX_COLUMNS = tuple(dict.fromkeys(target.column for target in TARGETS.values()))
"""Columns of daily tables that hold a target; those of other targets are not read."""


def target_named(name: str) -> FluxTarget:
    """Return the target of a name.

    Raises:
        UsageError: The name is unknown; the message suggests a close one.
    """
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]


def target_of(table: pd.DataFrame) -> FluxTarget:
    """Return the target of a daily table: that of ``attrs["target"]``, else GPP."""
    return TARGETS[table.attrs.get("target", GPP.name)]


def quality_column(column: str) -> str | None:
    """Return the quality column of the flux behind a column; None where the name does not determine it."""
    if _LATENT_HEAT.fullmatch(column):
        return "LE_F_MDS_QC"
    found = _ONEFLUX.fullmatch(column)
    return f"NEE_{found['variant']}_QC" if found else None


def no_target_column(label: str, wanted: str, names: Iterable[str], target: FluxTarget = GPP) -> UsageError:
    """Return the error that a column of the target is missing or holds another, with the columns that do.

    Args:
        label: Name of the file in the message.
        wanted: Name of the column.
        names: Columns of the file.
        target: FluxTarget that the column should hold.
    """
    names = list(names)
    present = target.columns_in(names)
    short = target.column.upper()
    found = f"column {wanted!r} does not hold {short}" if wanted in names else f"no column {wanted!r}"
    if not present:
        return UsageError(f"{label}: {found}, the file has no {short}: expected the site's daily {short}")
    shown = ", ".join(present[:_MAX_NAMES]) + (
        f" and {len(present) - _MAX_NAMES} more" if len(present) > _MAX_NAMES else ""
    )
    return UsageError(f"{label}: {found}, it has {shown}: choose one with `gpp_column`")
