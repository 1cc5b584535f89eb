"""From a request and a catalogue to scenes: an API is searched, a static catalogue is walked through."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from thalweg.earth.catalog.catalogues import Catalogue, Product
from thalweg.earth.catalog.request import Request
from thalweg.earth.catalog.scenes import Scene
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    import pystac
    import pystac_client


@dataclass(frozen=True)
class Patience:
    """How often a server is asked again after a fault (5xx, 429, no answer), and how long between.

    Attributes:
        attempts: requests in all.
        delay: seconds before the second request; doubled before each further one.
        timeout: seconds without an answer that count as a fault.
    """

    attempts: int = 6
    delay: float = 1.0
    timeout: float = 60.0


class Archive:
    """An open catalogue."""

    def __init__(self, catalogue: Catalogue, patience: Patience | None = None) -> None:
        """Open a catalogue.

        Raises:
            UsageError: what lies there is no STAC.
            ThalwegError: the server does not answer.
        """
        self.catalogue = catalogue
        self._io = http_reader(patience or Patience())
        root = self._read_root()
        self._api = None
        if "conformsTo" in root or any(link.get("rel") == "search" for link in root.get("links", [])):
            self._api = self._asked(lambda: _open_api(catalogue.url, self._io))
        else:
            self._static = self._asked(lambda: _open_static(root, catalogue.url, self._io))

    def scenes(self, request: Request, sensor: str) -> list[Scene]:
        """All scenes of a sensor inside a request's box and time.

        Raises:
            UsageError: there is none; the line says which filter removed the last one.
            ThalwegError: the server does not answer.
        """
        products = self.catalogue.products_of(sensor)
        if not products:
            raise UsageError(
                f"{self.catalogue.name}: no collection of {sensor} is known there: choose another catalogue"
            )
        scenes: list[Scene] = []
        for product in self._held(products, sensor):
            # Calibrated power and digital numbers do not mix: the first level that has anything is taken.
            if not scenes or product.level == scenes[0].product.level:
                scenes += self._asked(partial(self._all_of, request, product))
        if not scenes:
            raise UsageError(self._asked(lambda: self._why_empty(request, sensor)))
        for product in {scene.product.collection: scene.product for scene in scenes}.values():
            self.catalogue.check_credentials(product)
        return scenes

    def _held(self, products: tuple[Product, ...], sensor: str) -> list[Product]:
        """The known collections that the catalogue really has, the preferred one first."""
        here = self._asked(lambda: [collection.id for collection in self._collections()])
        held = [product for product in products if product.collection in here]
        if not held:
            raise UsageError(
                f"{self.catalogue.name}: no collection of {sensor}: expected "
                f"{' or '.join(dict.fromkeys(product.collection for product in products))}, "
                f"it has {', '.join(sorted(here)) or 'none'}"
            )
        return held

    def _collections(self) -> "Iterator[pystac.Collection]":
        if self._api is not None:
            yield from self._api.get_collections()
        else:
            yield from _collections_under(self._static)

    def _all_of(self, request: Request, product: Product) -> list[Scene]:
        return list(self._found(request, product))

    def _found(self, request: Request, product: Product) -> Iterator[Scene]:
        for item in self._items(request, product.collection, box=True, time=True):
            platform = str(item.properties.get("platform", "")).lower().replace("_", "-")
            if not product.platforms or platform in product.platforms:
                scene = Scene(item, product)
                if set(scene.assets) & set(scene.sensor.band_names):
                    yield scene

    def _items(
        self, request: Request, collection: str, box: bool, time: bool, most: int | None = None
    ) -> "Iterator[pystac.Item]":
        """Items of a collection that pass the filters named."""
        if self._api is not None:
            first, last = request.interval
            search = self._api.search(
                collections=[collection],
                bbox=request.bbox if box else None,
                datetime=f"{first.isoformat()}Z/{last.floor('s').isoformat()}Z" if time else None,
                limit=100 if most is None else most,
                max_items=most,
            )
            yield from search.items()
            return
        for held in _collections_under(self._static):
            if held.id == collection:
                for item in held.get_items(recursive=True):
                    if (not box or _touches(item, request)) and (not time or _within(item, request)):
                        item.make_asset_hrefs_absolute()
                        yield item

    def _why_empty(self, request: Request, sensor: str) -> str:
        """The line that says which filter removed everything."""
        name = self.catalogue.name
        (west, south, east, north), (first, last) = request.bbox, request.interval
        products = self._held(self.catalogue.products_of(sensor), sensor)
        collections = list(dict.fromkeys(product.collection for product in products))
        shown = " or ".join(collections)

        def any_left(box: bool, time: bool) -> bool:
            return any(
                next(self._items(request, collection, box, time, most=1), None) is not None
                for collection in collections
            )

        if not any_left(box=False, time=False):
            return f"{name}: nothing found: the collection {shown} is empty"
        if not any_left(box=True, time=False):
            return (
                f"{name}: nothing found: no item of {shown}, of any time, touches the box "
                f"{west:g} {south:g} {east:g} {north:g}: check --bbox"
            )
        if not any_left(box=True, time=True):
            return (
                f"{name}: nothing found: {shown} has items in the box, none of {first:%Y-%m-%d} to "
                f"{last:%Y-%m-%d}: check --time"
            )
        platforms = dict.fromkeys(platform for product in products for platform in product.platforms)
        wanted = f"of the platforms {', '.join(platforms)} " if platforms else ""
        return f"{name}: nothing found: {shown} has items there and then, none {wanted}with bands of {sensor}"

    def _read_root(self) -> dict[str, Any]:
        url = self.catalogue.url
        try:
            root = json.loads(self._asked(lambda: self._io.read_text(url)))
        except (ValueError, IsADirectoryError) as error:
            raise UsageError(f"{url}: no STAC: expected a catalogue's JSON (catalog.json), or an API's root") from error
        if not isinstance(root, dict) or "stac_version" not in root or root.get("type") == "Feature":
            raise UsageError(f"{url}: no STAC: expected the JSON of a catalogue or collection, with a stac_version")
        return root

    def _asked(self, question: Callable[[], Any]) -> Any:
        """What the catalogue answers; its faults as one line."""
        from pystac.errors import STACError
        from pystac_client.exceptions import APIError

        url = self.catalogue.url
        try:
            return question()
        except APIError as error:
            reason = " ".join(str(error).split())[:160]
            status = getattr(error, "status_code", None)  # not there where no answer came
            if status is not None and status < 500:
                raise UsageError(f"{url}: no STAC there (status {status}): {reason}") from error
            raise ThalwegError(f"{url}: does not answer ({reason}): try again later") from error
        except (STACError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UsageError(f"{url}: no valid STAC ({reason})") from error


def http_reader(patience: Patience) -> Any:
    """pystac-client's reader with its own retries, doubled in time from one to the next."""
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    retries = Retry(
        total=patience.attempts - 1,
        backoff_factor=patience.delay / 2 if patience.delay else 0,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
    )
    return StacApiIO(max_retries=retries, timeout=patience.timeout)


