"""From an item's JSON to pystac's object: what is odd in it is named, so that the item is skipped and not misread."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thalweg.io.redaction import redact

if TYPE_CHECKING:
    import pystac
    from shapely.geometry.base import BaseGeometry

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?\s?([Zz]|[+-]\d\d:?\d\d)?)?")
_SHOWN = 60
"""Most characters of an odd value that a line shows."""

_NUMBERS = ("gsd", "scale", "offset", "nodata", "spatial_resolution")
_TEXTS = ("name", "common_name", "data_type")
_PREFIXES = ("", "raster:", "eo:")


class OddItemError(Exception):
    """An item, or a catalogue's document, that cannot be used; the message is the reason in one line."""


def shown(value: Any) -> str:
    """A value in a message: one line, cut where it is long, without credentials."""
    text = redact(" ".join(repr(value).split()))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@dataclass(frozen=True)
class ItemFootprint:
    """Where and when an item was taken.

    Attributes:
        name: the item's identifier.
        start, end: first and last instant, UTC without a zone.
        shape: outline in degrees; two boxes where it crosses the antimeridian.
        bbox: west, south, east, north in degrees; west above east where it crosses the antimeridian.
    """

    name: str
    start: pd.Timestamp
    end: pd.Timestamp
    shape: "BaseGeometry"
    bbox: tuple[float, float, float, float]

    def touches(self, bbox: tuple[float, float, float, float]) -> bool:
        """Whether it reaches into a box (west, south, east, north in degrees)."""
        from shapely.geometry import box

        west, south, east, north = bbox
        return any(self.shape.intersects(box(west + turn, south, east + turn, north)) for turn in (0, 360, -360))


def footprint_of(fields: Any) -> ItemFootprint:
    """Read an item's name, time and place; `OddItemError` where one of them is missing or cannot be right."""
    if not isinstance(fields, dict) or fields.get("type") != "Feature":
        found = fields.get("type") if isinstance(fields, dict) else fields
        raise OddItemError(f"expected an item (type Feature), came {shown(found)}")
    name, properties = fields.get("id"), fields.get("properties")
    if not isinstance(name, str) or not name.strip():
        raise OddItemError(f"id {shown(name)}: expected a text")
    if not isinstance(properties, dict):
        raise OddItemError(f"properties {shown(properties)}: expected an object")
    start, end = _span(properties)
    shape, bbox = _outline(fields.get("geometry"), fields.get("bbox"))
    return ItemFootprint(name, start, end, shape, bbox)


def item_of(fields: dict[str, Any], footprint: ItemFootprint, href: str, keep_paths: bool = False) -> "pystac.Item":
    """Turn an item's JSON into pystac's object with absolute addresses, all that is read of it later checked.

    Args:
        fields: the JSON, of which `footprint_of` read the place and time.
        footprint: what it read.
        href: address of the document, which relative addresses start from.
        keep_paths: leave addresses that begin with a slash as paths of this machine, as an API of its own gives them.

    Raises:
        OddItemError: a field has a type or a value it cannot have.
    """
    import pystac

    version = fields.get("stac_version", "1.0.0")
    if not isinstance(version, str) or not re.match(r"[01]\.\d", version):
        raise OddItemError(f"stac_version {shown(version)}: expected 1.x or earlier")
    links = fields.get("links")
    if links is not None and not (isinstance(links, list) and all(map(is_link, links))):
        raise OddItemError(f"links {shown(links)}: expected a list of objects with rel and href")
    assets = fields.get("assets")
    if not isinstance(assets, dict):
        raise OddItemError(f"assets {shown(assets)}: expected an object")
    for key, asset in assets.items():
        _check_asset(key, asset)
    properties = fields["properties"]
    orbit_of(properties)
    reference_system(properties)
    start, end = _text(footprint.start), _text(footprint.end)
    is_span = properties.get("datetime") is None
    times = {"datetime": None, "start_datetime": start, "end_datetime": end} if is_span else {"datetime": start}
    whole = {
        **fields,
        "stac_version": version,
        "properties": {**properties, **times},
        "bbox": list(footprint.bbox),
        "links": [],
    }
    try:
        item = pystac.Item.from_dict(whole, href=href)
        for asset in item.assets.values():
            if not (keep_paths and asset.href.startswith("/")):
                asset.href = pystac.utils.make_absolute_href(asset.href, href)
    except Exception as error:  # whatever pystac raises on fields that are no STAC
        raise OddItemError(f"no valid item ({shown(str(error))})") from error
    return item


