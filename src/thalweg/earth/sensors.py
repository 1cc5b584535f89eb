"""Sensors are declared, not coded: bands in order, units, scaling, validity and cadence.

A new sensor is one `Sensor` value passed to `register`; nothing else in the package names a sensor.
"""

from enum import IntEnum
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thalweg.errors import UsageError

Units = Literal["reflectance", "dB"]


class Quality(IntEnum):
    """Why a pixel of a date can, or cannot, be used."""

    CLEAR = 0
    WATER = 1
    CLOUD = 2
    MISSING = 3
    NEVER_OBSERVED = 4
    OUTSIDE = 5

    @property
    def usable(self) -> bool:
        """Whether the pixel carries a measurement of the surface."""
        return self in (Quality.CLEAR, Quality.WATER)


class Declaration(BaseModel):
    """Base of the declarations: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Band(Declaration):
    """One band of a sensor."""

    name: str = Field(description="name of the variable in a cube")
    aliases: tuple[str, ...] = Field(default=(), description="other names that cubes use for the band")
    wavelength: float | None = Field(default=None, description="centre wavelength in nanometres, if optical")


class ClassMask(Declaration):
    """Validity known from a layer of classes, such as Sentinel-2's scene classification."""

    variable: str = Field(description="name of the layer in a cube")
    aliases: tuple[str, ...] = Field(default=(), description="other names that cubes use for the layer")
    clear: tuple[int, ...] = Field(description="values that mean a clear view of land")
    water: tuple[int, ...] = Field(default=(), description="values that mean a clear view of water")
    missing: tuple[int, ...] = Field(default=(0,), description="values that mean no data")
    unclear: tuple[int, ...] = Field(
        default=(), description="values that mean neither; where given, any other value is reported as unknown"
    )

    def quality(self, layer: np.ndarray) -> np.ndarray:
        """Turn the layer into `Quality` codes of the same shape (uint8); NaN means missing."""
        quality = np.full(layer.shape, Quality.CLOUD, np.uint8)
        quality[np.isin(layer, self.clear)] = Quality.CLEAR
        quality[np.isin(layer, self.water)] = Quality.WATER
        quality[np.isin(layer, self.missing) | np.isnan(layer)] = Quality.MISSING
        return quality

    def unknown(self, layer: np.ndarray) -> np.ndarray:
        """Where the layer holds a value that the declaration does not know (boolean, same shape)."""
        if not self.unclear:
            return np.zeros(layer.shape, bool)
        known = (*self.clear, *self.water, *self.missing, *self.unclear)
        unknown: np.ndarray = ~np.isin(layer, known) & ~np.isnan(layer)
        return unknown


class BitMask(Declaration):
    """Validity known from a layer of flags, one bit each, such as Landsat's `qa_pixel`."""

    variable: str = Field(description="name of the layer in a cube")
    aliases: tuple[str, ...] = Field(default=(), description="other names that cubes use for the layer")
    unclear_bits: tuple[int, ...] = Field(description="bits that mean cloud, shadow or snow")
    water_bits: tuple[int, ...] = Field(default=(), description="bits that mean water")
    missing_bits: tuple[int, ...] = Field(default=(), description="bits that mean no data; with any, so does 0")
    not_produced: tuple[str, str] | None = Field(
        default=None, description="first and last date of products whose layer was left empty"
    )
    digital_numbers: tuple[float, float] | None = Field(
        default=None, description="factor and offset of products with this layer, where not the sensor's usual ones"
    )

    def quality(self, layer: np.ndarray) -> np.ndarray:
        """Turn the layer into `Quality` codes of the same shape (uint8); NaN means missing."""
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
        """Where the layer holds no set of flags: a negative number or a fraction (boolean, same shape)."""
        unknown: np.ndarray = (layer < 0) | (~np.isnan(layer) & (layer != np.floor(layer)))
        return unknown


def _any_bit(bits: np.ndarray, positions: tuple[int, ...]) -> np.ndarray:
    any_bit: np.ndarray = bits & sum(1 << position for position in positions) != 0
    return any_bit


