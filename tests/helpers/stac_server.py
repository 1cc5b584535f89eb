"""A small STAC server: files of a static catalogue over HTTP, and an API over them.

The server answers range requests, as object stores do. It can be made to fail and to wait, and counts requests.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shapely.geometry import box, shape


@dataclass
class StacServer:
    """HTTP server of a folder, with an API over its catalogue under `/api`.

    Attributes:
        url: address of the folder.
        faults: status codes of the next answers, by the end of a path; 0, and the end of the list, mean no fault.
        pauses: seconds to wait before each of the next answers, by the end of a path.
        answers: content of every answer, by the end of a path.
        requests: number of requests by path.
    """

    url: str
    faults: dict[str, list[int]] = field(default_factory=dict)
    pauses: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def api(self) -> str:
        return f"{self.url}/api"


@contextmanager
def serve(folder: Path) -> Iterator[StacServer]:
    """Serve a folder on 127.0.0.1 for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, asked: dict[str, Any] | None = None, body: bool = True) -> None:
            parts = urlsplit(self.path)
            state.requests[parts.path] += 1
            for end, seconds in state.pauses.items():
                if parts.path.endswith(end) and seconds:
                    time.sleep(seconds.pop(0))
            for end, codes in state.faults.items():
                if parts.path.endswith(end) and codes and (code := codes.pop(0)):
                    return self._send(code, b"try later", body=body)
            for end, content in state.answers.items():
                if parts.path.endswith(end):
                    return self._send(200, content, "application/json", body)
            if parts.path.startswith("/api"):
                query = asked or {key: values[0] for key, values in parse_qs(parts.query).items()}
                status, answer = _api(folder, state, parts.path.removeprefix("/api").rstrip("/"), query)
                return self._send(status, json.dumps(answer).encode(), "application/json", body)
            path = folder / parts.path.lstrip("/")
            if not path.is_file():
                return self._send(404, b"no such file", body=body)
            content, span = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if span is None:
                return self._send(200, content, body=body)
            first, last = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
            if first > last:
                return self._send(416, b"", body=body)
            more = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            return self._send(206, content[first : last + 1], body=body, more=more)

        def _send(
            self,
            status: int,
            content: bytes,
            kind: str = "application/octet-stream",
            body: bool = True,
            more: dict[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            fields = {"Content-Type": kind, "Content-Length": str(len(content)), "Accept-Ranges": "bytes"}
            for key, value in {**fields, **(more or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = StacServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _api(folder: Path, state: StacServer, path: str, query: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a STAC API, as much as a search needs; two items per page."""
    root = state.api
    conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
    conforms += ["https://api.stacspec.org/v1.0.0/collections", "https://api.stacspec.org/v1.0.0/ogcapi-features"]
    links = [
        {"rel": "self", "href": root},
        {"rel": "root", "href": root},
        {"rel": "data", "href": f"{root}/collections"},
        {"rel": "search", "href": f"{root}/search", "method": "POST", "type": "application/geo+json"},
    ]
    if path in ("", "/"):
        about = {"type": "Catalog", "id": "api", "description": "api", "stac_version": "1.0.0"}
        return 200, {**about, "conformsTo": conforms, "links": links}
    if path == "/conformance":
        return 200, {"conformsTo": conforms}
    collections = [json.loads(file.read_text()) for file in sorted(folder.glob("*/collection.json"))]
    for collection in collections:
        collection["links"] = links[:2]
    if path == "/collections":
        return 200, {"collections": collections, "links": links[:2]}
    if path == "/search":
        start = int(query.get("token", 0))
        found = [item for item in _items(folder, state.url) if _passes(item, query)]
        page = found[start : start + 2]
        following = []
        if start + 2 < len(found):
            body = {**query, "token": start + 2}
            following = [{"rel": "next", "href": f"{root}/search", "method": "POST", "body": body}]
        return 200, {"type": "FeatureCollection", "features": page, "links": following}
    return 404, {"code": "NotFound", "description": path}


def _items(folder: Path, url: str) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*/*/*.json")):
        item = json.loads(file.read_text())
        for asset in item["assets"].values():
            path = (file.parent / asset["href"]).resolve()
            asset["href"] = f"{url}/{path.relative_to(folder.resolve())}"
        yield {**item, "links": []}


def _passes(item: dict[str, Any], query: dict[str, Any]) -> bool:
    if item["collection"] not in query.get("collections", [item["collection"]]):
        return False
    if "bbox" in query and not shape(item["geometry"]).intersects(box(*query["bbox"])):
        return False
    if "datetime" not in query:
        return True
    first, last = query["datetime"].split("/")
    return first <= item["properties"]["datetime"] <= last
