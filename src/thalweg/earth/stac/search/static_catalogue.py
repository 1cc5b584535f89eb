"""Static catalogue of plain files: links are followed, each document is read once, damaged ones are skipped."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from thalweg.earth.stac.search.items import is_link, shorten
from thalweg.errors import UsageError
from thalweg.io.redaction import redact

MAX_DEPTH = 16
"""Largest number of levels of catalogues below the root."""

MAX_CATALOGUES = 10_000
"""Largest number of catalogues and collections that are followed."""

MAX_ITEMS = 100_000
"""Largest number of items of a collection, and of a search."""

Skip = Callable[[str, str], None]
"""Function that is called with the name of each skipped document and the reason."""


@dataclass(frozen=True)
class CatalogueNode:
    """Catalogue or collection: its document, its address, and its number of levels below the root."""

    fields: dict[str, Any]
    href: str
    depth: int

    @property
    def is_collection(self) -> bool:
        """True for a collection; before STAC 1.0 only its extent shows that."""
        kind = self.fields.get("type")
        return kind == "Collection" or (kind is None and "extent" in self.fields)

    def links(self, relation: str) -> list[str]:
        """Return the absolute addresses of its links of a relation."""
        import pystac

        hrefs = (link["href"] for link in self.fields.get("links") or () if is_link(link) and link["rel"] == relation)
        return [pystac.utils.make_absolute_href(href, self.href) for href in hrefs]


class StaticCatalogue:
    """Catalogue of plain files.

    Args:
        root: document of its root.
        href: absolute address of the root.
        read_text: function that reads a text file at an address.
        skip: function that records what is skipped.

    Raises:
        UsageError: the root's links are invalid.
    """

    def __init__(self, root: dict[str, Any], href: str, read_text: Callable[[str], str], skip: Skip) -> None:
        self._read_text, self._skip = read_text, skip
        self._documents: dict[str, dict[str, Any] | None] = {}
        self._root = CatalogueNode(root, href, 0)
        if (fault := self._links_fault(self._root)) is not None:
            raise UsageError(f"{redact(href)}: no STAC: {fault}")

    def collections(self) -> Iterator[tuple[str, CatalogueNode]]:
        """Yield identifier and node of each collection; one inside another belongs to it."""
        for node in self._nodes(self._root, into_collections=False):
            if node.is_collection:
                name = node.fields.get("id")
                if isinstance(name, str):
                    yield name, node
                else:
                    self._skip(node.href, f"id {shorten(name)}: expected a string")

    def items(self, collection: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield address and document of each item of a collection, once.

        Raises:
            UsageError: there are more than `MAX_ITEMS`.
        """
        seen: set[str] = set()
        for name, top in self.collections():
            if name != collection:
                continue
            for node in self._nodes(top, into_collections=True):
                for href in node.links("item"):
                    if href in seen:
                        self._skip(href, "linked more than once: read once")
                        continue
                    seen.add(href)
                    if len(seen) > MAX_ITEMS:
                        raise UsageError(
                            f"{redact(top.href)}: more than {MAX_ITEMS:,} items: name a smaller part of the catalogue"
                        )
                    fields = self._document(href)
                    if fields is not None:
                        yield href, fields

    def _nodes(self, top: CatalogueNode, into_collections: bool) -> Iterator[CatalogueNode]:
        """Yield a node and all below it, in the order of the links, each once; without recursion."""
        waiting, seen = [top], {top.href}
        while waiting:
            node = waiting.pop()
            yield node
            if node.is_collection and not into_collections:
                continue
            below = []
            for href in node.links("child"):
                if href in seen:
                    self._skip(href, f"linked again from {redact(node.href)}, perhaps in a loop: read once")
                elif node.depth == MAX_DEPTH:
                    self._skip(href, f"more than {MAX_DEPTH} levels below the root")
                elif len(seen) >= MAX_CATALOGUES:
                    raise UsageError(
                        f"{redact(self._root.href)}: more than {MAX_CATALOGUES:,} catalogues: name a smaller part of it"
                    )
                else:
                    seen.add(href)
                    child = self._child(href, node.depth + 1)
                    if child is not None:
                        below.append(child)
            waiting += reversed(below)

    def _child(self, href: str, depth: int) -> CatalogueNode | None:
        """Read a catalogue or collection; None if it is skipped."""
        fields = self._document(href)
        if fields is None:
            return None
        kind = fields.get("type")
        if kind not in ("Catalog", "Collection", None) or "stac_version" not in fields:
            self._skip(href, f"expected a catalogue or a collection, got type {shorten(kind)}")
            return None
        node = CatalogueNode(fields, href, depth)
        if (fault := self._links_fault(node)) is not None:
            self._skip(href, fault)
            return None
        return node

    def _links_fault(self, node: CatalogueNode) -> str | None:
        """Return what is wrong with a document's list of links, None if nothing; a single invalid link is skipped."""
        links = node.fields.get("links")
        if links is not None and not isinstance(links, list):
            return f"links {shorten(links)}: expected a list"
        for link in (link for link in links or () if not is_link(link)):
            self._skip(f"{node.href}, a link", f"{shorten(link)}: expected an object with rel and href")
        return None

    def _document(self, href: str) -> dict[str, Any] | None:
        """Return the JSON object at an address, read once; None if there is none, which is recorded."""
        if href not in self._documents:
            self._documents[href] = self._read(href)
        return self._documents[href]

    def _read(self, href: str) -> dict[str, Any] | None:
        from pystac_client.exceptions import APIError

        try:
            fields = json.loads(self._read_text(href))
        except APIError as error:
            status = getattr(error, "status_code", None)  # absent if there was no answer
            elsewhere = urlsplit(href).netloc != urlsplit(self._root.href).netloc
            if not elsewhere and (status is None or status >= 500 or status == 429):
                raise  # the catalogue's own server does not answer: skipping would lose all that it has
            self._skip(href, "no answer" if status is None else f"the server answers {status}")
            return None
        except OSError as error:
            self._skip(href, f"cannot be read ({error.strerror or type(error).__name__})")
            return None
        except (ValueError, RecursionError):
            self._skip(href, "not JSON")
            return None
        if not isinstance(fields, dict):
            self._skip(href, f"expected a JSON object, got {shorten(fields)}")
            return None
        return fields
