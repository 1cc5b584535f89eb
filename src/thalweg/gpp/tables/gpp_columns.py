"""Columns of GPP in flux files and their quality columns.

ONEFlux partitions net exchange by night-time (NT) or daytime (DT) fluxes, filtered by a friction-velocity threshold
that varies by year (VUT) or is constant (CUT), as a reference (REF), at a percentile of the thresholds (05 to 95), at
the median threshold (USTAR50) or as a mean.
"""

import re
from collections.abc import Iterable

from thalweg.errors import UsageError

_GPP = re.compile(r"GPP($|_)")
_NOT_GPP = re.compile(r"_(SE|SD|QC|FQC|UNC|RANDUNC|JOINTUNC|SSITC_TEST|ANNOPTLM_\w+)$", re.IGNORECASE)
_ONEFLUX = re.compile(r"GPP_[ND]T_(?P<variant>[CV]UT_\w+)")
_MAX_NAMES = 8  # in a message


def gpp_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that hold GPP, references first, without uncertainties and flags."""
    found = [name for name in names if is_gpp_column(name)]
    return sorted(found, key=lambda name: not name.endswith("_REF"))


def is_gpp_column(name: str) -> bool:
    """Return True if a column holds GPP by its name."""
    return bool(_GPP.match(name)) and not _NOT_GPP.search(name)


def quality_column(gpp_column: str) -> str | None:
    """Return the quality column of the net exchange behind a GPP column; None where the name does not determine it."""
    found = _ONEFLUX.fullmatch(gpp_column)
    return f"NEE_{found['variant']}_QC" if found else None


def no_gpp_column(label: str, wanted: str, names: Iterable[str]) -> UsageError:
    """Return the error that a GPP column is missing or holds no GPP, with the columns that do.

    Args:
        label: Name of the file in the message.
        wanted: Name of the column.
        names: Columns of the file.
    """
    names = list(names)
    present = gpp_columns(names)
    found = f"column {wanted!r} does not hold GPP" if wanted in names else f"no column {wanted!r}"
    if not present:
        return UsageError(f"{label}: {found}, the file has no GPP: expected the site's daily GPP")
    shown = ", ".join(present[:_MAX_NAMES]) + (
        f" and {len(present) - _MAX_NAMES} more" if len(present) > _MAX_NAMES else ""
    )
    return UsageError(f"{label}: {found}, it has {shown}: choose one with `gpp_column`")
