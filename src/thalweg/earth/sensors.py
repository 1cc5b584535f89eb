"""The declared sensors and their registry: Sentinel-1, Sentinel-2, Landsat 8/9, and those that a user registers.

A new sensor is one `Sensor` passed to `register_sensor`; nothing else in the package depends on a sensor's name.
"""

from thalweg.earth.declarations import (
    Band,
    BitMask,
    ClassMask,
    CommonName,
    Declaration,
    Mask,
    MaskEncoding,
    Quality,
    Sensor,
    StorageEncoding,
    Units,
)
from thalweg.errors import UsageError, unknown_name

__all__ = [
    "BACKSCATTER_RANGE",
    "LANDSAT_8",
    "REFLECTANCE_RANGE",
    "SENTINEL_1",
    "SENTINEL_2",
    "Band",
    "BitMask",
    "ClassMask",
    "CommonName",
    "Declaration",
    "Mask",
    "MaskEncoding",
    "Quality",
    "Sensor",
    "StorageEncoding",
    "Units",
    "known_sensors",
    "register_sensor",
    "sensor_by_name",
]

_REFLECTANCE_WORDS = ("sr", "boa", "nbart", "nbar", "surface", "reflectance", "band")
REFLECTANCE_RANGE = (-0.2, 2.0)
"""Range of surface reflectance that can be measured (fraction). Atmospheric correction goes a little below 0, at most
by the product's own offset of 0.1 or 0.2. Sun glint, clouds and snow on slopes towards a low sun exceed 1, not 2."""

BACKSCATTER_RANGE = (-60.0, 40.0)
"""Range of backscatter that can be measured, in dB. The instrument's noise is near -30 and leaves some lower numbers
once it is subtracted; the strongest corner reflectors of a city reach about 35."""

SENTINEL_1 = Sensor(
    name="sentinel-1",
    title="Sentinel-1",
    address="https://sentiwiki.copernicus.eu/web/sentinel-1",
    bands=(Band(name="VV", aliases=("vv",)), Band(name="VH", aliases=("vh",))),
    units="dB",
    value_range=(-30, 5),
    resolution=10,
    other_names=(
        *("s1", "s1a", "s1b", "s1c", "sentinel-1a", "sentinel-1b", "sentinel-1c"),
        *("sigma0", "gamma0"),
    ),
    product_names=(r"S1[A-D]_\w{2}_\w{4}_\w{4}_(?P<date>\d{8}T\d{6})_",),
    name_words=(
        *("s1", "s1a", "s1b", "s1c", "sentinel1", "sentinel1a", "sentinel1b", "sentinel1c", "iw", "grd", "rtc"),
        *("sigma", "sigma0", "gamma", "gamma0", "nought", "naught", "backscatter", "band", "10m", "20m"),
        *("db", "decibel", "decibels", "linear", "lin", "power"),
    ),
    physical_range=BACKSCATTER_RANGE,
    averaged_overpasses=3,
    encoding_size=16,
)

SENTINEL_2 = Sensor(
    name="sentinel-2",
    title="Sentinel-2 L2A",
    address="https://sentiwiki.copernicus.eu/web/sentinel-2",
    bands=(
        Band(name="B02", aliases=("blue",), wavelength=490, common_name="blue"),
        Band(name="B03", aliases=("green",), wavelength=560, common_name="green"),
        Band(name="B04", aliases=("red",), wavelength=665, common_name="red"),
        Band(name="B05", aliases=("rededge1", "rededge071", "rededge"), wavelength=705, common_name="rededge071"),
        Band(name="B06", aliases=("rededge2", "rededge075", "rededge"), wavelength=740, common_name="rededge075"),
        Band(name="B07", aliases=("rededge3", "rededge078", "rededge"), wavelength=783, common_name="rededge078"),
        Band(
            name="B08",
            aliases=("nir", "nir1", "broadnir", "nirbroad", "widenir", "nirwide"),
            wavelength=842,
            common_name="nir",
        ),
        Band(
            name="B8A",
            aliases=("nir08", "B08A", "nir2", "narrownir", "nirnarrow", "rededge4"),
            wavelength=865,
            common_name="nir08",
        ),
        # swir2 is B11 next to swir3 and B12 next to swir1: archives count from 1 or from 2
        Band(name="B11", aliases=("swir16", "swir1", "swir2"), wavelength=1610, common_name="swir16"),
        Band(name="B12", aliases=("swir22", "swir2", "swir3"), wavelength=2190, common_name="swir22"),
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
        storage=MaskEncoding(dtype="uint8", fill=0),
    ),
    other_masks=(BitMask(variable="QA60", unclear_bits=(10, 11), not_produced=("2022-01-25", "2024-02-28")),),
    other_names=("s2", "s2a", "s2b", "s2c", "sentinel-2a", "sentinel-2b", "sentinel-2c", "l2a", "msil2a"),
    product_names=(r"S2[A-D]_MSIL\w{2}_(?P<date>\d{8}T\d{6})_",),
    image_names=(r"(?<![A-Za-z0-9])T\d\d[A-Z]{3}_\d{8}T\d{6}(?=[_.]|$)",),
    name_words=(
        *("s2", "s2a", "s2b", "s2c", "sentinel2", "sentinel2a", "sentinel2b", "sentinel2c", "l2a", "s2l2a", "msi"),
        *("msil2a", "10m", "20m", "60m", *_REFLECTANCE_WORDS),
    ),
    physical_range=REFLECTANCE_RANGE,
    is_reference=True,
    digital_number_scale=1e-4,
    offset_since_baseline=(4.0, -1000),
    offset_since_date="2022-01-25",
    rgb_previews=(("B04", "B03", "B02"), ("B12", "B8A", "B05")),
    encoding_size=58,
)

