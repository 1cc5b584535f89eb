"""Matching of the names of variables and assets to a sensor's bands and masks.

The same matching serves a user's cube and the items of a catalogue. A name is split into words, and words that the
sensor's declaration lists (`name_words`: s2, sr, 10m) are ignored. The rest must be a band's name or one of its
aliases, in any case and with any separators: `S2-L2A-B02`, `sr_b2`, `band_2` and `Blue` are all B02.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from thalweg.earth.sensors import BitMask, ClassMask, Sensor, known_sensors
from thalweg.errors import UsageError

_NUMBERED = re.compile(r"b0*(\d+[a-z]?)")
_MASK_WORDS = re.compile(r"mask|qa|qc|cloud|cld|clp|clm|scl|fmask|flag|quality|class", re.IGNORECASE)


@dataclass(frozen=True)
class NameMatch:
    """Names that match a sensor's bands and mask.

    Attributes:
        bands: the matching name by the name of the declared band.
        mask: declaration of the mask that is present, the preferred one of several.
        mask_name: name of that mask.
    """

    bands: dict[str, str]
    mask: ClassMask | BitMask | None
    mask_name: str | None


def candidates(sensor: Sensor, name: str) -> tuple[str, ...]:
    """Return the declared bands that a name can mean; several if archives use the name for different bands."""
    spellings = _spellings(sensor.name_words, name)
    return tuple(
        band.name for band in sensor.bands if spellings & {_joined(known) for known in (band.name, *band.aliases)}
    )


def match(sensor: Sensor, names: Iterable[str], where: str) -> NameMatch:
    """Find a sensor's bands and its mask among names.

    Args:
        sensor: declaration of the sensor.
        names: names of variables or assets.
        where: file or item that messages name.

    Raises:
        UsageError: two names mean the same band or mask, or a name means more than one band.
    """
    names = list(names)
    open_names = {name: found for name in names if (found := candidates(sensor, name))}
    bands: dict[str, str] = {}
    while settled := {name: found[0] for name, found in open_names.items() if len(found) == 1}:
        for name, band in settled.items():
            if band in bands:
                raise UsageError(f"{where}: {bands[band]} and {name} both name band {band}: leave one of them out")
            bands[band] = name
        open_names = {
            name: tuple(band for band in found if band not in bands)
            for name, found in open_names.items()
            if name not in settled
        }
        open_names = {name: found for name, found in open_names.items() if found}
    if open_names:
        name, found = next(iter(open_names.items()))
        raise UsageError(f"{where}: {name} can mean {' or '.join(found)} of {sensor.title}: rename it to one of them")
    mask, mask_name = find_mask(sensor, names, where)
    return NameMatch(bands, mask, mask_name)


def find_mask(sensor: Sensor, names: Iterable[str], where: str) -> tuple[ClassMask | BitMask | None, str | None]:
    """Find the preferred mask of a sensor among names.

    Returns:
        Declaration of the mask and its name, or None twice if there is no mask.

    Raises:
        UsageError: two names mean the same mask.
    """
    names = list(names)
    for mask in sensor.masks:
        found = [name for name in names if is_mask_name(sensor, mask, name)]
        if len(found) > 1:
            raise UsageError(
                f"{where}: {' and '.join(found)} both name the mask {mask.variable}: leave one of them out"
            )
        if found:
            return mask, found[0]
    return None, None


def is_mask_name(sensor: Sensor, mask: ClassMask | BitMask, name: str) -> bool:
    """Return whether a variable's or an asset's name is that of a mask, in any case and with any separators.

    Args:
        sensor: sensor of the mask.
        mask: one of the masks that its declaration lists.
        name: name in a file or a catalogue.
    """
    return bool(_spellings(sensor.name_words, name) & {_joined(known) for known in (mask.variable, *mask.aliases)})


def sensor_named(text: str) -> Sensor | None:
    """Return the declared sensor that a name such as `SENTINEL-2`, `Sentinel-2A` or `S2A` means, None if none."""
    word = "".join(_words(text))
    return next((s for s in known_sensors() if word in map(_joined, (s.name, *s.other_names))), None)


def looks_like_mask(name: str) -> bool:
    """Return whether a name is typical of cloud masks, even if it matches no declared one."""
    return bool(_MASK_WORDS.search(name))


def units_in(name: str) -> str | None:
    """Return the units of backscatter in a name, `dB` or `linear`, None if it has none."""
    words = set(_words(name))
    if words & {"db", "decibel", "decibels"}:
        return "dB"
    return "linear" if words & {"linear", "lin", "power"} else None


@lru_cache(4096)
def _spellings(ignored: tuple[str, ...], name: str) -> set[str]:
    """Return a name in normal form, with and without the words to ignore."""
    words = _words(name)
    kept = [word for word in words if word not in ignored]
    short = "".join(kept)
    if re.fullmatch(r"\d+[a-z]?", short) and "band" in words:
        short = f"b{short}"
    return {_joined(name), _without_zeros(short)} - {""}


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case; `sentinel-2` is one word."""
    whole = re.sub(r"(sentinel|landsat)[-_ ](\d)", r"\1\2", name.lower())
    return [word for word in re.split(r"[^a-z0-9]+", whole) if word]


@lru_cache(4096)
def _joined(name: str) -> str:
    return _without_zeros("".join(_words(name)))


def _without_zeros(word: str) -> str:
    numbered = _NUMBERED.fullmatch(word)
    return f"b{numbered.group(1)}" if numbered else word