def _open_api(url: str, reader: Any) -> "pystac_client.Client":
    import pystac_client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what an API does not declare it conforms to is tried all the same
        return pystac_client.Client.open(url, stac_io=reader)


def _open_static(root: dict[str, Any], url: str, reader: Any) -> "pystac.Catalog":
    """A catalogue of plain files: read with the same retries, its children plain objects of pystac."""
    import pystac

    class StaticReader(pystac.StacIO):
        def read_text(self, source: Any, *_: Any, **__: Any) -> str:
            return str(reader.read_text(str(source.href if isinstance(source, pystac.Link) else source)))

        def write_text(self, *_: Any, **__: Any) -> None:
            raise ThalwegError("catalogues are only read here, never written")

    kind = pystac.Collection if root["type"] == "Collection" else pystac.Catalog
    opened = kind.from_dict(root, href=url if "://" in url else pystac.utils.make_absolute_href(url))
    opened.set_root(opened)
    opened._stac_io = StaticReader()
    return opened


def _collections_under(node: "pystac.Catalog") -> "Iterator[pystac.Collection]":
    import pystac

    if isinstance(node, pystac.Collection):
        yield node
    else:
        for child in node.get_children():
            yield from _collections_under(child)


def _touches(item: "pystac.Item", request: Request) -> bool:
    from shapely.geometry import box, shape

    if item.geometry is not None:
        return bool(shape(item.geometry).intersects(box(*request.bbox)))
    return item.bbox is not None and bool(box(*item.bbox).intersects(box(*request.bbox)))


def _within(item: "pystac.Item", request: Request) -> bool:
    first, last = request.interval
    start = item.datetime or item.properties["start_datetime"]
    end = item.datetime or item.properties["end_datetime"]
    return pd.Timestamp(start).tz_convert(None) <= last and pd.Timestamp(end).tz_convert(None) >= first