class Sensor(Declaration):
    """What the package needs to know of a sensor."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="identifier, for example `sentinel-2`")
    title: str = Field(description="name for people, for example `Sentinel-2 L2A`")
    bands: tuple[Band, ...] = Field(min_length=1, description="bands in the order of the network's input")
    units: Units = Field(description="units of the values a cube gives: reflectance (fraction) or dB")
    value_range: tuple[float, float] = Field(description="values clipped to it and scaled to 0..1")
    resolution: float = Field(gt=0, description="ground sampling distance in metres")
    validity: ClassMask | None = Field(default=None, description="layer that tells clear from cloud, if any")
    other_masks: tuple[ClassMask | BitMask, ...] = Field(
        default=(), description="layers that tell the same where `validity` is absent, the preferred one first"
    )
    name_words: tuple[str, ...] = Field(
        default=(), description="words that cubes add to a band's or a layer's name, such as s2, sr, 10m"
    )
    physical_range: tuple[float, float] | None = Field(
        default=None, description="values in the sensor's units that a surface can have; what lies outside is missing"
    )
    sets_dates: bool = Field(default=False, description="whether its clear dates are the embedding's dates")
    averaged_acquisitions: int = Field(
        default=1, ge=1, description="acquisitions averaged in linear power against speckle (dB only)"
    )
    digital_number_scale: float | None = Field(
        default=None, description="factor from stored integers to units where a file does not say it"
    )
    offset_since_baseline: tuple[float, float] | None = Field(
        default=None, description="(processing baseline, offset in digital numbers) that products add since it"
    )
    offset_since_date: str | None = Field(
        default=None, description="date since which every new product has that offset"
    )
    offsets: tuple[float, ...] = Field(
        default=(-120, -90, -60, -40, -20, 0, 20, 40, 60, 90, 120),
        description="days from the centre date that the encoder samples",
    )
    pictures: tuple[tuple[str, str, str], ...] = Field(
        default=(), description="bands shown as red, green and blue; the first triple a cube has is taken"
    )
    encoding_size: int = Field(default=32, ge=1, description="values in the sensor's own encoding")

    @model_validator(mode="after")
    def _consistent(self) -> "Sensor":
        low, high = self.value_range
        if low >= high:
            raise ValueError(f"value_range must rise, came {low} to {high}")
        if len(set(self.band_names)) < len(self.bands):
            raise ValueError(f"two bands share a name: {', '.join(self.band_names)}")
        if 0 not in self.offsets or list(self.offsets) != sorted(set(self.offsets)):
            raise ValueError(f"offsets must rise and hold 0, the centre date, came {self.offsets}")
        if self.encoding_size <= len(self.bands):
            raise ValueError(f"encoding_size must exceed the number of bands ({len(self.bands)})")
        if self.averaged_acquisitions > 1 and self.units != "dB":
            raise ValueError("averaged_acquisitions averages power: only a sensor in dB can have it")
        return self

    @property
    def masks(self) -> tuple[ClassMask | BitMask, ...]:
        """Layers that tell clear from cloud, the preferred one first."""
        return (self.validity, *self.other_masks) if self.validity is not None else self.other_masks

    def has_same_inputs(self, other: "Sensor") -> bool:
        """Whether a network of one takes the values of the other: what files call a band does not matter."""
        return (self.band_names, self.units, self.value_range) == (other.band_names, other.units, other.value_range)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order."""
        return tuple(band.name for band in self.bands)

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Clip values in the sensor's units to its range and map the range to 0..1 (any shape)."""
        low, high = self.value_range
        return (np.clip(values, low, high) - low) / (high - low)

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Map 0..1 back to the sensor's units (any shape)."""
        low, high = self.value_range
        return values * (high - low) + low


_REFLECTANCE_WORDS = ("sr", "boa", "nbart", "nbar", "surface", "reflectance", "band")
REFLECTANCE_RANGE = (-0.2, 2.0)
"""Surface reflectance that can be measured: atmospheric correction goes a little below 0, at most by the product's
own offset of 0.1 or 0.2; sun glint, clouds and snow on slopes towards a low sun reach beyond 1, not beyond 2."""

BACKSCATTER_RANGE = (-60.0, 40.0)
"""Backscatter in dB that can be measured: noise of the instrument is near -30 and leaves some numbers below it once
subtracted, the strongest corner reflectors of a city reach about 35."""

SENTINEL_1 = Sensor(
    name="sentinel-1",
    title="Sentinel-1",
    bands=(Band(name="VV", aliases=("vv",)), Band(name="VH", aliases=("vh",))),
    units="dB",
    value_range=(-30, 5),
    resolution=10,
    name_words=(
        *("s1", "s1a", "s1b", "s1c", "sentinel1", "sentinel1a", "sentinel1b", "sentinel1c", "iw", "grd", "rtc"),
        *("sigma", "sigma0", "gamma", "gamma0", "nought", "naught", "backscatter", "band", "10m", "20m"),
        *("db", "decibel", "decibels", "linear", "lin", "power"),
    ),
    physical_range=BACKSCATTER_RANGE,
    averaged_acquisitions=3,
    encoding_size=16,
)

