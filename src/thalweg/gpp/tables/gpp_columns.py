"""Which of a file's many GPP columns is meant, and which column says how good its days are.

ONEFlux partitions net exchange by night (NT) or day (DT), filtered by a friction-velocity threshold that varies by
year (VUT) or is constant (CUT), as a reference (REF), at a percentile of the thresholds (05 to 95), at the median
threshold (USTAR50) or as a mean.
"""

import re
from collections.abc import Iterable

from thalweg.errors import UsageError

_GPP = re.compile(r"GPP($|_)")
_NOT_GPP = re.compile(r"_(SE|SD|QC|FQC|UNC|RANDUNC|JOINTUNC|SSITC_TEST|ANNOPTLM_\w+)$", re.IGNORECASE)
_ONEFLUX = re.compile(r"GPP_[ND]T_(?P<variant>[CV]UT_\w+)")
_SHOWN = 8


def gpp_columns(names: Iterable[str]) -> list[str]:
    """The columns that hold GPP, references first; no uncertainties and flags."""
    found = [name for name in names if is_gpp_column(name)]
    return sorted(found, key=lambda name: not name.endswith("_REF"))


def is_gpp_column(name: str) -> bool:
    """Whether a column holds GPP by its name."""
    return bool(_GPP.match(name)) and not _NOT_GPP.search(name)


def quality_column(gpp_column: str) -> str | None:
    """The quality of the net exchange that a GPP column was partitioned from; None where the name does not say it."""
    found = _ONEFLUX.fullmatch(gpp_column)
    return f"NEE_{found['variant']}_QC" if found else None


def no_gpp_column(where: str, wanted: str, names: Iterable[str]) -> UsageError:
    """The error that a GPP column is not there or is no GPP, with those that are."""
    names = list(names)
    present = gpp_columns(names)
    found = f"column {wanted!r} is no GPP" if wanted in names else f"no column {wanted!r}"
    if not present:
        return UsageError(f"{where}: {found}, the file has no GPP: expected the site's daily GPP")
    shown = ", ".join(present[:_SHOWN]) + (f" and {len(present) - _SHOWN} more" if len(present) > _SHOWN else "")
    return UsageError(f"{where}: {found}, it has {shown}: choose one with gpp_column")
