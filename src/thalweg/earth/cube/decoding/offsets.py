"""Offset that products add to their digital numbers since a processing baseline, resolved from metadata.

The same functions serve a user's cube and the items of a catalogue. The sources are: a flag that the offset is already
removed (`boa_offset_applied`), the offset itself (`BOA_ADD_OFFSET`), the processing baseline, and a product's name with
`_N0400_`. Each may be given once or per date, with or without a prefix (`s2:`, `earthsearch:`, `sentinel:`), as text,
number or bytes.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.earth.sensors import Sensor
from thalweg.errors import UsageError

_BASELINE_TEXT = re.compile(r"[NnVv]?\s*(\d{1,2})[._](\d{1,2})|[NnVv]?(\d{2})(\d{2})|[NnVv]?(\d{1,2})")
_PRODUCT = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_N(\d{2})(\d{2})_")
_TRUE, _FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}
_MAX_BASELINE = 20.0
_NOT_GIVEN = {"", "nan", "none", "null", "unknown", "n/a"}


@dataclass(frozen=True)
class _Source:
    """Values of one source per date, NaN where it states none."""

    name: str
    values: np.ndarray


def parse_baseline(value: Any) -> float:
    """Return a processing baseline as a number, NaN if none is given.

    Args:
        value: 04.00, "04.00", "0400", 400, "N0400", 4.0 or their bytes.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOT_GIVEN:
            return np.nan
        found = _BASELINE_TEXT.fullmatch(text)
        if found is None:
            value = float(text)
        else:
            major, minor = (found.group(1) or found.group(3) or found.group(5)), (found.group(2) or found.group(4))
            value = float(f"{major}.{minor or 0}")
    if value is None:
        return np.nan
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"not a processing baseline: {value}")
    number = float(value)
    if number >= 100:
        number /= 100
    if np.isnan(number) or 0 < number <= _MAX_BASELINE:
        return number
    raise ValueError(f"not a processing baseline: {value}")