SENTINEL_2 = Sensor(
    name="sentinel-2",
    title="Sentinel-2 L2A",
    bands=(
        Band(name="B02", aliases=("blue",), wavelength=490),
        Band(name="B03", aliases=("green",), wavelength=560),
        Band(name="B04", aliases=("red",), wavelength=665),
        Band(name="B05", aliases=("rededge1", "rededge071", "rededge"), wavelength=705),
        Band(name="B06", aliases=("rededge2", "rededge075", "rededge"), wavelength=740),
        Band(name="B07", aliases=("rededge3", "rededge078", "rededge"), wavelength=783),
        Band(name="B08", aliases=("nir", "nir1", "broadnir", "nirbroad", "widenir", "nirwide"), wavelength=842),
        Band(
            name="B8A",
            aliases=("nir08", "B08A", "nir2", "narrownir", "nirnarrow", "rededge4"),
            wavelength=865,
        ),
        # swir2 is B11 next to swir3 and B12 next to swir1: archives count from 1 or from 2
        Band(name="B11", aliases=("swir16", "swir1", "swir2"), wavelength=1610),
        Band(name="B12", aliases=("swir22", "swir2", "swir3"), wavelength=2190),
    ),
    units="reflectance",
    value_range=(0, 1),
    resolution=10,
    validity=ClassMask(
        variable="SCL",
        aliases=("sceneclassification", "sceneclassificationlayer", "sceneclassificationmap"),
        clear=(4, 5, 7),
        water=(6,),
        unclear=(1, 2, 3, 8, 9, 10, 11),
    ),
    other_masks=(BitMask(variable="QA60", unclear_bits=(10, 11), not_produced=("2022-01-25", "2024-02-28")),),
    name_words=(
        *("s2", "s2a", "s2b", "s2c", "sentinel2", "sentinel2a", "sentinel2b", "sentinel2c", "l2a", "s2l2a", "msi"),
        *("msil2a", "10m", "20m", "60m", *_REFLECTANCE_WORDS),
    ),
    physical_range=REFLECTANCE_RANGE,
    sets_dates=True,
    digital_number_scale=1e-4,
    offset_since_baseline=(4.0, -1000),
    offset_since_date="2022-01-25",
    pictures=(("B04", "B03", "B02"), ("B12", "B8A", "B05")),
    encoding_size=58,
)

LANDSAT_8 = Sensor(
    name="landsat-8",
    title="Landsat 8/9",
    bands=(
        Band(name="B02", aliases=("blue",), wavelength=482),
        Band(name="B03", aliases=("green",), wavelength=561),
        Band(name="B04", aliases=("red",), wavelength=655),
        Band(name="B05", aliases=("nir08", "nir"), wavelength=865),
        Band(name="B06", aliases=("swir16", "swir1"), wavelength=1609),
        Band(name="B07", aliases=("swir22", "swir2"), wavelength=2201),
    ),
    units="reflectance",
    value_range=(0, 1),
    resolution=30,
    validity=ClassMask(
        variable="pixel_qa",
        clear=(322, 386, 834, 898, 1346),
        water=(324, 388, 836, 900, 1348),
        missing=(0, 1),
    ),
    other_masks=(
        # Collection 2: 0 fill, 1 dilated cloud, 3 cloud, 4 shadow, 5 snow, 7 water (`catalog.storage` has the rest)
        BitMask(
            variable="qa_pixel",
            unclear_bits=(1, 3, 4, 5),
            water_bits=(7,),
            missing_bits=(0,),
            digital_numbers=(2.75e-5, -0.2),
        ),
    ),
    name_words=(
        *("l8", "l9", "lc08", "lc09", "landsat8", "landsat9", "landsat", "ls8", "ls9", "oli", "30m"),
        *_REFLECTANCE_WORDS,
    ),
    physical_range=REFLECTANCE_RANGE,
    digital_number_scale=1e-4,
    encoding_size=36,
)

_REGISTRY: dict[str, Sensor] = {}


def register_sensor(sensor: Sensor) -> Sensor:
    """Make a declared sensor known by name to cubes, training and the command line."""
    known = _REGISTRY.get(sensor.name)
    if known is not None and known != sensor:
        raise UsageError(f"sensor {sensor.name!r} is declared already, differently: choose another name")
    _REGISTRY[sensor.name] = sensor
    return sensor


def sensor_by_name(name: str) -> Sensor:
    """Return a declared sensor; `UsageError` names the known ones."""
    if name not in _REGISTRY:
        raise UsageError(f"unknown sensor {name!r}: known are {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


def known_sensors() -> tuple[Sensor, ...]:
    """All declared sensors, in the order they were declared."""
    return tuple(_REGISTRY.values())


for _sensor in (SENTINEL_2, SENTINEL_1, LANDSAT_8):
    register_sensor(_sensor)
