"""What an item says of itself: which asset is which band, scale and offset, baseline, orbit; and who is one date."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thalweg.earth.cube.mosaics import overpasses
from thalweg.earth.cube.names import candidates, names_mask
from thalweg.earth.cube.offsets import Told, product_offset, told_by
from thalweg.earth.sensors import Band, BitMask, ClassMask, Sensor, sensor_by_name
from thalweg.earth.stac.catalogues import Product
from thalweg.earth.stac.items import centre_longitude, orbit_of, reference_system, times_of

if TYPE_CHECKING:
    import pystac

PICTURES = {"thumbnail", "overview", "visual"}
"""Roles of assets that hold a picture, whatever bands they declare."""


@dataclass(frozen=True)
class Scene:
    """An item of a catalogue as a sensor's acquisition."""

    item: "pystac.Item"
    product: Product

    @property
    def sensor(self) -> Sensor:
        """The declared sensor."""
        return sensor_by_name(self.product.sensor)

    @property
    def name(self) -> str:
        """The item's identifier."""
        return self.item.id

    @cached_property
    def time(self) -> pd.Timestamp:
        """Instant of the acquisition, UTC without a zone; its start where the item gives a span."""
        return times_of(self.item)[0]

    @cached_property
    def assets(self) -> "dict[str, pystac.Asset]":
        """The asset of each band, and of the validity layer, that the item has."""
        found = {band.name: self._asset_of(band) for band in self.sensor.bands}
        if self.sensor.validity is not None:
            found[self.sensor.validity.variable] = self._mask_asset(self.sensor.validity)
        return {name: asset for name, asset in found.items() if asset is not None}

    def _asset_of(self, band: Band) -> "pystac.Asset | None":
        """The asset that says it is the band; where none does, the one that is called so.

        Several may say so (resolutions, file formats): the one the catalogue's declaration names is taken, else
        the finest.
        """
        assets, declared = self.item.assets, self.product.assets.get(band.name)
        saying = {key: asset for key, asset in assets.items() if self._declared_band(asset) == band.name}
        if not saying and declared in assets:
            return assets[declared]
        called = {
            key: asset
            for key, asset in assets.items()
            if candidates(self.sensor, key) == (band.name,) and not PICTURES & set(asset.roles or ())
        }
        return self._finest(saying or called, declared)

    def _declared_band(self, asset: "pystac.Asset") -> str | None:
        """The band that an asset declares to hold, by its name, else by its common name."""
        for name in _declared_names(asset):
            found = candidates(self.sensor, name)
            if len(found) == 1:
                return found[0]
        return None

    def _mask_asset(self, mask: ClassMask) -> "pystac.Asset | None":
        assets, declared = self.item.assets, self.product.assets.get(mask.variable)
        if declared in assets:
            return assets[declared]
        called = {key: asset for key, asset in assets.items() if names_mask(self.sensor, mask, key)}
        return self._finest(called, declared)

    @staticmethod
    def _finest(assets: "dict[str, pystac.Asset]", declared: str | None) -> "pystac.Asset | None":
        """Of assets that hold the same, the one that is declared, else the finest."""
        best = min(assets, key=lambda key: (key != declared, _resolution(assets[key]), key), default=None)
        return None if best is None else assets[best]

    def missing(self) -> list[str]:
        """Bands and layers the item lacks."""
        layer = [self.sensor.validity.variable] if self.sensor.validity else []
        return [name for name in (*self.sensor.band_names, *layer) if name not in self.assets]

    @cached_property
    def baseline(self) -> float:
        """Processing baseline, NaN where the item does not give one; `UsageError` where it is not understood."""
        return float(self._told({}).baseline[0])

    def _told(self, more: Mapping[str, Any]) -> Told:
        """What the item and more fields tell of the products' offset."""
        facts = {**self.item.properties, **more, "id": self.item.id}
        return told_by(facts.items(), 1, "its properties")

    @cached_property
    def orbit(self) -> tuple[str, int]:
        """Orbit state ("" where not given) and relative orbit (-1 where not given)."""
        return orbit_of(self.item.properties)

    @cached_property
    def solar_day(self) -> pd.Timestamp:
        """The day of the acquisition in local solar time: no pass is cut in two by midnight UTC."""
        return (self.time + pd.Timedelta(hours=centre_longitude(self.item.bbox) / 15)).normalize()

    def crs(self, band: str) -> str | None:
        """Reference system of a band's file as the item gives it, such as `EPSG:32631`."""
        return reference_system(self.assets[band].extra_fields) or reference_system(self.item.properties)

    def check(self) -> None:
        """Raise `OddItemError` or `UsageError` where something that is read of the item later cannot be understood."""
        _ = self.time, self.orbit, self.solar_day, self.baseline
        bands = set(self.sensor.band_names)
        for name in self.assets:
            _ = self.crs(name), self.is_integer(name), self.nodata(name)
            if name in bands:
                self.scale_and_offset(name)

    def is_integer(self, band: str) -> bool:
        """Whether a band's file holds integers, as far as the item says."""
        return "float" not in str(_raster(self.assets[band]).get("data_type", ""))

    def nodata(self, band: str) -> float | None:
        """What stands for no data in a band's file, where the item says it."""
        value = _raster(self.assets[band]).get("nodata")
        return None if value is None else float(value)

    def scale_and_offset(self, band: str) -> tuple[float, float]:
        """Factor and offset from the file's numbers to reflectance.

        Sentinel-2's products add 1000 since processing baseline 04.00. In this order: a catalogue that has taken
        that off says so (`...boa_offset_applied`), whatever else it says; an item that gives the offset is
        believed; else the baseline tells (`earth.offsets`).

        Raises:
            UsageError: what the item says is not understood, or too little.
        """
        asset = self.assets[band]
        said = _raster(asset)
        default, offset = _product_scaling(self.sensor)
        scale = float(said.get("scale") or default)
        if self.sensor.offset_since_baseline is None:
            return scale, float(said.get("offset", offset))
        stated = float(said["offset"]) / scale if "offset" in said else None
        told = self._told(asset.extra_fields)
        numbers = product_offset(told, self.sensor, np.array([self.time.to_datetime64()]), "its properties", stated)
        return scale, float(numbers[0]) * scale


