"""Validation of items: JSON becomes pystac's object; an invalid field is named, so that the item can be skipped."""

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
_MAX_SHOWN = 60
"""Largest number of characters of an invalid value that a message shows."""

_NUMBERS = ("gsd", "scale", "offset", "nodata", "spatial_resolution")
_TEXTS = ("name", "common_name", "data_type")
_PREFIXES = ("", "raster:", "eo:")


class InvalidItemError(Exception):
    """Error of an item, or a catalogue's document, that cannot be used; the message is the reason in one line."""


def shorten(value: Any) -> str:
    """Return a value for a message: one line, cut if it is long, without credentials."""
    text = redact(" ".join(repr(value).split()))
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


@dataclass(frozen=True)
class ItemFootprint:
    """Place and time of an item.

    Attributes:
        name: identifier of the item.
        start, end: first and last instant, UTC without a zone.
        shape: outline in degrees; two boxes where it crosses the antimeridian.
        bbox: west, south, east, north in degrees; west is greater than east where it crosses the antimeridian.
    """

    name: str
    start: pd.Timestamp
    end: pd.Timestamp
    shape: "BaseGeometry"
    bbox: tuple[float, float, float, float]

    def touches(self, bbox: tuple[float, float, float, float]) -> bool:
        """Return True if it intersects a box (west, south, east, north in degrees)."""
        from shapely.geometry import box

        west, south, east, north = bbox
        return any(self.shape.intersects(box(west + turn, south, east + turn, north)) for turn in (0, 360, -360))


def footprint_of(fields: Any) -> ItemFootprint:
    """Read an item's name, time and place.

    Raises:
        InvalidItemError: one of them is missing or invalid.
    """
    if not isinstance(fields, dict) or fields.get("type") != "Feature":
        found = fields.get("type") if isinstance(fields, dict) else fields
        raise InvalidItemError(f"expected an item (type Feature), got {shorten(found)}")
    name, properties = fields.get("id"), fields.get("properties")
    if not isinstance(name, str) or not name.strip():
        raise InvalidItemError(f"id {shorten(name)}: expected a string")
    if not isinstance(properties, dict):
        raise InvalidItemError(f"properties {shorten(properties)}: expected an object")
    start, end = _span(properties)
    shape, bbox = _outline(fields.get("geometry"), fields.get("bbox"))
    return ItemFootprint(name, start, end, shape, bbox)


def item_of(fields: dict[str, Any], footprint: ItemFootprint, href: str, keep_paths: bool = False) -> "pystac.Item":
    """Convert an item's JSON to pystac's object with absolute addresses; every field that is used is checked.

    Args:
        fields: JSON of the item.
        footprint: its place and time, from `footprint_of`.
        href: address of the document; relative addresses are relative to it.
        keep_paths: whether addresses that begin with a slash are paths of this machine, as a local API gives them.

    Raises:
        InvalidItemError: a field has an invalid type or value.
    """
    import pystac

    version = fields.get("stac_version", "1.0.0")
    if not isinstance(version, str) or not re.match(r"[01]\.\d", version):
        raise InvalidItemError(f"stac_version {shorten(version)}: expected 1.x or earlier")
    links = fields.get("links")
    if links is not None and not (isinstance(links, list) and all(map(is_link, links))):
        raise InvalidItemError(f"links {shorten(links)}: expected a list of objects with rel and href")
    assets = fields.get("assets")
    if not isinstance(assets, dict):
        raise InvalidItemError(f"assets {shorten(assets)}: expected an object")
    for key, asset in assets.items():
        _check_asset(key, asset)
    properties = fields["properties"]
    orbit_of(properties)
    reference_system(properties)
    start, end = _iso_format(footprint.start), _iso_format(footprint.end)
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
    except Exception as error:  # pystac raises many types on invalid STAC
        raise InvalidItemError(f"no valid item ({shorten(str(error))})") from error
    return item


