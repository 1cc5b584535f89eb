"""From a request and a catalogue to scenes: an API is searched, a static catalogue is walked through."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from thalweg.earth.stac.catalogues import Catalogue, Product
from thalweg.earth.stac.items import OddItemError, footprint_of, is_link, item_of, shown
from thalweg.earth.stac.request import Request
from thalweg.earth.stac.scenes import Scene
from thalweg.earth.stac.static_catalogue import MAX_ITEMS, StaticCatalogue
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.redaction import public_cause, redact, redact_logs

if TYPE_CHECKING:
    import pystac
    import pystac_client


@dataclass(frozen=True)
class RetryPolicy:
    """How often a server is asked again after a fault (5xx, 429, no answer), and how long between.

    Attributes:
        attempts: requests in all.
        delay: seconds before the second request; doubled before each further one.
        timeout: seconds without an answer that count as a fault.
    """

    attempts: int = 6
    delay: float = 1.0
    timeout: float = 60.0


class CatalogueClient:
    """An open catalogue.

    Attributes:
        catalogue: what is declared of it.
        skipped: item or document -> why it was left out; filled while searching.
    """

    def __init__(self, catalogue: Catalogue, patience: RetryPolicy | None = None) -> None:
        """Open a catalogue.

        Raises:
            UsageError: what lies there is no STAC.
            ThalwegError: the server does not answer.
        """
        self.catalogue = catalogue
        self.skipped: dict[str, str] = {}
        self._io = http_reader(patience or RetryPolicy())
        root = self._read_root()
        self._api: pystac_client.Client | None = None
        links = root.get("links")
        if "conformsTo" in root or any(is_link(link) and link["rel"] == "search" for link in links or ()):
            self._api = self._asked(lambda: _open_api(catalogue.url, self._io))
        else:
            href = catalogue.url if "://" in catalogue.url else _absolute(catalogue.url)
            self._static = StaticCatalogue(root, href, self._io.read_text, self._skip)

    def scenes(self, request: Request, sensor: str) -> list[Scene]:
        """All scenes of a sensor inside a request's box and time.

        Raises:
            UsageError: there is none; the line says which filter removed the last one.
            ThalwegError: the server does not answer.
        """
        products = self.catalogue.products_of(sensor)
        if not products:
            raise UsageError(
                f"{redact(self.catalogue.name)}: no collection of {sensor} is known there: choose another catalogue"
            )
        scenes: list[Scene] = []
        for product in self._held(products, sensor):
            # Calibrated power and digital numbers do not mix: the first level that has anything is taken.
            if not scenes or product.level == scenes[0].product.level:
                scenes += self._asked(partial(self._all_of, request, product))
        if not scenes:
            raise UsageError(self._asked(lambda: self._why_empty(request, sensor)) + self._and_skipped())
        for product in {scene.product.collection: scene.product for scene in scenes}.values():
            self.catalogue.check_credentials(product)
        return scenes

    def _held(self, products: tuple[Product, ...], sensor: str) -> list[Product]:
        """The known collections that the catalogue really has, the preferred one first."""
        here = self._asked(lambda: list(self._collections()))
        held = [product for product in products if product.collection in here]
        if not held:
            raise UsageError(
                f"{redact(self.catalogue.name)}: no collection of {sensor}: expected "
                f"{' or '.join(dict.fromkeys(product.collection for product in products))}, "
                f"it has {', '.join(sorted(here)) or 'none'}{self._and_skipped()}"
            )
        return held

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.setdefault(redact(name), reason)

    def _and_skipped(self) -> str:
        """What was left out, at the end of a line that says what is not there."""
        if not self.skipped:
            return ""
        name, reason = next(iter(self.skipped.items()))
        return f" ({len(self.skipped)} odd entries skipped, the first: {name}: {reason})"

    def _collections(self) -> Iterator[str]:
        """Identifiers of the collections."""
        if self._api is None:
            yield from (name for name, _ in self._static.collections())
            return
        url = self._api._collections_href()
        for page in self._pages(self._io.get_pages(url), "collections"):
            for collection in page:
                name = collection.get("id") if isinstance(collection, dict) else None
                if isinstance(name, str):
                    yield name
                else:
                    self._skip(f"{url}, a collection", f"{shown(collection)}: expected an object with an id")

    def _pages(self, pages: Iterator[Any], entries: str) -> Iterator[list[Any]]:
        """The entries of an API's pages, until there are none or a page comes again, which is told."""
        seen: set[str] = set()
        for page in pages:
            listed = page.get(entries)
            if not isinstance(listed, list):
                raise ValueError(f"{entries} {shown(listed)}: expected a list")
            content = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
            if content in seen:
                self._skip(f"{self.catalogue.url}, a page", "comes again, its next link is a loop: read once")
                return
            seen.add(content)
            yield listed

    def _all_of(self, request: Request, product: Product) -> list[Scene]:
        return list(self._found(request, product))

    def _found(self, request: Request, product: Product) -> Iterator[Scene]:
        names: set[str] = set()
        for item in self._items(request, product.collection, box=True, time=True):
            platform = str(item.properties.get("platform", "")).lower().replace("_", "-")
            if product.platforms and platform not in product.platforms:
                continue
            scene = Scene(item, product)
            try:
                if not set(scene.assets) & set(scene.sensor.band_names):
                    continue
                scene.check()
            except (OddItemError, UsageError) as error:
                self._skip(item.id, redact(str(error)))
                continue
            if item.id in names:
                self._skip(f"{item.id}, a second one", "the identifier comes twice: the first is taken")
                continue
            names.add(item.id)
            yield scene

    def _items(
        self, request: Request, collection: str, box: bool, time: bool, most: int | None = None
    ) -> "Iterator[pystac.Item]":
        """Items of a collection that pass the filters named; odd ones are skipped and told."""
        first, last = request.interval
        for href, fields in self._documents(request, collection, box, time, most):
            name = fields.get("id") if isinstance(fields, dict) else None
            try:
                footprint = footprint_of(fields)
                if (box and not footprint.touches(request.bbox)) or (
                    time and (footprint.start > last or footprint.end < first)
                ):
                    continue
                yield item_of(fields, footprint, href, keep_paths=self._api is not None)
            except OddItemError as error:
                self._skip(name if isinstance(name, str) and name.strip() else href, str(error))

    def _documents(
        self, request: Request, collection: str, box: bool, time: bool, most: int | None
    ) -> Iterator[tuple[str, Any]]:
        """Addresses and JSON of a collection's items; an API filters them, a static catalogue gives all."""
        if self._api is None:
            yield from self._static.items(collection)
            return
        first, last = request.interval
        search = self._api.search(
            collections=[collection],
            bbox=request.bbox if box else None,
            datetime=f"{first.isoformat()}Z/{last.floor('s').isoformat()}Z" if time else None,
            limit=100 if most is None else most,
            max_items=most,
        )
        count = 0
        for page in self._pages(search.pages_as_dicts(), "features"):
            for fields in page:
                count += 1
                if count > MAX_ITEMS:
                    raise UsageError(
                        f"{redact(self.catalogue.url)}: more than {MAX_ITEMS:,} items: ask for a smaller box or time"
                    )
                yield _own_address(fields) or f"{self.catalogue.url}/item", fields

    def _why_empty(self, request: Request, sensor: str) -> str:
        """The line that says which filter removed everything."""
        name = redact(self.catalogue.name)
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
        url, shown_url = self.catalogue.url, redact(self.catalogue.url)
        try:
            root = json.loads(self._asked(lambda: self._io.read_text(url)))
        except (ValueError, RecursionError, OSError) as error:
            raise UsageError(
                f"{shown_url}: no STAC: expected a catalogue's JSON (catalog.json), or an API's root"
            ) from public_cause(error)
        if not isinstance(root, dict) or "stac_version" not in root or root.get("type") == "Feature":
            raise UsageError(
                f"{shown_url}: no STAC: expected the JSON of a catalogue or collection, with a stac_version"
            )
        links = root.get("links")
        if links is not None and not isinstance(links, list):
            raise UsageError(f"{shown_url}: no STAC: links {shown(links)}: expected a list")
        return root

    def _asked(self, question: Callable[[], Any]) -> Any:
        """What the catalogue answers; its faults as one line."""
        from pystac.errors import STACError
        from pystac_client.exceptions import APIError

        url = redact(self.catalogue.url)
        try:
            return question()
        except APIError as error:
            reason = redact(" ".join(str(error).split()))[:160]
            status = getattr(error, "status_code", None)  # not there where no answer came
            if status is not None and status < 500:
                raise UsageError(f"{url}: no STAC there (status {status}): {reason}") from public_cause(error)
            raise ThalwegError(f"{url}: does not answer ({reason}): try again later") from public_cause(error)
        except OddItemError as error:
            raise UsageError(f"{url}: no valid STAC ({error})") from error
        except (STACError, *_NO_STAC) as error:
            reason = redact(" ".join(str(error).split()))[:160]
            raise UsageError(f"{url}: no valid STAC ({reason})") from public_cause(error)


_NO_STAC = (LookupError, TypeError, ValueError, AttributeError, NotImplementedError, RecursionError)
"""What pystac-client raises on an answer that is JSON and no STAC."""


def http_reader(patience: RetryPolicy) -> Any:
    """pystac-client's reader with its own retries, doubled in time from one to the next."""
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    redact_logs()
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


def _absolute(path: str) -> str:
    import pystac

    return str(pystac.utils.make_absolute_href(path))


def _own_address(fields: Any) -> str | None:
    """The address that an item gives as its own."""
    links = fields.get("links") if isinstance(fields, dict) else None
    if not isinstance(links, list):
        return None
    return next((str(link["href"]) for link in links if is_link(link) and link["rel"] == "self"), None)