def _product_scaling(sensor: Sensor) -> tuple[float, float]:
    """Scale and offset of the products that catalogues hold, where an item does not give them."""
    declared = (mask.digital_numbers for mask in sensor.masks if isinstance(mask, BitMask))
    return next(filter(None, declared), (sensor.digital_number_scale or 1.0, 0.0))


@dataclass(frozen=True)
class Overpass:
    """The scenes of one sensor, day and orbit, which become one date; the ones to prefer come first."""

    scenes: tuple[Scene, ...]

    @property
    def time(self) -> pd.Timestamp:
        """When the first of them was taken."""
        return min(scene.time for scene in self.scenes)

    @property
    def names(self) -> list[str]:
        """Identifiers of the items."""
        return [scene.name for scene in self.scenes]


def group_overpasses(scenes: Iterable[Scene], crs: str) -> list[Overpass]:
    """Group scenes into dates, in the order of time.

    Of scenes that overlap, one on the grid's own reference system is preferred, then the collection that comes
    first in `scenes`, then the newer processing baseline.
    """
    scenes = list(scenes)
    collections = list(dict.fromkeys(scene.product.collection for scene in scenes))

    def place(scene: Scene) -> tuple[bool, int, float, str]:
        elsewhere = all(scene.crs(band) != crs for band in scene.assets)
        return elsewhere, collections.index(scene.product.collection), -np.nan_to_num(scene.baseline), scene.name

    scenes.sort(key=lambda scene: (scene.time, scene.name))
    times = np.array([scene.time.to_datetime64() for scene in scenes], "datetime64[ns]")
    days = np.array([scene.solar_day.to_datetime64() for scene in scenes], "datetime64[ns]")
    groups = overpasses(times, days, [scene.orbit for scene in scenes])
    return [Overpass(tuple(sorted((scenes[index] for index in group), key=place))) for group in groups]


def _bands(asset: "pystac.Asset") -> list[dict[str, Any]]:
    """What the asset says of its bands (STAC 1.1 `bands`, or the extensions' fields before)."""
    return asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []


def _declared_names(asset: "pystac.Asset") -> list[str]:
    """The names under which an asset of one band declares it; empty for pictures and stacks of bands."""
    bands = _bands(asset)
    if len(bands) != 1 or PICTURES & set(asset.roles or ()):
        return []
    (band,) = bands
    names = (band.get("name"), band.get("common_name"), band.get("eo:common_name"))
    return [str(name) for name in names if name]


def _raster(asset: "pystac.Asset") -> dict[str, Any]:
    """Data type, no data, scale and offset of an asset's first band, as far as it says."""
    fields = asset.extra_fields
    first = next(iter(fields.get("raster:bands") or fields.get("bands") or [{}]))
    said: dict[str, Any] = {}
    for key in ("data_type", "nodata", "scale", "offset"):
        for holder in (first, fields):
            value = holder.get(key, holder.get(f"raster:{key}"))
            if value is not None:
                said.setdefault(key, value)
    return said


def _resolution(asset: "pystac.Asset") -> float:
    """Pixel size of an asset in metres, as far as it says."""
    fields = asset.extra_fields
    first = next(iter(fields.get("raster:bands") or [{}]))
    transform = fields.get("proj:transform")
    given = fields.get("gsd") or first.get("spatial_resolution") or (abs(transform[0]) if transform else None)
    return float(given) if given else np.inf
