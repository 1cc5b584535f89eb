"""Scenes: an item's assets by band, its scaling, baseline and orbit; and the overpasses that scenes belong to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thalweg.earth.cube.decoding.offsets import OffsetMetadata, offset_metadata, product_offset
from thalweg.earth.cube.mosaics import overpass_groups
from thalweg.earth.cube.names import candidates, is_mask_name
from thalweg.earth.sensors import Band, BitMask, ClassMask, Sensor, sensor_by_name
from thalweg.earth.stac.search.catalogues import Product
from thalweg.earth.stac.search.items import centre_longitude, orbit_of, reference_system, times_of

if TYPE_CHECKING:
    import pystac

PREVIEW_ROLES = {"thumbnail", "overview", "visual"}
"""Roles of assets that hold an RGB preview; the bands that they declare do not count."""


@dataclass(frozen=True)
class Scene:
    """Item of a catalogue as a scene of a sensor.

    Attributes:
        item: the validated item, from `item_of`.
        product: declaration of its collection.
    """

    item: "pystac.Item"
    product: Product

    @property
    def sensor(self) -> Sensor:
        """Declaration of the sensor."""
        return sensor_by_name(self.product.sensor)

    @property
    def name(self) -> str:
        """Identifier of the item."""
        return self.item.id

    @cached_property
    def time(self) -> pd.Timestamp:
        """Time of the scene, UTC without a zone; the start if the item gives a span."""
        return times_of(self.item)[0]

    @cached_property
    def assets(self) -> "dict[str, pystac.Asset]":
        """Asset of each band, and of the mask, that the item has, by name."""
        found = {band.name: self._asset_of(band) for band in self.sensor.bands}
        if self.sensor.validity is not None:
            found[self.sensor.validity.variable] = self._mask_asset(self.sensor.validity)
        return {name: asset for name, asset in found.items() if asset is not None}

    def _asset_of(self, band: Band) -> "pystac.Asset | None":
        """Return the asset of a band; None if the item has none.

        An asset that declares to hold the band is preferred to one whose key matches. Several may declare it
        (resolutions, file formats): the one in the catalogue's declaration is used, else the finest.
        """
        assets, declared = self.item.assets, self.product.assets.get(band.name)
        declaring = {key: asset for key, asset in assets.items() if self._declared_band(asset) == band.name}
        if not declaring and declared in assets:
            return assets[declared]
        matching = {
            key: asset
            for key, asset in assets.items()
            if candidates(self.sensor, key) == (band.name,) and not PREVIEW_ROLES & set(asset.roles or ())
        }
        return self._finest(declaring or matching, declared)

    def _declared_band(self, asset: "pystac.Asset") -> str | None:
        """Return the band that an asset declares, by its name or its common name; None if it declares none."""
        for name in _declared_names(asset):
            found = candidates(self.sensor, name)
            if len(found) == 1:
                return found[0]
        return None

    def _mask_asset(self, mask: ClassMask | BitMask) -> "pystac.Asset | None":
        """Return the asset of a mask; None if the item has none."""
        assets, declared = self.item.assets, self.product.assets.get(mask.variable)
        if declared in assets:
            return assets[declared]
        matching = {key: asset for key, asset in assets.items() if is_mask_name(self.sensor, mask, key)}
        return self._finest(matching, declared)

    @staticmethod
    def _finest(assets: "dict[str, pystac.Asset]", declared: str | None) -> "pystac.Asset | None":
        """Return the asset whose key is `declared`, else the finest; None if there are none."""
        best = min(assets, key=lambda key: (key != declared, _resolution(assets[key]), key), default=None)
        return None if best is None else assets[best]

    def missing(self) -> list[str]:
        """Return the bands, and the mask, that the item lacks."""
        mask = [self.sensor.validity.variable] if self.sensor.validity else []
        return [name for name in (*self.sensor.band_names, *mask) if name not in self.assets]

    @cached_property
    def baseline(self) -> float:
        """Processing baseline, NaN if the item gives none.

        Raises:
            UsageError: the item gives one that is not understood.
        """
        return float(self._offset_metadata({}).baseline[0])

    def _offset_metadata(self, fields: Mapping[str, Any]) -> OffsetMetadata:
        """Return the metadata of the products' offset in the item's properties and further fields."""
        facts = {**self.item.properties, **fields, "id": self.item.id}
        return offset_metadata(facts.items(), 1, "its properties")

    @cached_property
    def orbit(self) -> tuple[str, int]:
        """Orbit state ("" if not given) and relative orbit (-1 if not given)."""
        return orbit_of(self.item.properties)

    @cached_property
    def solar_day(self) -> pd.Timestamp:
        """Day of the scene in local solar time, so that midnight UTC does not divide an overpass."""
        return (self.time + pd.Timedelta(hours=centre_longitude(self.item.bbox) / 15)).normalize()

    def crs(self, band: str) -> str | None:
        """Return the reference system of a band's file, such as `EPSG:32631`; None if the item gives none."""
        return reference_system(self.assets[band].extra_fields) or reference_system(self.item.properties)

    def check(self) -> None:
        """Check every property that is used later.

        Raises:
            InvalidItemError, UsageError: one of them is invalid or not understood.
        """
        _ = self.time, self.orbit, self.solar_day, self.baseline
        bands = set(self.sensor.band_names)
        for name in self.assets:
            _ = self.crs(name), self.is_integer(name), self.nodata(name)
            if name in bands:
                self.scale_and_offset(name)

    def is_integer(self, band: str) -> bool:
        """Return True if a band's file holds integers, or if the item gives no data type."""
        return "float" not in str(_raster_fields(self.assets[band]).get("data_type", ""))

    def nodata(self, band: str) -> float | None:
        """Return the number that stands for no data in a band's file; None if the item gives none."""
        value = _raster_fields(self.assets[band]).get("nodata")
        return None if value is None else float(value)

    def scale_and_offset(self, band: str) -> tuple[float, float]:
        """Return scale and offset from the numbers of a band's file to the sensor's units.

        Of a sensor whose products add an offset since a processing baseline, the sources are, in this order: a flag
        of the catalogue that the offset is removed already (`...boa_offset_applied`), an offset that the item gives,
        and the baseline (`earth.cube.decoding.offsets`). What the item does not give is the sensor's default.

        Raises:
            UsageError: the item's properties are not understood, or do not determine the offset.
        """
        asset = self.assets[band]
        raster = _raster_fields(asset)
        scale = float(raster.get("scale") or self.sensor.digital_number_scale or 1.0)
        if self.sensor.offset_since_baseline is None:
            return scale, float(raster.get("offset", self.sensor.digital_number_offset))
        stated = float(raster["offset"]) / scale if "offset" in raster else None
        metadata = self._offset_metadata(asset.extra_fields)
        dates = np.array([self.time.to_datetime64()])
        numbers = product_offset(metadata, self.sensor, dates, "its properties", stated)
        return scale, float(numbers[0]) * scale


