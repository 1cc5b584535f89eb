"""Statement of how a target was taken from flux files: columns, quality, gaps and storage."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from thalweg.gpp.tables.target_columns import TARGET_UNCERTAINTY, FluxTarget

_MAX_LISTED = 3  # sites that a line names


@dataclass(frozen=True)
class SiteRecord:
    """Reading of the target of a site.

    Attributes:
        site: Name of the site, or of a daily table.
        columns: Columns whose mean the target is.
        quality: Quality column of these; None where it is not known.
        has_quality: Whether the files have the quality column.
        present: (D,) boolean, days that have a value.
        usable: (D,) boolean, days whose value is used.
        uncertainty: Formula of the days' uncertainty in the files' columns; "" where the files have none.
        has_steps: The days were aggregated from half-hours or hours.
    """

    site: str
    columns: tuple[str, ...]
    quality: str | None
    has_quality: bool
    present: pd.Series
    usable: pd.Series
    uncertainty: str = ""
    has_steps: bool = False


def policy_lines(
    records: Sequence[SiteRecord], target: FluxTarget, threshold: float, keep_negative: bool, oneflux: bool = True
) -> list[str]:
    """State columns, quality, gaps and storage of a target, one line each.

    Args:
        records: Record of each site.
        target: FluxTarget that was read.
        threshold: Smallest quality of a day, 0 to 1.
        keep_negative: Whether days of a negative value were kept.
        oneflux: Whether the files are ONEFlux products; the processing of a daily table is not known.
    """
    days = sum(len(one.present) for one in records)
    present = sum(int(one.present.sum()) for one in records)
    left_out = present - sum(int(one.usable.sum()) for one in records)
    checked = sorted({str(one.quality) for one in records if one.has_quality})
    unchecked = [one.site for one in records if not one.has_quality]
    selection = [f"{', '.join(checked)} of {threshold:g} or more"] if checked else []
    selection += [f"days not selected by quality at {_sites(unchecked)}"] if unchecked else []
    negative = "kept" if keep_negative else "left out"
    lines = [
        f"target: {target.label}, {target.long_name}, {target.units}, from {_columns(records)}",
        f"quality: {'; '.join(selection)}; negative days {negative}; {left_out} of {present} days left out",
    ]
    if not oneflux:
        lines += [f"uncertainty: column {TARGET_UNCERTAINTY}"] if records[0].uncertainty else []
        return [*lines, f"gaps: {days - present} days have no value and are not filled; processing before not known"]
    lines.append(f"uncertainty: {_uncertainty(records)}")
    if stepped := [one.site for one in records if one.has_steps]:
        lines.append(f"half-hours: aggregated to days by the rules of ONEFlux at {_sites(stepped)}")
    lines.append(
        "gaps: within a day, half-hours are filled by the files' own processing (ONEFlux); "
        f"days are not filled: {days - present} have no value"
    )
    if target.flux == "LE":
        return [
            *lines,
            f"storage and closure: LE as in {_columns(records)}, by the heat of vaporisation at air temperature",
        ]
    return [
        *lines,
        "storage: NEE of ONEFlux adds the storage term that a site submitted; the files do not say which did",
    ]


def _uncertainty(records: Sequence[SiteRecord]) -> str:
    """State the formula of the uncertainty by site."""
    sites: dict[str, list[str]] = {}
    for one in records:
        sites.setdefault(one.uncertainty, []).append(one.site)
    parts = [formula or "none, the files have no columns for it" for formula in sites]
    if len(parts) > 1:
        parts = [f"{part} at {_sites(own)}" for part, own in zip(parts, sites.values(), strict=True)]
    return f"{'; '.join(parts)} (one standard deviation, column {TARGET_UNCERTAINTY})" if any(sites) else parts[0]


def _columns(records: Sequence[SiteRecord]) -> str:
    sites: dict[tuple[str, ...], list[str]] = {}
    for one in records:
        sites.setdefault(one.columns, []).append(one.site)
    if len(sites) == 1:
        return _mean(next(iter(sites)))
    return "; ".join(f"{_mean(columns)} at {_sites(own)}" for columns, own in sites.items())


def _mean(columns: tuple[str, ...]) -> str:
    return columns[0] if len(columns) == 1 else f"the mean of {' and '.join(columns)}"


def _sites(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