def times_of(item: "pystac.Item") -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return first and last instant of an item, UTC without a zone; STAC prescribes UTC for times without a zone."""
    if item.datetime is not None:
        moment = instant("datetime", item.datetime.isoformat())
        return moment, moment
    return _span({**item.properties, "datetime": None})


def instant(name: str, value: Any) -> pd.Timestamp:
    """Parse the time of a property `name`: UTC without a zone.

    Raises:
        InvalidItemError: the value is no time, or before 1678 or after 2262.
    """
    if not isinstance(value, str) or not _INSTANT.fullmatch(value.strip()):
        raise InvalidItemError(f"{name} {shorten(value)}: expected a time such as 2022-06-01T10:50:31Z")
    try:
        moment = pd.Timestamp(value.strip())
        utc = moment if moment.tzinfo is None else moment.tz_convert(None)
        return utc.as_unit("ns")
    except ValueError as error:
        raise InvalidItemError(f"{name} {shorten(value)}: expected a time of 1678 to 2262") from error


def orbit_of(properties: Mapping[str, Any]) -> tuple[str, int]:
    """Return orbit state ("" if not given) and relative orbit (-1 if not given) of an item's properties.

    Raises:
        InvalidItemError: one of them has an invalid type or value.
    """
    state, number = properties.get("sat:orbit_state"), properties.get("sat:relative_orbit")
    if state is not None and not isinstance(state, str):
        raise InvalidItemError(f"sat:orbit_state {shorten(state)}: expected ascending or descending")
    if number is None or number == "":
        return (state or "").lower(), -1
    try:
        whole = int(number) if not isinstance(number, bool) and float(number) == int(number) else None
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None:
        raise InvalidItemError(f"sat:relative_orbit {shorten(number)}: expected a whole number")
    return (state or "").lower(), whole or -1


def reference_system(fields: Mapping[str, Any]) -> str | None:
    """Return the reference system in an asset's or an item's fields, such as `EPSG:32631`; None if there is none.

    Raises:
        InvalidItemError: the code is not known.
    """
    for name in ("proj:code", "proj:epsg"):
        given = fields.get(name)
        if given is None or given == "":
            continue
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise InvalidItemError(f"{name} {shorten(given)}: expected a code such as EPSG:32631")
        code = f"{given:g}" if isinstance(given, float) else str(given).strip()
        code = f"EPSG:{code}" if code.isdecimal() else code
        if not _is_known(code):
            raise InvalidItemError(
                f"{name} {shorten(given)}: unknown reference system, expected one such as EPSG:32631"
            )
        return code
    return None


def centre_longitude(bbox: "list[float] | None") -> float:
    """Return the longitude of the middle of a box (west, south, east, north in degrees); 0 without a box."""
    if not bbox:
        return 0.0
    west, east = bbox[0], bbox[2]
    middle = (west + east + (360 if west > east else 0)) / 2
    return middle - 360 if middle > 180 else middle


def is_link(link: Any) -> bool:
    """Return True if a document's link is an object with a relation and an address."""
    return isinstance(link, dict) and all(isinstance(link.get(key), str) for key in ("rel", "href"))


def _iso_format(moment: pd.Timestamp) -> str:
    return f"{moment.floor('us').isoformat()}Z"  # readers of STAC do not accept finer times


