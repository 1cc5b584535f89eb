"""Types of a sensor's declaration: bands, masks, storage encodings and the sensor itself."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Units = Literal["reflectance", "dB"]
"""Units of a sensor's values: reflectance as a fraction, or backscatter in dB."""

# fmt: off
CommonName = Literal[
    "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075", "rededge078",
    "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12", "pan",
]
# fmt: on
"""Common names of bands in STAC's electro-optical extension, version 2."""

IntegerType = Literal["int8", "uint8", "int16", "uint16", "int32"]
"""Integer types of stored arrays."""


class Quality(IntEnum):
    """Reason why a pixel of a date can, or cannot, be used."""

    CLEAR = 0
    WATER = 1
    CLOUD = 2
    MISSING = 3
    NEVER_OBSERVED = 4
    OUTSIDE = 5
    NO_OVERPASS = 6

    @property
    def usable(self) -> bool:
        """True if the pixel holds a measurement of the surface."""
        return self in (Quality.CLEAR, Quality.WATER)


class Declaration(BaseModel):
    """Base of the declarations: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)


class StorageEncoding(Declaration):
    """Encoding of values as integers in a store: value = number * scale + offset.

    Attributes:
        dtype: type of the numbers.
        scale: step between two numbers, in units of the values.
        offset: value of the number 0, in units of the values.
        fill: number that stands for no data; values below it cannot be stored.

    Raises:
        ValidationError: (pydantic's, a `ValueError`) `fill` does not fit `dtype`, or `scale` is not positive.
    """

    dtype: IntegerType
    scale: float = Field(gt=0)
    offset: float = 0.0
    fill: int

    @model_validator(mode="after")
    def _consistent(self) -> "StorageEncoding":
        _check_fill(self.fill, self.dtype)
        return self

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer that stand for a measurement; the fill value lies beyond them."""
        bounds = np.iinfo(self.dtype)
        return (bounds.min, bounds.max - 1) if self.fill == bounds.max else (self.fill + 1, bounds.max)

    def to_integers(self, numbers: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Round numbers (any shape, in steps of `scale`) to `dtype`, clipped to `limits`; `fill` where `missing`."""
        integers = np.rint(np.clip(np.nan_to_num(numbers), *self.limits)).astype(self.dtype)
        integers[missing] = self.fill
        return integers


class MaskEncoding(Declaration):
    """Encoding of a mask's classes or flags as integers in a store.

    Attributes:
        dtype: type of the numbers.
        fill: number that stands for no data.
    """

    dtype: IntegerType = "uint16"
    fill: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> "MaskEncoding":
        _check_fill(self.fill, self.dtype)
        return self


def _check_fill(fill: int, dtype: str) -> None:
    limits = np.iinfo(dtype)
    if not limits.min <= fill <= limits.max:
        raise ValueError(f"fill {fill} does not fit {dtype}: choose a number of {limits.min} to {limits.max}")


class Band(Declaration):
    """Declaration of a band of a sensor.

    Attributes:
        name: name of the variable in a cube.
        aliases: other names that cubes use for the band.
        wavelength: centre wavelength in nanometres, if optical.
        common_name: common name in STAC, such as red; spectral indices find the band by it.
        storage: how a fetched cube stores the band, where not as the sensor's other bands.
    """

    name: str
    aliases: tuple[str, ...] = ()
    wavelength: float | None = None
    common_name: CommonName | None = None
    storage: StorageEncoding | None = None


class Mask(Declaration):
    """Base of the masks: a layer of a cube that distinguishes clear pixels from cloud and missing ones.

    Attributes:
        variable: name of the layer in a cube.
        aliases: other names that cubes use for the layer.
        digital_numbers: scale and offset of products with this layer, where not the sensor's usual ones.
        storage: how a fetched cube stores the layer.
    """

    variable: str
    aliases: tuple[str, ...] = ()
    digital_numbers: tuple[float, float] | None = None
    storage: MaskEncoding = MaskEncoding()


class ClassMask(Mask):
    """Mask that is a layer of classes, such as Sentinel-2's scene classification.

    Attributes:
        clear: values that mean a clear view of land.
        water: values that mean a clear view of water.
        missing: values that mean no data.
        unclear: values that mean neither; where given, any other value is reported as unknown.
    """

    clear: tuple[int, ...]
    water: tuple[int, ...] = ()
    missing: tuple[int, ...] = (0,)
    unclear: tuple[int, ...] = ()

    def quality(self, layer: np.ndarray) -> np.ndarray:
        """Convert the layer (any shape, any numeric dtype) to `Quality` values (same shape, uint8); NaN is missing."""
        quality = np.full(layer.shape, Quality.CLOUD, np.uint8)
        quality[np.isin(layer, self.clear)] = Quality.CLEAR
        quality[np.isin(layer, self.water)] = Quality.WATER
        quality[np.isin(layer, self.missing) | np.isnan(layer)] = Quality.MISSING
        return quality

    def unknown(self, layer: np.ndarray) -> np.ndarray:
        """Return where the layer holds a value that the declaration does not list (same shape, bool)."""
        if not self.unclear:
            return np.zeros(layer.shape, bool)
        known = (*self.clear, *self.water, *self.missing, *self.unclear)
        unknown: np.ndarray = ~np.isin(layer, known) & ~np.isnan(layer)
        return unknown


class BitMask(Mask):
    """Mask that is a layer of flags, one bit each, such as Landsat's `qa_pixel`; bits are counted from 0.

    Attributes:
        unclear_bits: bits that mean cloud, shadow or snow.
        water_bits: bits that mean water.
        missing_bits: bits that mean no data; where any is given, the number 0 means no data too.
        not_produced: first and last date (YYYY-MM-DD) of products whose layer was left empty.
    """

    unclear_bits: tuple[int, ...]
    water_bits: tuple[int, ...] = ()
    missing_bits: tuple[int, ...] = ()
    not_produced: tuple[str, str] | None = None

    def quality(self, layer: np.ndarray) -> np.ndarray:
        """Convert the layer (any shape, any numeric dtype) to `Quality` values (same shape, uint8); NaN is missing."""
        absent = np.isnan(layer)
        bits = np.where(absent, 0, layer).astype(np.int64)
        quality = np.full(layer.shape, Quality.CLEAR, np.uint8)
        quality[_any_bit(bits, self.water_bits)] = Quality.WATER
        quality[_any_bit(bits, self.unclear_bits)] = Quality.CLOUD
        if self.missing_bits:
            absent |= _any_bit(bits, self.missing_bits) | (bits == 0)
        quality[absent] = Quality.MISSING
        return quality

    def unknown(self, layer: np.ndarray) -> np.ndarray:
        """Return where the layer holds no set of flags: a negative number or a fraction (same shape, bool)."""
        unknown: np.ndarray = (layer < 0) | (~np.isnan(layer) & (layer != np.floor(layer)))
        return unknown


def _any_bit(bits: np.ndarray, positions: tuple[int, ...]) -> np.ndarray:
    any_bit: np.ndarray = bits & sum(1 << position for position in positions) != 0
    return any_bit


def _max_encoding_size(bands: Sequence[Band], offsets: Sequence[float]) -> int:
    """Return the largest encoding: components of the trajectory at all offsets, and the centre date's bands."""
    return len(bands) * (len(offsets) + 1)


REFLECTANCE_STORAGE = StorageEncoding(dtype="int16", scale=1e-4, fill=-32768)
"""Usual storage of reflectance: down to -3.2767, so that what an offset takes below zero is kept."""

BACKSCATTER_STORAGE = StorageEncoding(dtype="int16", scale=0.01, fill=-32768)
"""Usual storage of backscatter in dB."""


class Sensor(Declaration):
    """Declaration of a sensor: all that the package needs to know of it.

    Reflectance is a fraction and backscatter is in dB, here as everywhere in the package.

    Attributes:
        name: identifier, for example `sentinel-2`.
        title: name for people, for example `Sentinel-2 L2A`.
        address: address of a page that describes its data; stores name it as their source.
        bands: bands in the order of the network's input.
        units: units of the values: reflectance (fraction) or dB.
        value_range: range in the sensor's units that values are clipped to and that is scaled to 0..1.
        resolution: ground sampling distance in metres.
        validity: mask of the sensor's products, if they have one.
        other_masks: masks that are read where `validity` is absent, the preferred one first.
        name_words: words that cubes add to a band's or a mask's name, such as s2, sr, 10m.
        other_names: other names of the sensor, its satellites and its products in paths and metadata, such as s2a.
        product_names: regular expressions of product names; the group `date` is the acquisition date.
        image_names: regular expressions of the names of image files that do not name the sensor.
        physical_range: range in the sensor's units that a surface can have; values outside it are missing.
        is_reference: whether its clear dates can be the embedding's dates (`sets_dates` in model cards).
        averaged_overpasses: overpasses averaged in linear power against speckle, dB only (`averaged_acquisitions` in
            cards).
        digital_number_scale: default scale from stored integers to units, where a file or an item gives none.
        digital_number_offset: default offset in the sensor's units, added after the scale.
        storage: how a fetched cube stores the bands; by units where None.
        offset_since_baseline: (processing baseline, offset in digital numbers) that products add since it.
        offset_since_date: date (YYYY-MM-DD) since which every new product has that offset.
        offsets: days from the centre date that the encoder samples.
        rgb_previews: bands shown as red, green and blue; the first triple that a cube has (`pictures` in cards).
        encoding_size: dimensions of the sensor's own encoding; at most the bands times one more than the offsets.

    Raises:
        ValidationError: (pydantic's, a `ValueError`) a field is misspelt or has a value that it cannot have; the
            message names the field, the value and what is expected.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    address: str | None = Field(default=None, pattern=r"^https?://\S+$")
    bands: tuple[Band, ...] = Field(min_length=1)
    units: Units
    value_range: tuple[float, float]
    resolution: float = Field(gt=0)
    validity: ClassMask | BitMask | None = None
    other_masks: tuple[ClassMask | BitMask, ...] = ()
    name_words: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    product_names: tuple[str, ...] = ()
    image_names: tuple[str, ...] = ()
    physical_range: tuple[float, float] | None = None
    is_reference: bool = Field(default=False, validation_alias="sets_dates", serialization_alias="sets_dates")
    averaged_overpasses: int = Field(
        default=1, ge=1, validation_alias="averaged_acquisitions", serialization_alias="averaged_acquisitions"
    )
    digital_number_scale: float | None = None
    digital_number_offset: float = 0.0
    storage: StorageEncoding | None = None
    offset_since_baseline: tuple[float, float] | None = None
    offset_since_date: str | None = None
    offsets: tuple[float, ...] = (-120, -90, -60, -40, -20, 0, 20, 40, 60, 90, 120)
    rgb_previews: tuple[tuple[str, str, str], ...] = Field(
        default=(), validation_alias="pictures", serialization_alias="pictures"
    )
    encoding_size: int = Field(
        default_factory=lambda fields: min(32, _max_encoding_size(fields.get("bands", ()), fields.get("offsets", ()))),
        ge=1,
    )

    @model_validator(mode="after")
    def _names_are_consistent(self) -> "Sensor":
        if len(set(self.band_names)) < len(self.bands):
            raise ValueError(f"bands: two bands share a name ({', '.join(self.band_names)}): rename one of them")
        common = [band.common_name for band in self.bands if band.common_name is not None]
        if len(set(common)) < len(common):
            raise ValueError(f"bands: two bands share a common_name ({', '.join(common)}): leave one of them out")
        if unnamed := [pattern for pattern in self.product_names if "(?P<date>" not in pattern]:
            raise ValueError(f"product_names: {unnamed[0]} has no group date: write (?P<date>...) around the date")
        absent = sorted({name for triple in self.rgb_previews for name in triple} - set(self.band_names))
        if absent:
            raise ValueError(f"rgb_previews name {', '.join(absent)}: choose of {', '.join(self.band_names)}")
        return self

    @model_validator(mode="after")
    def _numbers_are_consistent(self) -> "Sensor":
        low, high = self.value_range
        if low >= high:
            raise ValueError(f"value_range must rise, got {low} to {high}: give the lower value first")
        if 0 not in self.offsets or list(self.offsets) != sorted(set(self.offsets)):
            raise ValueError(f"offsets must rise and hold 0, the centre date, got {self.offsets}: add 0 and sort them")
        if self.encoding_size <= len(self.bands):
            raise ValueError(
                f"encoding_size must exceed the number of bands ({len(self.bands)}), got {self.encoding_size}: "
                f"give at least {len(self.bands) + 1}"
            )
        if self.encoding_size > (largest := _max_encoding_size(self.bands, self.offsets)):
            raise ValueError(
                f"encoding_size {self.encoding_size} exceeds the values of a trajectory ({len(self.bands)} bands, "
                f"{len(self.offsets)} offsets): give at most {largest}"
            )
        if self.averaged_overpasses > 1 and self.units != "dB":
            raise ValueError(
                f"averaged_overpasses {self.averaged_overpasses} averages power: only a sensor in dB can have it, "
                f"units is {self.units}"
            )
        return self

    @property
    def masks(self) -> tuple[ClassMask | BitMask, ...]:
        """Masks that a cube can have, the preferred one first."""
        return (self.validity, *self.other_masks) if self.validity is not None else self.other_masks

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order."""
        return tuple(band.name for band in self.bands)

    def has_same_inputs(self, other: "Sensor") -> bool:
        """Return True if a network of one accepts the values of the other; names in files do not matter."""
        return (self.band_names, self.units, self.value_range) == (other.band_names, other.units, other.value_range)

    def band_by_common_name(self, common_name: str) -> Band | None:
        """Return the band with a common name of STAC, such as `red`; None where the sensor has none.

        Model cards written before `Band.common_name` existed name it among the aliases.
        """
        declared = [band for band in self.bands if band.common_name == common_name]
        if not declared and all(band.common_name is None for band in self.bands):
            declared = [band for band in self.bands if common_name in (band.name, *band.aliases)]
        return declared[0] if declared else None

    def storage_of(self, band: str) -> StorageEncoding:
        """Return how a fetched cube stores a band: the band's own encoding, the sensor's, or that of its units."""
        own = next(declared.storage for declared in self.bands if declared.name == band)
        return own or self.storage or (BACKSCATTER_STORAGE if self.units == "dB" else REFLECTANCE_STORAGE)

    def digital_number_scaling(self, mask: Mask | None) -> tuple[float, float] | None:
        """Return scale and offset from a product's digital numbers to the sensor's units.

        Args:
            mask: declared mask of the same product, None if it has none; products of another scaling have another mask.

        Returns:
            (scale, offset), or None where the declaration does not determine them.
        """
        if mask is not None and mask.digital_numbers is not None:
            return mask.digital_numbers
        is_ambiguous = mask is None and any(known.digital_numbers for known in self.masks)
        if self.digital_number_scale is None or is_ambiguous:
            return None
        return self.digital_number_scale, self.digital_number_offset

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Clip values in the sensor's units to `value_range` and map that range to 0..1 (any shape)."""
        low, high = self.value_range
        return (np.clip(values, low, high) - low) / (high - low)

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Map 0..1 back to the sensor's units (any shape)."""
        low, high = self.value_range
        return values * (high - low) + low