def times_of(item: "pystac.Item") -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last instant of an item, UTC without a zone; a time without a zone is UTC, as STAC prescribes."""
    if item.datetime is not None:
        moment = instant("datetime", item.datetime.isoformat())
        return moment, moment
    return _span({**item.properties, "datetime": None})


def instant(name: str, value: Any) -> pd.Timestamp:
    """Read a time of a property: UTC without a zone; `OddItemError` where it is none, or before 1678 or after 2262."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value.strip()):
        raise OddItemError(f"{name} {shown(value)}: expected a time such as 2022-06-01T10:50:31Z")
    try:
        moment = pd.Timestamp(value.strip())
        utc = moment if moment.tzinfo is None else moment.tz_convert(None)
        return utc.as_unit("ns")
    except ValueError as error:
        raise OddItemError(f"{name} {shown(value)}: expected a time of 1678 to 2262") from error


def orbit_of(properties: Mapping[str, Any]) -> tuple[str, int]:
    """Orbit state ("" where not given) and relative orbit (-1 where not given) of an item's properties."""
    state, number = properties.get("sat:orbit_state"), properties.get("sat:relative_orbit")
    if state is not None and not isinstance(state, str):
        raise OddItemError(f"sat:orbit_state {shown(state)}: expected ascending or descending")
    if number is None or number == "":
        return (state or "").lower(), -1
    try:
        whole = int(number) if not isinstance(number, bool) and float(number) == int(number) else None
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None:
        raise OddItemError(f"sat:relative_orbit {shown(number)}: expected a whole number")
    return (state or "").lower(), whole or -1


def reference_system(fields: Mapping[str, Any]) -> str | None:
    """Reference system that an asset's or an item's fields name, such as `EPSG:32631`; None where they name none."""
    for name in ("proj:code", "proj:epsg"):
        given = fields.get(name)
        if given is None or given == "":
            continue
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise OddItemError(f"{name} {shown(given)}: expected a code such as EPSG:32631")
        code = f"{given:g}" if isinstance(given, float) else str(given).strip()
        code = f"EPSG:{code}" if code.isdecimal() else code
        if not _is_known(code):
            raise OddItemError(f"{name} {shown(given)}: not a known reference system, expected one such as EPSG:32631")
        return code
    return None


def centre_longitude(bbox: "list[float] | None") -> float:
    """Longitude of the middle of a box (west, south, east, north), also across the antimeridian; 0 without a box."""
    if not bbox:
        return 0.0
    west, east = bbox[0], bbox[2]
    middle = (west + east + (360 if west > east else 0)) / 2
    return middle - 360 if middle > 180 else middle


def is_link(link: Any) -> bool:
    """Whether a document's link is an object with a relation and an address."""
    return isinstance(link, dict) and all(isinstance(link.get(key), str) for key in ("rel", "href"))


def _text(moment: pd.Timestamp) -> str:
    return f"{moment.floor('us').isoformat()}Z"  # finer times are more than readers of STAC take


def _span(properties: Mapping[str, Any]) -> tuple[pd.Timestamp, pd.Timestamp]:
    if properties.get("datetime") is not None:
        moment = instant("datetime", properties["datetime"])
        return moment, moment
    missing = [name for name in ("start_datetime", "end_datetime") if properties.get(name) is None]
    if missing:
        raise OddItemError(f"no datetime and no {' and no '.join(missing)}")
    start, end = (instant(name, properties[name]) for name in ("start_datetime", "end_datetime"))
    if start > end:
        raise OddItemError(f"start_datetime {_text(start)} is after end_datetime {_text(end)}")
    return start, end


def _outline(geometry: Any, bbox: Any) -> "tuple[BaseGeometry, tuple[float, float, float, float]]":
    """Shape and box of an item from its GeoJSON geometry and its bbox, either of which may be missing."""
    from shapely import union_all
    from shapely.geometry import box

    edges = None if bbox is None else _box(bbox)
    shape = None if geometry is None else _shape(geometry)
    if shape is None and edges is None:
        raise OddItemError("no geometry and no bbox")
    if shape is not None and (edges is None or edges[2] - edges[0] > 180):
        edges = _bounds(shape)  # a box all around the Earth is how some write one across the antimeridian
    assert edges is not None
    west, south, east, north = edges
    if shape is None or west > east:
        parts = [box(west, south, 180, north), box(-180, south, east, north)] if west > east else [box(*edges)]
        return union_all(parts), edges
    return shape, edges