def parse_flag(value: Any) -> float:
    """Return a flag as 1 or 0, NaN if none is given.

    Raises:
        ValueError: the value is neither true nor false.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(value).strip().lower()
    if value is None or text in _NOT_GIVEN:
        return np.nan
    if text in _TRUE or text == "1.0":
        return 1.0
    if text in _FALSE or text == "0.0":
        return 0.0
    raise ValueError(f"neither true nor false: {value}")


@dataclass(frozen=True)
class OffsetMetadata:
    """Metadata on the products' offset per date, float (T,), NaN where nothing is stated.

    Attributes:
        applied: 1 if the offset is already removed, 0 if not.
        given: offset in digital numbers.
        baseline: processing baseline.
    """

    applied: np.ndarray
    given: np.ndarray
    baseline: np.ndarray


def offset_metadata(facts: Iterable[tuple[str, Any]], count: int, where: str) -> OffsetMetadata:
    """Read the metadata on the products' offset.

    Args:
        facts: names and values of attributes and variables; each has one value or one per date.
        count: number of dates T.
        where: file or item that messages name.

    Raises:
        UsageError: sources contradict each other or are not understood.
    """
    facts = list(facts)
    return OffsetMetadata(
        _agreed(_sources(facts, "boaoffsetapplied", parse_flag, "true or false", count, where), where, count),
        _agreed(_sources(facts, "boaaddoffset", _offset_number, "-1000 or 0", count, where), where, count),
        _agreed(_baselines(facts, count, where), where, count),
    )


def product_offset(
    metadata: OffsetMetadata, sensor: Sensor, dates: np.ndarray, where: str, stated: float | None = None
) -> np.ndarray:
    """Return the digital numbers to add per date in order to remove the products' offset.

    The sources count in this order: a flag that the offset is already removed; an offset that is given; the processing
    baseline, which may come from a product's name. Dates before the offset was introduced need no source.

    Args:
        metadata: metadata on the offset.
        sensor: its declaration gives the baseline, the offset and the date since which all products have it.
        dates: datetime64 (T,).
        where: file or item that messages name.
        stated: offset given with the band, in digital numbers.

    Returns:
        Digital numbers to add, float32 (T,); 0 where there is no offset to remove.

    Raises:
        UsageError: no source states the offset of a date that needs one.
    """
    if sensor.offset_since_baseline is None:
        return np.full(len(dates), stated or 0.0, np.float32)
    since, offset = sensor.offset_since_baseline
    given = metadata.given if stated is None else np.where(np.isnan(metadata.given), stated, metadata.given)
    recent = np.zeros(len(dates), bool)
    if sensor.offset_since_date is not None:
        recent = dates.astype("datetime64[ns]") >= np.datetime64(sensor.offset_since_date, "ns")
    resolved = np.where(metadata.baseline >= since, offset, 0.0)
    resolved[np.isnan(metadata.baseline) & recent & (metadata.applied == 0)] = offset
    resolved = np.where(np.isnan(given), resolved, given)
    resolved[metadata.applied == 1] = 0.0
    silent = recent & np.isnan(metadata.baseline) & np.isnan(given) & np.isnan(metadata.applied)
    if silent.any():
        raise UsageError(
            f"{where}: {silent.sum()} date(s) from {np.datetime_as_string(dates[silent][0], 'D')} on, and nothing "
            f"says whether the {-offset:g} that {sensor.title} adds since {sensor.offset_since_date} is still in the "
            "numbers: write the attribute processing_baseline (such as '04.00'), or boa_offset_applied (1 if it "
            "is already removed, else 0)"
        )
    return resolved.astype(np.float32)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", str(name).lower())


def _sources(
    facts: list[tuple[str, Any]],
    ending: str,
    read: Callable[[Any], float],
    expected: str,
    count: int,
    where: str,
) -> Iterator[_Source]:
    """Yield the values of all facts whose name has a given ending."""
    for name, value in facts:
        if not _plain(name).endswith(ending):
            continue
        values = np.ravel(np.asarray(value, dtype=object))
        try:
            numbers = np.array([read(part) for part in values])
        except (TypeError, ValueError) as error:
            invalid = next(part for part in values if not _is_read(read, part))
            raise UsageError(f"{where}: {name} is {invalid!s:.40}, expected {expected}") from error
        if ending == "boaaddoffset" and len(numbers) > 1 and len(set(numbers.tolist())) == 1:
            numbers = numbers[:1]  # a list per band
        if len(numbers) not in (1, count):
            raise UsageError(f"{where}: {name} has {len(numbers)} values, expected one or one per date ({count})")
        yield _Source(name, np.broadcast_to(numbers, (count,)))


def _is_read(read: Callable[[Any], float], value: Any) -> bool:
    try:
        read(value)
    except (TypeError, ValueError):
        return False
    return True


def _baselines(facts: list[tuple[str, Any]], count: int, where: str) -> Iterator[_Source]:
    yield from _sources(
        facts, "processingbaseline", parse_baseline, "a processing baseline such as 04.00", count, where
    )
    for name, value in facts:
        values = [part.decode(errors="replace") if isinstance(part, bytes) else part for part in _flat(value)]
        if len(values) not in (1, count):
            continue
        numbers = np.array([_named_baseline(name, part) for part in values])
        if not np.isnan(numbers).all():
            yield _Source(name, np.broadcast_to(numbers, (count,)))


def _named_baseline(name: str, value: Any) -> float:
    """Return the baseline in a product's name or in the field `processing:version`, NaN if there is none."""
    if _plain(name) == "processingversion" and re.fullmatch(r"N?\d{1,2}\.?\d{1,2}", str(value).strip()):
        return parse_baseline(value)
    if not isinstance(value, str):
        return np.nan
    numbers = {float(f"{major}.{minor}") for major, minor in _PRODUCT.findall(value)}
    return numbers.pop() if len(numbers) == 1 else np.nan


def _flat(value: Any) -> list[Any]:
    return list(np.ravel(np.asarray(value, dtype=object)))


def _offset_number(value: Any) -> float:
    if value is None or str(value).strip().lower() in _NOT_GIVEN:
        return np.nan
    number = float(value)
    if number == 0 or -10_000 < number <= -1:
        return number
    raise ValueError(f"not an offset in digital numbers: {value}")


def _agreed(sources: Iterable[_Source], where: str, count: int) -> np.ndarray:
    """Combine sources, NaN where none states a value; raise `UsageError` if two differ on a date."""
    agreed = np.full(count, np.nan)
    first = ""
    for source in sources:
        differs = ~np.isnan(agreed) & ~np.isnan(source.values) & (agreed != source.values)
        if differs.any():
            date = int(np.flatnonzero(differs)[0])
            raise UsageError(
                f"{where}: {first} says {agreed[date]:g}, {source.name} says {source.values[date]:g}: "
                "remove the wrong one"
            )
        agreed = np.where(np.isnan(agreed), source.values, agreed)
        first = first or source.name
    return agreed
