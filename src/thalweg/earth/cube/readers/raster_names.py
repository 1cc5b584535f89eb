"""Date, band, sensor, tile and processing baseline from the names, descriptions and tags of rasters."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from thalweg.earth.cube.names import match
from thalweg.earth.sensors import Sensor, known_sensors
from thalweg.errors import UsageError

_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d\d)(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d))?(?!\d)")
_WITH_SIGNS = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.](\d\d)[-_.](\d\d)(?:[T_ ](\d\d)[-:.]?(\d\d)[-:.]?(\d\d))?(?!\d)")
_UNCLEAR = re.compile(r"(?<!\d)(\d{8}|\d{1,2}[-_.]\d{1,2}[-_.](?:19|20)\d\d)(?!\d)")
_TILE = re.compile(r"(?<![A-Za-z0-9])T\d\d[C-X][A-Z]{2}(?![A-Za-z0-9])")
_BASELINE = re.compile(r"_N(\d\d)(\d\d)_")
_RESOLUTION = re.compile(r"\d+m", re.IGNORECASE)
_ACQUIRED = {"acquisitiondate", "acquisitiondatetime", "dateacquired", "sensingtime", "datetime", "sensingstart"}


def date_in(text: str, where: str) -> np.datetime64 | None:
    """Return the date in a name, with the time of day if it has one; None if there is no date.

    Args:
        text: name of a file or folder, or description of a band.
        where: file that messages name.

    Raises:
        UsageError: the name has more than one date, or an ambiguous one, such as 01022018.
    """
    for pattern in (pattern for sensor in known_sensors() for pattern in sensor.product_names):
        if found := re.search(pattern, text):
            return _dates(found["date"])[0]
    dates = _dates(text)
    days = sorted({date.astype("datetime64[D]") for date in dates})
    if len(days) > 1:
        raise UsageError(f"{where}: more than one date in its name ({days[0]} and {days[-1]}): keep the acquisition's")
    if dates:
        return dates[0]
    if unclear := _UNCLEAR.search(text):
        raise UsageError(f"{where}: cannot tell day and month of {unclear.group(1)}: write the date as 2018-06-30")
    return None


def _dates(text: str) -> list[np.datetime64]:
    found = sorted((*_COMPACT.finditer(text), *_WITH_SIGNS.finditer(text)), key=lambda one: one.start())
    dates: list[np.datetime64] = []
    for one in found:
        year, month, day, *clock = one.groups()
        try:
            time = ":".join(clock) if None not in clock else "00:00:00"
            dates.append(np.datetime64(f"{year}-{month}-{day}T{time}", "ns"))
        except ValueError:  # a month of 13, for example
            continue
    return dates


def date_in_tags(tags: Mapping[str, str], where: str) -> np.datetime64 | None:
    """Return the acquisition date from a raster's tags, None if they do not have it."""
    for key, value in tags.items():
        if re.sub(r"[^a-z]", "", key.lower()) in _ACQUIRED:
            return date_in(str(value), where)
    return None


def date_of_writing(tags: Mapping[str, str]) -> np.datetime64 | None:
    """Return the date of the tag TIFFTAG_DATETIME, `YYYY:MM:DD HH:MM:SS`, None if there is none."""
    dates = _dates(str(tags.get("TIFFTAG_DATETIME", "")).replace(":", "-"))
    return dates[0] if dates else None


def sensor_in(texts: Iterable[str]) -> str | None:
    """Return the name of the sensor in the parts of a path, None if there is none or several."""
    texts = list(texts)
    found = {sensor.name for sensor in known_sensors() if any(_has_name_of(sensor, text.lower()) for text in texts)}
    if not found:
        images = ((sensor.name, pattern) for sensor in known_sensors() for pattern in sensor.image_names)
        found = {name for name, pattern in images if any(re.search(pattern, text) for text in texts)}
    return found.pop() if len(found) == 1 else None


def _has_name_of(sensor: Sensor, text: str) -> bool:
    """Return whether one of a sensor's names is a word of a text in lower case; `sentinel2` means `sentinel-2` too."""
    names = "|".join(re.escape(name).replace(r"\-", "[-_ ]?") for name in (sensor.name, *sensor.other_names))
    return re.search(rf"(?<![a-z0-9])({names})(?![a-z0-9])", text) is not None


def is_band(name: str, sensor: str | None) -> bool:
    """Return whether a name means a band or a mask of a sensor, or of any sensor if None."""
    for known in known_sensors():
        if sensor in (None, known.name):
            try:
                matched = match(known, [name], name)
            except UsageError:  # the name means several bands of this sensor
                return True
            if matched.bands or matched.mask_name:
                return True
    return False


def band_in(text: str, sensor: str | None) -> str | None:
    """Return the name of the band or mask in a file's name or a description, None if there is none or several."""
    if is_band(text, sensor):
        return text
    words = [word for word in re.split(r"[_\-. ]+", text) if word]
    for count in (1, 2):
        joined = ["_".join(words[start : start + count]) for start in range(len(words) - count + 1)]
        found = list(dict.fromkeys(name for name in joined if is_band(name, sensor)))
        if found:
            return found[0] if len(found) == 1 else None
    return None


def without_band(text: str, band: str) -> str:
    """Return a file's name without the band and a resolution such as 10m, as the files of all bands share it."""
    taken = {part.lower() for part in re.split(r"[_\-. ]+", band)}
    words = [word for word in re.split(r"[_\-. ]+", text) if word.lower() not in taken]
    return "_".join(word for word in words if not _RESOLUTION.fullmatch(word))


def tile_in(texts: Iterable[str]) -> str:
    """Return the Sentinel-2 tile in the parts of a path, empty if there is none."""
    found = (_TILE.search(text) for text in texts)
    return next((one.group() for one in found if one), "")


def baseline_in(texts: Iterable[str]) -> str | None:
    """Return the processing baseline of a Sentinel-2 product's name, such as 05.09."""
    found = (_BASELINE.search(text) for text in texts if text.startswith("S2"))
    return next((f"{one.group(1)}.{one.group(2)}" for one in found if one), None)