def _span(properties: Mapping[str, Any]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return first and last instant of an item's properties."""
    if properties.get("datetime") is not None:
        moment = instant("datetime", properties["datetime"])
        return moment, moment
    missing = [name for name in ("start_datetime", "end_datetime") if properties.get(name) is None]
    if missing:
        raise InvalidItemError(f"no datetime and no {' and no '.join(missing)}")
    start, end = (instant(name, properties[name]) for name in ("start_datetime", "end_datetime"))
    if start > end:
        raise InvalidItemError(f"start_datetime {_iso_format(start)} is after end_datetime {_iso_format(end)}")
    return start, end


def _outline(geometry: Any, bbox: Any) -> "tuple[BaseGeometry, tuple[float, float, float, float]]":
    """Return shape and box of an item from its GeoJSON geometry and its bbox, either of which may be missing."""
    from shapely import union_all
    from shapely.geometry import box

    edges = None if bbox is None else _box(bbox)
    shape = None if geometry is None else _shape(geometry)
    if shape is None and edges is None:
        raise InvalidItemError("no geometry and no bbox")
    if shape is not None and (edges is None or edges[2] - edges[0] > 180):
        edges = _bounds(shape)  # some write a box across the antimeridian as one around the whole Earth
    assert edges is not None
    west, south, east, north = edges
    if shape is None or west > east:
        parts = [box(west, south, 180, north), box(-180, south, east, north)] if west > east else [box(*edges)]
        return union_all(parts), edges
    return shape, edges


def _bounds(shape: "BaseGeometry") -> tuple[float, float, float, float]:
    """Return west, south, east, north; west exceeds east where the shape is narrower across the antimeridian."""
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
        raise InvalidItemError(f"bbox {shorten(bbox)}: expected 4 or 6 numbers")
    half = len(bbox) // 2
    west, south, east, north = float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])
    if south > north or not _are_degrees(west, south, east, north):
        raise InvalidItemError(f"bbox {shorten(bbox)}: expected west south east north in degrees")
    return west, south, east, north


def _shape(geometry: Any) -> "BaseGeometry":
    """Parse a GeoJSON geometry; one that crosses itself becomes its convex hull, which contains every reading of it."""
    from shapely import get_coordinates
    from shapely.geometry import shape

    try:
        found = shape(geometry)
        coordinates = get_coordinates(found)
        if found.is_empty or not all(math.isfinite(value) for value in coordinates.ravel()):
            raise ValueError("empty, or not finite")
        usable = found if found.is_valid else found.convex_hull
    except Exception as error:  # shapely raises many types on invalid GeoJSON
        raise InvalidItemError(f"geometry {shorten(geometry)}: expected GeoJSON with finite coordinates") from error
    if not _are_degrees(*found.bounds):
        raise InvalidItemError(f"geometry {shorten(geometry)}: expected degrees")
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
    """Raise `InvalidItemError` if an asset has no address, or if a field that is used is invalid."""
    if not isinstance(asset, dict):
        raise InvalidItemError(f"asset {key} {shorten(asset)}: expected an object")
    if not isinstance(asset.get("href"), str) or not asset["href"]:
        raise InvalidItemError(f"asset {key} has no href")
    roles = asset.get("roles")
    if roles is not None and not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise InvalidItemError(f"asset {key}: roles {shorten(roles)}: expected a list of strings")
    _check_fields(f"asset {key}", asset)
    transform = asset.get("proj:transform")
    if transform is not None and not (isinstance(transform, list) and transform and all(map(_is_finite, transform))):
        raise InvalidItemError(f"asset {key}: proj:transform {shorten(transform)}: expected a list of numbers")
    reference_system(asset)
    for name in ("eo:bands", "raster:bands", "bands"):
        bands = asset.get(name)
        if bands is not None and not (isinstance(bands, list) and all(isinstance(band, dict) for band in bands)):
            raise InvalidItemError(f"asset {key}: {name} {shorten(bands)}: expected a list of objects")
        for band in bands or ():
            _check_fields(f"asset {key}: {name}", band)


def _check_fields(where: str, fields: Mapping[str, Any]) -> None:
    """Raise `InvalidItemError` if a numeric or text field of an asset or a band is invalid."""
    for prefix in _PREFIXES:
        for name in (f"{prefix}{number}" for number in _NUMBERS):
            value = fields.get(name)
            spelled = name.endswith("nodata") and value in ("nan", "inf", "-inf")
            no_data = name.endswith("nodata") and isinstance(value, float)
            zero = name.endswith("scale") and value == 0
            if value is not None and (zero or not (spelled or no_data or _is_finite(value))):
                raise InvalidItemError(
                    f"{where}: {name} {shorten(value)}: expected a number{', not 0' if zero else ''}"
                )
        for name in (f"{prefix}{text}" for text in _TEXTS):
            value = fields.get(name)
            if value is not None and not isinstance(value, str):
                raise InvalidItemError(f"{where}: {name} {shorten(value)}: expected a string")
