"""Declared catalogues: the address of each, the collections that hold a sensor, and the names of their assets."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from thalweg.earth.sensors import Declaration
from thalweg.errors import MissingPathError, UsageError
from thalweg.io.redaction import redact

Level = Literal["surface reflectance", "calibrated power", "digital numbers"]


class Product(Declaration):
    """Declaration of a collection that holds a sensor's data.

    Attributes:
        sensor: name of the declared sensor.
        collection: identifier of the STAC collection.
        assets: key of the asset by band or mask of the sensor.
        level: processing level of the numbers.
        platforms: platforms whose items are used; all if empty.
        credentials: environment variables without which the files cannot be read.
    """

    sensor: str
    collection: str
    assets: Mapping[str, str]
    level: Level = "surface reflectance"
    platforms: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()


class Catalogue(Declaration):
    """Declaration of a STAC API or a static catalogue.

    Attributes:
        name: name on the command line.
        url: address of the root, or a path.
        products: known collections, a sensor's preferred one first.
        signed: whether addresses are signed by the package planetary-computer.
        reading: GDAL options for reading its files.
        key_help: where to get credentials.
    """

    name: str
    url: str
    products: tuple[Product, ...]
    signed: bool = False
    reading: Mapping[str, str] = {}
    key_help: str = ""

    def products_of(self, sensor: str) -> tuple[Product, ...]:
        """Return the collections that hold a sensor, the preferred one first."""
        return tuple(product for product in self.products if product.sensor == sensor)

    def signer(self) -> Callable[[str], str] | None:
        """Return the function that signs an address; None if the catalogue needs none.

        Raises:
            UsageError: the package that signs is not installed.
        """
        if not self.signed:
            return None
        try:
            from planetary_computer import sign_url
        except ImportError as error:
            raise UsageError(
                f"{self.name}: its files need signed addresses: install thalweg[planetary-computer]"
            ) from error
        return sign_url

    def check_credentials(self, product: Product) -> None:
        """Check that the environment has the credentials that a product needs.

        Raises:
            UsageError: an environment variable is missing; the message names it.
        """
        missing = [name for name in product.credentials if not os.environ.get(name)]
        if missing:
            raise UsageError(
                f"{self.name}: the files of {product.collection} need credentials: set {' and '.join(missing)} "
                f"({self.key_help})"
            )


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_S2_COMMON = {
    **dict(zip(_S2_BANDS[:3], ("blue", "green", "red"), strict=True)),
    **{"B05": "rededge1", "B06": "rededge2", "B07": "rededge3", "B08": "nir", "B8A": "nir08"},
    **{"B11": "swir16", "B12": "swir22", "SCL": "scl"},
}
_S2_RESOLUTION = {name: f"{name}_{10 if name in ('B02', 'B03', 'B04', 'B08') else 20}m" for name in (*_S2_BANDS, "SCL")}
_LANDSAT = {
    **{"B02": "blue", "B03": "green", "B04": "red", "B05": "nir08", "B06": "swir16", "B07": "swir22"},
    "qa_pixel": "qa_pixel",
}
_LANDSAT_8_AND_9 = ("landsat-8", "landsat-9")
_RADAR = {"VV": "vv", "VH": "vh"}
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

PLANETARY_COMPUTER = Catalogue(
    name="planetary-computer",
    url="https://planetarycomputer.microsoft.com/api/stac/v1",
    signed=True,
    products=(
        Product(sensor="sentinel-2", collection="sentinel-2-l2a", assets=_same(*_S2_BANDS, "SCL")),
        Product(sensor="sentinel-1", collection="sentinel-1-rtc", assets=_RADAR, level="calibrated power"),
        Product(sensor="sentinel-1", collection="sentinel-1-grd", assets=_RADAR, level="digital numbers"),
        Product(sensor="landsat-8", collection="landsat-c2-l2", assets=_LANDSAT, platforms=_LANDSAT_8_AND_9),
    ),
)

# The older collection sentinel-2-l2a has wrong flags for the baseline's offset on some items
# (github.com/Element84/earth-search, issues 66 and 71); the reprocessed collection is preferred.
EARTH_SEARCH = Catalogue(
    name="earth-search",
    url="https://earth-search.aws.element84.com/v1",
    reading={"AWS_REQUEST_PAYER": "requester"},
    key_help="its bucket charges the reader's AWS account",
    products=(
        Product(sensor="sentinel-2", collection="sentinel-2-c1-l2a", assets=_S2_COMMON),
        Product(sensor="sentinel-2", collection="sentinel-2-l2a", assets=_S2_COMMON),
        Product(
            sensor="sentinel-1",
            collection="sentinel-1-grd",
            assets=_RADAR,
            level="digital numbers",
            credentials=_AWS_KEYS,
        ),
        Product(
            sensor="landsat-8",
            collection="landsat-c2-l2",
            assets=_LANDSAT,
            platforms=_LANDSAT_8_AND_9,
            credentials=_AWS_KEYS,
        ),
    ),
)

CDSE = Catalogue(
    name="cdse",
    url="https://stac.dataspace.copernicus.eu/v1",
    reading={"AWS_S3_ENDPOINT": "eodata.dataspace.copernicus.eu", "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_HTTPS": "YES"},
    key_help="S3 keys of the Copernicus Data Space Ecosystem",
    products=(
        Product(sensor="sentinel-2", collection="sentinel-2-l2a", assets=_S2_RESOLUTION, credentials=_AWS_KEYS),
        Product(
            sensor="sentinel-1",
            collection="sentinel-1-grd",
            assets=_RADAR,
            level="digital numbers",
            credentials=_AWS_KEYS,
        ),
    ),
)

CATALOGUES = {catalogue.name: catalogue for catalogue in (PLANETARY_COMPUTER, EARTH_SEARCH, CDSE)}


def catalogue_by_name(name: str) -> Catalogue:
    """Return a declared catalogue by its name, or another one by its URL or path.

    Of another catalogue, the collections of the declared ones are known by their names.

    Raises:
        MissingPathError: `name` is no declared catalogue, no URL and no path that exists.
    """
    for catalogue in CATALOGUES.values():
        if name.rstrip("/") in (catalogue.name, catalogue.url):
            return catalogue
    if "://" not in name and not Path(name).exists():
        raise MissingPathError(
            f"catalogue {redact(name)!r}: expected {', '.join(CATALOGUES)}, a URL, or a path that exists"
        )
    products: dict[tuple[str, str], Product] = {}
    for catalogue in CATALOGUES.values():
        for product in catalogue.products:
            products.setdefault((product.sensor, product.collection), product.model_copy(update={"credentials": ()}))
    return Catalogue(name=redact(name), url=name, products=tuple(products.values()))