LANDSAT_8 = Sensor(
    name="landsat-8",
    title="Landsat 8/9",
    address="https://www.usgs.gov/landsat-missions/landsat-collection-2-level-2-science-products",
    bands=(
        Band(name="B02", aliases=("blue",), wavelength=482, common_name="blue"),
        Band(name="B03", aliases=("green",), wavelength=561, common_name="green"),
        Band(name="B04", aliases=("red",), wavelength=655, common_name="red"),
        Band(name="B05", aliases=("nir08", "nir"), wavelength=865, common_name="nir08"),
        Band(name="B06", aliases=("swir16", "swir1"), wavelength=1609, common_name="swir16"),
        Band(name="B07", aliases=("swir22", "swir2"), wavelength=2201, common_name="swir22"),
    ),
    units="reflectance",
    value_range=(0, 1),
    resolution=30,
    # Collection 2 level 2: bits 0 fill, 1 dilated cloud, 3 cloud, 4 cloud shadow, 5 snow, 7 water (USGS, Landsat 8-9
    # Collection 2 Level 2 Science Product Guide)
    validity=BitMask(
        variable="qa_pixel",
        unclear_bits=(1, 3, 4, 5),
        water_bits=(7,),
        missing_bits=(0,),
        storage=MaskEncoding(dtype="uint16", fill=1),
    ),
    # Collection 1, whose surface reflectance had another scale
    other_masks=(
        ClassMask(
            variable="pixel_qa",
            clear=(322, 386, 834, 898, 1346),
            water=(324, 388, 836, 900, 1348),
            missing=(0, 1),
            digital_numbers=(1e-4, 0.0),
            storage=MaskEncoding(dtype="uint16", fill=1),
        ),
    ),
    other_names=("landsat-9", "l8", "l9", "lc08", "lc09", "ls8", "ls9"),
    product_names=(r"L[COTEM]0\d_\w{4}_\d{6}_(?P<date>\d{8})_\d{8}_",),
    name_words=(
        *("l8", "l9", "lc08", "lc09", "landsat8", "landsat9", "landsat", "ls8", "ls9", "oli", "30m"),
        *_REFLECTANCE_WORDS,
    ),
    physical_range=REFLECTANCE_RANGE,
    digital_number_scale=2.75e-5,
    digital_number_offset=-0.2,
    storage=StorageEncoding(dtype="uint16", scale=2.75e-5, offset=-0.2, fill=0),
    encoding_size=36,
)

_REGISTRY = {sensor.name: sensor for sensor in (SENTINEL_2, SENTINEL_1, LANDSAT_8)}


def register_sensor(sensor: Sensor) -> Sensor:
    """Make a declared sensor known by its name to cubes, catalogues, training and the command line.

    The registration lasts for the process. Registering an equal declaration again does nothing.

    Args:
        sensor: the declaration.

    Returns:
        The sensor.

    Raises:
        UsageError: `sensor` is no `Sensor`, or another declaration has its name.

    Example:
        >>> mission = register_sensor(
        ...     Sensor(
        ...         name="my-mission",
        ...         title="My mission",
        ...         bands=(Band(name="red", common_name="red"), Band(name="nir", common_name="nir")),
        ...         units="reflectance",
        ...         value_range=(0, 1),
        ...         resolution=3,
        ...         validity=ClassMask(variable="mission_mask", clear=(1,)),
        ...         encoding_size=12,
        ...     )
        ... )
    """
    if not isinstance(sensor, Sensor):
        raise UsageError(f"`sensor` is of type {type(sensor).__name__}: expected a thalweg.Sensor")
    known = _REGISTRY.get(sensor.name)
    if known is not None and known != sensor:
        raise UsageError(f"`sensor`: {sensor.name!r} is declared already, differently: choose another name")
    _REGISTRY[sensor.name] = sensor
    return sensor


def sensor_by_name(name: str) -> Sensor:
    """Return the declared sensor of a name.

    Raises:
        UsageError: no sensor has the name; the message lists the known names.
    """
    if name not in _REGISTRY:
        raise unknown_name("sensor", name, sorted(_REGISTRY))
    return _REGISTRY[name]


def known_sensors() -> tuple[Sensor, ...]:
    """Return all declared sensors, in the order of their registration."""
    return tuple(_REGISTRY.values())
