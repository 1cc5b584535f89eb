"""Flux files of a folder: the files to read, the files to leave out, and the list of sites."""

from pathlib import Path

import pandas as pd

from thalweg.errors import MissingPathError, UsageError
from thalweg.gpp.flux.flux_names import FluxFileName
from thalweg.gpp.flux.flux_products import is_ignored, reason_by_header, reason_by_name
from thalweg.gpp.tables.daily_table import is_daily_table
from thalweg.gpp.tables.physical_limits import METEOROLOGY_COLUMN, SITE_COLUMNS, replace_missing_codes
from thalweg.gpp.tables.table_files import TableFile, as_text, open_table, to_numbers
from thalweg.gpp.tables.target_columns import GPP, FluxTarget, no_target_column

DAY_COLUMN, STEP_COLUMN = "TIMESTAMP", "TIMESTAMP_START"
"""Columns of time in daily files, and in hourly or half-hourly files."""

SITE_LIST = "towers.csv"
"""Default name of the list of sites, in the folder of the flux files or its parent."""

MAX_LISTED = 3
"""Largest number of files or sites that a message lists."""

_TABLE_SUFFIXES = (".csv", ".parquet")
_OTHER_SUFFIXES = (".txt", ".tsv", ".zip", ".gz", ".xlsx", ".xls")


def site_name(path: Path) -> str:
    """Return the site's identifier in a file name, such as BE-Bra; the whole stem without one."""
    return FluxFileName.parse(path.name).site or path.stem


def open_flux_table(path: Path) -> TableFile:
    """Open a table file unless its name or header shows a product without daily GPP.

    Raises:
        UsageError: The file is of such a product, or cannot be read.
    """
    if reason := reason_by_name(path):
        raise UsageError(f"{path.name}: {reason}")
    file = open_table(path)
    if not is_daily_table(file) and (reason := reason_by_header(file)):
        raise UsageError(f"{path.name}: {reason}")
    return file


def require_flux_columns(file: TableFile, target: FluxTarget = GPP) -> TableFile:
    """Return a file that has times, and the target or meteorology.

    Raises:
        UsageError: The file lacks one of them.
    """
    if not _has_times(file):
        raise UsageError(
            f"{file.name}: no column {DAY_COLUMN} or {STEP_COLUMN}: expected a FLUXNET or ICOS "
            "file, or a daily table with columns site, time and gpp"
        )
    if not target.columns_in(file.names) and not any(METEOROLOGY_COLUMN.match(name) for name in file.names):
        raise no_target_column(file.name, target.reference_columns("nt")[0][0], (), target)
    return file


def flux_files(folder: Path, sites: Path | None, target: FluxTarget = GPP) -> tuple[list[TableFile], list[str]]:
    """Find the flux files of a folder.

    Args:
        folder: Folder to search, with its sub-folders.
        sites: List of sites, which is not a flux file.
        target: FluxTarget that the files hold, or else meteorology.

    Returns:
        The files, and a line that names those left out, if there are any.

    Raises:
        UsageError: No file can be read; the message gives the reasons.
    """
    files: list[TableFile] = []
    reasons: dict[Path, str] = {}
    ignored: dict[Path, str] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        suffix = path.suffix.lower()
        if hidden or not path.is_file() or suffix not in _TABLE_SUFFIXES + _OTHER_SUFFIXES:
            continue
        if path.name == SITE_LIST or path == sites:
            continue
        try:
            file = open_flux_table(path)
            if is_daily_table(file):
                raise UsageError(f"{path.name}: a daily table: read it alone, or join several into one")
            if suffix == ".txt" and not _has_times(file):
                continue  # a README, not a flux file
            files.append(require_flux_columns(file, target))
        except UsageError as error:
            (ignored if is_ignored(path.name) else reasons)[path] = str(error)
    read = {site_name(file.path) for file in files}
    kept = [reason for path, reason in reasons.items() if not (_is_product_archive(path) and site_name(path) in read)]
    if not files:
        if listed := _listed(kept or list(ignored.values())):
            raise UsageError(f"{folder}: no file that can be read: {listed}")
        raise UsageError(f"{folder}: no CSV file with a TIMESTAMP column in it: expected FLUXNET or ICOS files")
    return files, [f"{folder.name}: left out {len(kept)} of its files: {_listed(kept)}"] if kept else []


def _is_product_archive(path: Path) -> bool:
    """Return True for the zip of a product, which lies next to the files that were unpacked from it."""
    return path.suffix.lower() == ".zip" and reason_by_name(path) is None


def _listed(reasons: list[str]) -> str:
    more = f"; and {len(reasons) - MAX_LISTED} more" if len(reasons) > MAX_LISTED else ""
    return "; ".join(reasons[:MAX_LISTED]) + more


def read_site_list(source: Path, sites: Path | None) -> pd.DataFrame:
    """Read latitude, vegetation and constants such as canopy height (`SITE_COLUMNS`) by site.

    Args:
        source: Flux file or folder of flux files.
        sites: List of sites; ``towers.csv`` in the folder or its parent by default.

    Returns:
        Columns latitude (degrees), vegetation and the constants in the list, indexed by site; empty without a list.

    Raises:
        MissingPathError: ``sites`` does not exist.
        UsageError: The list is damaged, or a site is repeated.
    """
    folder = source if source.is_dir() else source.parent
    candidates = [sites] if sites is not None else [folder / SITE_LIST, folder.parent / SITE_LIST]
    for path in candidates:
        if not path.exists():
            if sites is not None:
                raise MissingPathError(f"{path}: no such file: expected a CSV of sites with columns site, lat, igbp")
            continue
        file = open_table(path)
        listed = file.read().rename(columns={"lat": "latitude", "igbp": "vegetation"})
        if not {"site", "latitude"} <= set(listed):
            raise UsageError(f"{path}: columns {', '.join(file.names)}: expected site, lat and igbp")
        numbers = [name for name in ("latitude", *SITE_COLUMNS) if name in listed]
        read = to_numbers(listed[numbers], file.name, decimal_comma=file.delimiter != ",")
        listed[numbers] = replace_missing_codes(read, numbers)
        listed["site"] = as_text(listed["site"])
        wrong = listed["latitude"].notna() & ~listed["latitude"].between(-90, 90)
        repeated = listed["site"].duplicated()
        if wrong.any():
            raise UsageError(f"{path}: latitude {listed['latitude'][wrong].iloc[0]:g}: expected -90 to 90")
        if repeated.any():
            raise UsageError(f"{path}: site {listed['site'][repeated].iloc[0]} is repeated: expected one row per site")
        return listed.set_index("site")
    return pd.DataFrame()


def _has_times(file: TableFile) -> bool:
    return DAY_COLUMN in file.names or STEP_COLUMN in file.names
