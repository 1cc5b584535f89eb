"""Catalogue client: finds the scenes of a request in a STAC API or a static catalogue."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from thalweg.earth.stac.search.catalogues import Catalogue, Product
from thalweg.earth.stac.search.items import InvalidItemError, footprint_of, is_link, item_of, shorten
from thalweg.earth.stac.search.request import Request
from thalweg.earth.stac.search.scenes import Scene
from thalweg.earth.stac.search.static_catalogue import MAX_ITEMS, StaticCatalogue
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.redaction import public_cause, redact, redact_logs

if TYPE_CHECKING:
    import pystac
    import pystac_client

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Policy for repeating requests after a fault of the server (status 5xx, 429 or no answer).

    Attributes:
        attempts: number of requests in all.
        delay: seconds before the second request; doubled before each further one.
        timeout: seconds without an answer that count as a fault.
    """

    attempts: int = 6
    delay: float = 1.0
    timeout: float = 60.0


class CatalogueClient:
    """Client of one catalogue.

    Attributes:
        catalogue: its declaration.
        skipped: reason for each item or document that was left out, by its name; filled while searching.
    """

    def __init__(self, catalogue: Catalogue, retry_policy: RetryPolicy | None = None) -> None:
        """Read the root of a catalogue.

        Raises:
            UsageError: the address holds no STAC.
            ThalwegError: the server does not answer.
        """
        self.catalogue = catalogue
        self.skipped: dict[str, str] = {}
        self._io = http_reader(retry_policy or RetryPolicy())
        root = self._read_root()
        self._api: pystac_client.Client | None = None
        links = root.get("links")
        if "conformsTo" in root or any(is_link(link) and link["rel"] == "search" for link in links or ()):
            self._api = self._query(lambda: _open_api(catalogue.url, self._io))
        else:
            href = catalogue.url if "://" in catalogue.url else _absolute(catalogue.url)
            self._static = StaticCatalogue(root, href, self._io.read_text, self._skip)

    def scenes(self, request: Request, sensor: str) -> list[Scene]:
        """Return all scenes of a sensor inside a request's box and span of time.

        Raises:
            UsageError: there is none; the message names the filter that removed the last one.
            ThalwegError: the server does not answer.
        """
        products = self.catalogue.products_of(sensor)
        if not products:
            raise UsageError(
                f"{redact(self.catalogue.name)}: no collection of {sensor} is known there: choose another catalogue"
            )
        scenes: list[Scene] = []
        for product in self._available(products, sensor):
            # Calibrated power and digital numbers do not mix: the first level that has a scene is taken.
            if not scenes or product.level == scenes[0].product.level:
                scenes += self._query(partial(self._found, request, product))
        if not scenes:
            raise UsageError(self._query(lambda: self._why_empty(request, sensor)) + self._skipped_note())
        for product in {scene.product.collection: scene.product for scene in scenes}.values():
            self.catalogue.check_credentials(product)
        return scenes

    def _available(self, products: tuple[Product, ...], sensor: str) -> list[Product]:
        """Return those of some known collections that the catalogue has, the preferred one first."""
        collections = self._query(lambda: list(self._collections()))
        available = [product for product in products if product.collection in collections]
        if not available:
            raise UsageError(
                f"{redact(self.catalogue.name)}: no collection of {sensor}: expected "
                f"{' or '.join(dict.fromkeys(product.collection for product in products))}, "
                f"it has {', '.join(sorted(collections)) or 'none'}{self._skipped_note()}"
            )
        return available

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.setdefault(redact(name), reason)

    def _skipped_note(self) -> str:
        """Return a note of what was left out, for the end of a message that nothing was found."""
        if not self.skipped:
            return ""
        name, reason = next(iter(self.skipped.items()))
        return f" ({len(self.skipped)} invalid entries skipped, the first: {name}: {reason})"

    def _collections(self) -> Iterator[str]:
        """Yield the identifiers of the collections."""
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
                    self._skip(f"{url}, a collection", f"{shorten(collection)}: expected an object with an id")

    def _pages(self, pages: Iterator[Any], entries: str) -> Iterator[list[Any]]:
        """Yield the entries of an API's pages until there are none, or until a page is repeated, which is recorded."""
        seen: set[str] = set()
        for page in pages:
            listed = page.get(entries)
            if not isinstance(listed, list):
                raise ValueError(f"{entries} {shorten(listed)}: expected a list")
            content = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
            if content in seen:
                self._skip(f"{self.catalogue.url}, a page", "repeated: its next link is a loop: read once")
                return
            seen.add(content)
            yield listed

    def _found(self, request: Request, product: Product) -> list[Scene]:
        """Return the valid scenes of a collection inside a request's box and span of time."""
        scenes: dict[str, Scene] = {}
        for item in self._items(request, product.collection, box=True, time=True):
            platform = str(item.properties.get("platform", "")).lower().replace("_", "-")
            if product.platforms and platform not in product.platforms:
                continue
            scene = Scene(item, product)
            try:
                if not set(scene.assets) & set(scene.sensor.band_names):
                    continue
                scene.check()
            except (InvalidItemError, UsageError) as error:
                self._skip(item.id, redact(str(error)))
                continue
            if item.id in scenes:
                self._skip(f"{item.id}, a second one", "the identifier is repeated: the first item is used")
                continue
            scenes[item.id] = scene
        return list(scenes.values())

    def _items(
        self, request: Request, collection: str, box: bool, time: bool, max_items: int | None = None
    ) -> "Iterator[pystac.Item]":
        """Yield items of a collection that pass the chosen filters; invalid ones are skipped and recorded."""
        first, last = request.interval
        for href, fields in self._documents(request, collection, box, time, max_items):
            name = fields.get("id") if isinstance(fields, dict) else None
            try:
                footprint = footprint_of(fields)
                if (box and not footprint.touches(request.bbox)) or (
                    time and (footprint.start > last or footprint.end < first)
                ):
                    continue
                yield item_of(fields, footprint, href, keep_paths=self._api is not None)
            except InvalidItemError as error:
                self._skip(name if isinstance(name, str) and name.strip() else href, str(error))

    def _documents(
        self, request: Request, collection: str, box: bool, time: bool, max_items: int | None
    ) -> Iterator[tuple[str, Any]]:
        """Yield address and JSON of a collection's items; an API filters them, a static catalogue yields all."""
        if self._api is None:
            yield from self._static.items(collection)
            return
        first, last = request.interval
        search = self._api.search(
            collections=[collection],
            bbox=request.bbox if box else None,
            datetime=f"{first.isoformat()}Z/{last.floor('s').isoformat()}Z" if time else None,
            limit=100 if max_items is None else max_items,
            max_items=max_items,
        )
        count = 0
        for page in self._pages(search.pages_as_dicts(), "features"):
            for fields in page:
                count += 1
                if count > MAX_ITEMS:
                    raise UsageError(
                        f"{redact(self.catalogue.url)}: more than {MAX_ITEMS:,} items: ask for a smaller box or time"
                    )
                yield _self_address(fields) or f"{self.catalogue.url}/item", fields

    def _why_empty(self, request: Request, sensor: str) -> str:
        """Return the message that names the filter that removed everything."""
        name = redact(self.catalogue.name)
        (west, south, east, north), (first, last) = request.bbox, request.interval
        products = self._available(self.catalogue.products_of(sensor), sensor)
        collections = list(dict.fromkeys(product.collection for product in products))
        wanted = " or ".join(collections)

        def any_left(box: bool, time: bool) -> bool:
            return any(
                next(self._items(request, collection, box, time, max_items=1), None) is not None
                for collection in collections
            )

        if not any_left(box=False, time=False):
            return f"{name}: nothing found: the collection {wanted} is empty"
        if not any_left(box=True, time=False):
            return (
                f"{name}: nothing found: no item of {wanted}, of any time, touches the box "
                f"{west:g} {south:g} {east:g} {north:g}: check `bbox`"
            )
        if not any_left(box=True, time=True):
            return (
                f"{name}: nothing found: {wanted} has items in the box, none of {first:%Y-%m-%d} to "
                f"{last:%Y-%m-%d}: check `time`"
            )
        platforms = dict.fromkeys(platform for product in products for platform in product.platforms)
        of_platforms = f"of the platforms {', '.join(platforms)} " if platforms else ""
        return (
            f"{name}: nothing found: {wanted} has items in the box and the time, none {of_platforms}with bands of "
            f"{sensor}"
        )

    def _read_root(self) -> dict[str, Any]:
        """Read the JSON at the catalogue's address; `UsageError` if it is not a catalogue's."""
        url, shown_url = self.catalogue.url, redact(self.catalogue.url)
        try:
            root = json.loads(self._query(lambda: self._io.read_text(url)))
        except ThalwegError:
            raise
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
            raise UsageError(f"{shown_url}: no STAC: links {shorten(links)}: expected a list")
        return root

    def _query(self, query: Callable[[], Result]) -> Result:
        """Return the result of a query; a fault of the catalogue becomes an error with one line."""
        from pystac.errors import STACError
        from pystac_client.exceptions import APIError

        url = redact(self.catalogue.url)
        try:
            return query()
        except ThalwegError:
            raise
        except APIError as error:
            reason = redact(" ".join(str(error).split()))[:160]
            status = getattr(error, "status_code", None)  # absent if there was no answer
            if status is not None and status < 500:
                raise UsageError(f"{url}: no STAC there (status {status}): {reason}") from public_cause(error)
            raise ThalwegError(f"{url}: does not answer ({reason}): try again later") from public_cause(error)
        except InvalidItemError as error:
            raise UsageError(f"{url}: no valid STAC ({error})") from error
        except (STACError, *_INVALID_STAC_ERRORS) as error:
            reason = redact(" ".join(str(error).split()))[:160]
            raise UsageError(f"{url}: no valid STAC ({reason})") from public_cause(error)


_INVALID_STAC_ERRORS = (LookupError, TypeError, ValueError, AttributeError, NotImplementedError, RecursionError)
"""Errors that pystac-client raises on an answer that is JSON but not STAC."""


def http_reader(retry_policy: RetryPolicy) -> Any:
    """Return pystac-client's reader (`StacApiIO`) with the retries of a policy."""
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    redact_logs()
    retries = Retry(
        total=retry_policy.attempts - 1,
        backoff_factor=retry_policy.delay / 2 if retry_policy.delay else 0,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
    )
    return StacApiIO(max_retries=retries, timeout=retry_policy.timeout)


def _open_api(url: str, reader: Any) -> "pystac_client.Client":
    import pystac_client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # conformance classes that an API does not declare are used anyway
        return pystac_client.Client.open(url, stac_io=reader)


def _absolute(path: str) -> str:
    import pystac

    return str(pystac.utils.make_absolute_href(path))


def _self_address(fields: Any) -> str | None:
    """Return the address that an item gives as its own; None if it gives none."""
    links = fields.get("links") if isinstance(fields, dict) else None
    if not isinstance(links, list):
        return None
    return next((str(link["href"]) for link in links if is_link(link) and link["rel"] == "self"), None)
