"""Fields of the convention `geoemb:` that name things: addresses of models and data, and nested dimensions."""

import re
from typing import TYPE_CHECKING, Any

from thalweg.earth.sensors import known_sensors
from thalweg.io.hashing import hash_uri

if TYPE_CHECKING:
    from thalweg.earth.declarations import Sensor

NESTED_SIZE = 7
"""Number of first dimensions of a larger embedding that are an embedding themselves."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")


def is_uri(text: object) -> bool:
    """Return whether a value is an absolute URI."""
    return isinstance(text, str) and _URI.fullmatch(text) is not None


def source_uri(sensor: "Sensor") -> str:
    """Return the URI of a sensor's data: its declared address, or the hash of its declaration."""
    return sensor.address or hash_uri(sensor.model_dump_json())


def stated_source_uri(stated: str) -> str:
    """Return the URI of a source as a store states it; older stores state the title of a sensor."""
    if is_uri(stated):
        return stated
    known = {sensor.title: sensor for sensor in known_sensors()}
    return source_uri(known[stated]) if stated in known else hash_uri(stated)


def depths(dimensions: int) -> list[dict[str, Any]]:
    """Return `geoemb:depths`: how many first dimensions of which array are an embedding themselves."""
    sizes = (NESTED_SIZE, dimensions) if dimensions > NESTED_SIZE else (dimensions,)
    return [{"dimensions": size, "array": "embeddings"} for size in sizes]
