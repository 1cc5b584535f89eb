"""Recognition of flux-tower files without daily GPP, by name or header, with the file to use instead."""

import re
from pathlib import Path

from thalweg.gpp.flux.flux_names import OTHER_RESOLUTIONS, FluxFileName
from thalweg.gpp.tables.physical_limits import GPP_UNITS, GRAMS_PER_MICROMOLE
from thalweg.gpp.tables.table_files import TableFile
from thalweg.gpp.tables.target_columns import GPP

_REDDYPROC = re.compile(r"(GPP|NEE|Reco|LE|H)(_DT)?_((uStar|Ustar|U\d\d)(_f|_fqc|_orig|_SD)?|f|fqc|fall|fmeth)$")
_EDDYPRO_NAMES = ({"filename", "daytime", "co2_flux"}, {"file_info"}, {"FILENAME_HF"})
_BIF_NAMES = {"VARIABLE_GROUP", "VARIABLE", "DATAVALUE"}

_IS_BASE = (
    "an AmeriFlux BASE file, which has no partitioned GPP: use the site's AmeriFlux FLUXNET product "
    "(AMF_SITE_FLUXNET_..._DD_...csv)"
)
_IS_METADATA = "a file of metadata (BIF, BADM), which has no daily values: use the site's FLUXNET file"
_IS_EDDYPRO = (
    "an EddyPro file, which has fluxes but no partitioned GPP: partition it (REddyProc, ONEFlux), then write a daily "
    f"table (site, time, gpp in {GPP_UNITS})"
)

_USE_DAILY = "use the site's daily FLUXNET file (_DD_), or else the half-hourly one (_HH_)"


def is_ignored(name: str) -> bool:
    """Return True for names of files that no folder of daily values needs: auxiliary, weekly to yearly, metadata."""
    named = FluxFileName.parse(name)
    return named.is_metadata or named.is_auxiliary or named.is_unpartitioned or named.resolution in OTHER_RESOLUTIONS


def reason_by_name(path: Path) -> str | None:
    """Return the reason to refuse a file by its name, with the file to use instead; None if there is none."""
    named = FluxFileName.parse(path.name)
    if named.is_base:
        return _IS_BASE
    if path.name.startswith("eddypro_"):
        return _IS_EDDYPRO
    if named.is_metadata:
        return _IS_METADATA
    if named.is_auxiliary:
        return f"an auxiliary file, which has no daily values: {_USE_DAILY}"
    if named.is_unpartitioned:
        return f"an ICOS file from before the partitioning, which has no GPP: {_USE_DAILY}"
    if named.resolution in OTHER_RESOLUTIONS:
        return f"{OTHER_RESOLUTIONS[named.resolution]} values (_{named.resolution}_): {_USE_DAILY}"
    return None


def reason_by_header(file: TableFile) -> str | None:
    """Return the reason to refuse a file by its header, with the file to use instead; None if there is none."""
    names = set(file.names)
    if any(re.match(r"#\s*Site:", line) for line in file.comments) or any(name.startswith("GPP_PI") for name in names):
        return _IS_BASE
    if any(own <= names for own in _EDDYPRO_NAMES):
        return _IS_EDDYPRO
    if any(_REDDYPROC.match(name) for name in names):
        has = ", ".join(GPP.columns_in(file.names)) or "no GPP"
        return (
            f"a REddyProc file ({has}): write a daily table (site, time, gpp in {GPP_UNITS}: a day's mean in "
            f"umol m-2 s-1 times {GRAMS_PER_MICROMOLE:.4f}), its days chosen by the _fqc flags"
        )
    if names >= _BIF_NAMES:
        return _IS_METADATA
    if file.names[0] == "TOA5":
        return "a data logger's file (TOA5), which has no GPP: process and partition it first"
    return None