@dataclass(frozen=True)
class Overpass:
    """Scenes of one sensor, day and orbit, which become one date; the preferred ones come first."""

    scenes: tuple[Scene, ...]

    @property
    def time(self) -> pd.Timestamp:
        """Time of the first scene, UTC without a zone."""
        return min(scene.time for scene in self.scenes)

    @property
    def names(self) -> list[str]:
        """Identifiers of the items."""
        return [scene.name for scene in self.scenes]


def group_overpasses(scenes: Iterable[Scene], crs: str) -> list[Overpass]:
    """Group scenes into overpasses, in order of time.

    Of scenes that overlap, one in the grid's own reference system is preferred, then the collection that is
    first in `scenes`, then the newer processing baseline.

    Args:
        scenes: scenes of one sensor.
        crs: reference system of the grid, such as `EPSG:32631`.
    """
    scenes = list(scenes)
    collections = list(dict.fromkeys(scene.product.collection for scene in scenes))

    def rank(scene: Scene) -> tuple[bool, int, float, str]:
        is_reprojected = all(scene.crs(band) != crs for band in scene.assets)
        return is_reprojected, collections.index(scene.product.collection), -np.nan_to_num(scene.baseline), scene.name

    scenes.sort(key=lambda scene: (scene.time, scene.name))
    times = np.array([scene.time.to_datetime64() for scene in scenes], "datetime64[ns]")
    days = np.array([scene.solar_day.to_datetime64() for scene in scenes], "datetime64[ns]")
    groups = overpass_groups(times, days, [scene.orbit for scene in scenes])
    return [Overpass(tuple(sorted((scenes[index] for index in group), key=rank))) for group in groups]


def _bands(asset: "pystac.Asset") -> list[dict[str, Any]]:
    """Return the asset's list of bands: `bands` of STAC 1.1, or `eo:bands` of earlier versions."""
    return asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []


def _declared_names(asset: "pystac.Asset") -> list[str]:
    """Return the names that an asset declares for its one band; empty for previews and stacks of bands."""
    bands = _bands(asset)
    if len(bands) != 1 or PREVIEW_ROLES & set(asset.roles or ()):
        return []
    (band,) = bands
    names = (band.get("name"), band.get("common_name"), band.get("eo:common_name"))
    return [str(name) for name in names if name]


def _raster_fields(asset: "pystac.Asset") -> dict[str, Any]:
    """Return data type, no data, scale and offset of an asset's first band, those that are given."""
    fields = asset.extra_fields
    first = next(iter(fields.get("raster:bands") or fields.get("bands") or [{}]))
    found: dict[str, Any] = {}
    for key in ("data_type", "nodata", "scale", "offset"):
        for holder in (first, fields):
            value = holder.get(key, holder.get(f"raster:{key}"))
            if value is not None:
                found.setdefault(key, value)
    return found


def _resolution(asset: "pystac.Asset") -> float:
    """Return the pixel size of an asset in metres; infinite if it is not given."""
    fields = asset.extra_fields
    first = next(iter(fields.get("raster:bands") or [{}]))
    transform = fields.get("proj:transform")
    given = fields.get("gsd") or first.get("spatial_resolution") or (abs(transform[0]) if transform else None)
    return float(given) if given else np.inf
