"""What a daily table is: one row per site and day, GPP beside any number of features.

Columns: ``site`` (str), ``time`` (datetime64[ns], midnight), ``gpp`` (gC m-2 d-1, NaN where it is not usable),
optionally ``vegetation`` (an IGBP class or another name) and ``latitude`` (degrees), and any number of numeric
feature columns. Units by column are in ``table.attrs["units"]``. Rows are in order of site and time; days without a
row are gaps.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from thalweg.errors import UsageError

GPP_UNITS = "gC m-2 d-1"
GRAMS_PER_MICROMOLE = 12.011e-6 * 86_400
"""One umol CO2 m-2 s-1, held for a day, in gC m-2 d-1."""

_KEYS = ("site", "time", "gpp", "vegetation", "latitude")


def daily_table(frame: pd.DataFrame, units: Mapping[str, str] | None = None, source: str = "table") -> pd.DataFrame:
    """Check and order a daily table.

    Args:
        frame: Columns as the module says, in any order of rows; extra columns must be numeric.
        units: Units by column; those in ``frame.attrs["units"]`` are kept where this says nothing.
        source: What to call the table in a message.

    Returns:
        A new table, rows in order of site and time, ``attrs["units"]`` filled for ``gpp``.

    Raises:
        UsageError: A column is missing or no number, a day comes twice, or GPP is not in gC m-2 d-1.
    """
    table = frame.copy()
    table.attrs = {"units": {"gpp": GPP_UNITS} | frame.attrs.get("units", {}) | dict(units or {})}
    for column, meaning in (("site", "the site's name"), ("time", "the day"), ("gpp", f"daily GPP in {GPP_UNITS}")):
        if column not in table:
            in_moles = [str(name) for name in table if str(name).lower().startswith(column) and "mol" in str(name)]
            if in_moles:
                check_units(in_moles[0], in_moles[0][len(column) :].strip(" _()[]"), source)
            raise UsageError(f"{source}: no column {column!r} ({meaning}): it has {_named(table.columns)}")
    table["site"] = table["site"].astype(str)
    try:
        table["time"] = pd.to_datetime(table["time"]).astype("datetime64[ns]").dt.normalize()
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{source}: column 'time': expected dates such as 2018-06-30 ({str(error).splitlines()[0]})"
        ) from error
    check_units("gpp", table.attrs["units"]["gpp"], source)
    for column in table.columns:
        if column not in ("site", "time", "vegetation") and not pd.api.types.is_numeric_dtype(table[column]):
            raise UsageError(f"{source}: column {column!r}: expected numbers, it holds {table[column].dtype}")
    twice = table.duplicated(["site", "time"])
    if twice.any():
        row = table[twice].iloc[0]
        raise UsageError(
            f"{source}: {row.time:%Y-%m-%d} comes twice at site {row.site}: expected one row per site and day; "
            "drop the copy or average them"
        )
    return table.sort_values(["site", "time"], ignore_index=True)


def check_units(column: str, units: str, source: str) -> None:
    """Refuse daily GPP that is not in grams of carbon.

    Raises:
        UsageError: ``units`` name moles, or anything but gC m-2 d-1 in one of its spellings.
    """
    plain = units.replace("µ", "u").replace("μ", "u").replace("-", "").replace(" ", "").replace("^", "").lower()
    if "mol" in plain:
        raise UsageError(
            f"{source}: column {column!r} is in {units}: expected {GPP_UNITS}; multiply a day's mean in "
            f"umol m-2 s-1 by {GRAMS_PER_MICROMOLE:.4f}"
        )
    if plain.replace("day1", "d1").replace("/day", "d1").replace("/d", "d1").replace("/m2", "m2") != "gcm2d1":
        raise UsageError(f"{source}: column {column!r} is in {units!r}: expected {GPP_UNITS}; convert it")


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns a model may predict from: all but site, time, gpp, vegetation and latitude."""
    return [column for column in table.columns if column not in _KEYS]


def with_vegetation_columns(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add one 0/1 column per vegetation class, so that any model can use the class as a feature."""
    if "vegetation" not in table:
        raise UsageError(f"no column 'vegetation': expected a class per site; the table has {_named(table.columns)}")
    classes = sorted(table["vegetation"].astype(str).unique())
    added = {f"vegetation_{name}": (table["vegetation"].astype(str) == name).astype("float32") for name in classes}
    wider = table.assign(**added)
    wider.attrs = dict(table.attrs)
    return wider, list(added)


def _named(columns: Iterable[str]) -> str:
    names = [str(column) for column in columns]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