def _bounds(shape: "BaseGeometry") -> tuple[float, float, float, float]:
    """West, south, east and north; west above east where the shape is narrower across the antimeridian."""
    from shapely import get_coordinates

    west, south, east, north = (float(edge) for edge in shape.bounds)
    longitudes = get_coordinates(shape)[:, 0]
    beyond = np.where(longitudes < 0, longitudes + 360, longitudes)
    if beyond.max() - beyond.min() < min(east - west, 180):
        west, east = float(beyond.min()), float(beyond.max())
        east -= 360 if east > 180 else 0
    return west, south, east, north


def _box(bbox: Any) -> tuple[float, float, float, float]:
    if not isinstance(bbox, list | tuple) or len(bbox) not in (4, 6) or not all(map(_is_finite, bbox)):
        raise OddItemError(f"bbox {shown(bbox)}: expected 4 or 6 numbers")
    half = len(bbox) // 2
    west, south, east, north = float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])
    if south > north or not _are_degrees(west, south, east, north):
        raise OddItemError(f"bbox {shown(bbox)}: expected west south east north in degrees")
    return west, south, east, north


def _shape(geometry: Any) -> "BaseGeometry":
    """A GeoJSON geometry; the hull of one that crosses itself, which holds all of what it may mean."""
    from shapely import get_coordinates
    from shapely.geometry import shape

    try:
        found = shape(geometry)
        coordinates = get_coordinates(found)
        if found.is_empty or not all(math.isfinite(value) for value in coordinates.ravel()):
            raise ValueError("empty, or not finite")
        usable = found if found.is_valid else found.convex_hull
    except Exception as error:  # whatever shapely raises on what is no GeoJSON
        raise OddItemError(f"geometry {shown(geometry)}: expected GeoJSON with finite coordinates") from error
    if not _are_degrees(*found.bounds):
        raise OddItemError(f"geometry {shown(geometry)}: expected degrees")
    return usable


def _are_degrees(west: float, south: float, east: float, north: float) -> bool:
    return max(abs(west), abs(east)) <= 360 and max(abs(south), abs(north)) <= 90 + 1e-6


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(256)
def _is_known(code: str) -> bool:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(code)
    except CRSError:
        return False
    return True


def _check_asset(key: str, asset: Any) -> None:
    """Raise `OddItemError` where an asset has no address, or a field read of it has a value it cannot have."""
    if not isinstance(asset, dict):
        raise OddItemError(f"asset {key} {shown(asset)}: expected an object")
    if not isinstance(asset.get("href"), str) or not asset["href"]:
        raise OddItemError(f"asset {key} has no href")
    roles = asset.get("roles")
    if roles is not None and not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise OddItemError(f"asset {key}: roles {shown(roles)}: expected a list of texts")
    _check_fields(f"asset {key}", asset)
    transform = asset.get("proj:transform")
    if transform is not None and not (isinstance(transform, list) and transform and all(map(_is_finite, transform))):
        raise OddItemError(f"asset {key}: proj:transform {shown(transform)}: expected a list of numbers")
    reference_system(asset)
    for name in ("eo:bands", "raster:bands", "bands"):
        bands = asset.get(name)
        if bands is not None and not (isinstance(bands, list) and all(isinstance(band, dict) for band in bands)):
            raise OddItemError(f"asset {key}: {name} {shown(bands)}: expected a list of objects")
        for band in bands or ():
            _check_fields(f"asset {key}: {name}", band)


def _check_fields(where: str, fields: Mapping[str, Any]) -> None:
    for prefix in _PREFIXES:
        for name in (f"{prefix}{number}" for number in _NUMBERS):
            value = fields.get(name)
            spelled = name.endswith("nodata") and value in ("nan", "inf", "-inf")
            no_data = name.endswith("nodata") and isinstance(value, float)
            zero = name.endswith("scale") and value == 0
            if value is not None and (zero or not (spelled or no_data or _is_finite(value))):
                raise OddItemError(f"{where}: {name} {shown(value)}: expected a number{', not 0' if zero else ''}")
        for name in (f"{prefix}{text}" for text in _TEXTS):
            value = fields.get(name)
            if value is not None and not isinstance(value, str):
                raise OddItemError(f"{where}: {name} {shown(value)}: expected a text")
