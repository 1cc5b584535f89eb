"""Filter of requests to Gradio: only those that the page makes, with no files but the browser's uploads."""

import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.app.security.auth import user_of
from thalweg.app.security.uploads import Uploads, receive_upload
from thalweg.errors import UsageError

MAX_BODY = 1_000_000
"""Largest body of a request that is no upload, bytes."""
MAX_DEPTH = 32
"""Deepest nesting of lists and dictionaries in an event."""
UPLOAD = "/gradio_api/upload"
LABELS_UPLOAD = "/earth/upload"
"""Route of the Earth page that reads an upload itself, within the same limits."""
_OWN = ("/runs/", "/earth/")
_READ = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(assets|static)(/[\w.@-]+)+"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|queue/data|heartbeat/[\w-]{1,100})",
    re.ASCII,
)
_EVENTS = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
_FIELDS = ("data", "event_data", "fn_index", "trigger_id", "session_hash", "event_id")
_FILE_KEYS = frozenset({"path", "url", "meta", "is_stream"})
_FILE = {"_type": "gradio.FileData"}


class GradioRequests:
    """Middleware in front of a mounted Gradio page.

    - Only the routes that the page needs are passed on, not those that serve files, fetch addresses, call functions
      outside the queue or write links.
    - Gradio accepts `{"path": ..., "meta": {"_type": "gradio.FileData"}}` as a file in every value of every event. Here
      its path must be the name of an upload of the same browser; Gradio gets the path of the upload and nothing else.
      Any other value that looks like a file is refused before it reaches Gradio.
    - The name of a Gradio session is tied to the browser that chose it, so that no other browser reads its responses.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store uploads, pass on requests that the page needs, refuse all others."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, path = Request(scope, receive), scope["path"]
        is_event = request.method == "POST" and path in _EVENTS
        try:
            if path == LABELS_UPLOAD:
                await self.app(scope, receive, send)
            elif path.startswith(_OWN):
                await self._pass_on(scope, await _body(request), receive, send)
            elif request.method == "POST" and path == UPLOAD:
                response = await receive_upload(request, self._uploads, user_of(request.cookies))
                await response(scope, receive, send)
            elif is_event:
                content = self._checked(await _body(request), user_of(request.cookies))
                await self._pass_on(scope, json.dumps(content).encode(), receive, send)
            elif request.method in ("GET", "HEAD") and _READ.fullmatch(path) and ".." not in path:
                await self.app(self._own_session(request), receive, send)
            else:
                await PlainTextResponse("not found", 404)(scope, receive, send)
        except ClientDisconnect:  # the browser has gone
            return
        except UsageError as error:
            await JSONResponse({"error": str(error), "detail": str(error)}, 422)(scope, receive, send)

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Pass on a request whose body has been read."""
        headers = [
            (name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")
        ]
        if body:
            headers.append((b"content-length", str(len(body)).encode()))
        is_read = False

        async def receive_body() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app({**scope, "headers": headers}, receive_body, send)

    def _checked(self, body: bytes, user: str) -> dict[str, Any]:
        """Return an event in the fields that the page uses, with the paths of the uploads that it names.

        Raises:
            UsageError: it is no event, or names a file that this browser did not upload.
        """
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise UsageError("expected an event in JSON") from error
        if not isinstance(content, dict):
            raise UsageError("expected an event in JSON")
        content = {name: content[name] for name in _FIELDS if name in content}
        waiting: list[tuple[Any, int]] = [(content, 0)]
        while waiting:
            value, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise UsageError(f"expected values of at most {MAX_DEPTH} levels, got more")
            for place, one in list(enumerate(value) if isinstance(value, list) else value.items()):
                if isinstance(one, dict) and _FILE_KEYS & one.keys():
                    value[place] = self._upload_of(one, user)
                elif isinstance(one, dict | list):
                    waiting.append((one, depth + 1))
        if "session_hash" in content:
            content["session_hash"] = _tied(content["session_hash"], user)
        return content

    def _upload_of(self, value: dict[str, Any], user: str) -> dict[str, Any]:
        name = value.get("path")
        path = self._uploads.find(user, name) if isinstance(name, str) else None
        if path is None or value.get("meta") != _FILE:
            raise UsageError("expected a file that this browser uploaded and that has not been used: upload it again")
        return {"path": str(path), "meta": _FILE}

    def _own_session(self, request: Request) -> Scope:
        """Return the scope of a GET request with its Gradio session tied to its browser."""
        scope, path = request.scope, request.scope["path"]
        if path == "/gradio_api/queue/data":
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            tied = _tied(query.get("session_hash"), user_of(request.cookies))
            return {**scope, "query_string": urlencode({"session_hash": tied}).encode()}
        if path.startswith("/gradio_api/heartbeat/"):
            start, _, session = path.rpartition("/")
            path = f"{start}/{_tied(session, user_of(request.cookies))}"
            return {**scope, "path": path, "raw_path": path.encode()}
        if "deep_link" in request.query_params:
            return {**scope, "query_string": b""}
        return dict(scope)


async def _body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        UsageError: it is larger than `MAX_BODY`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise UsageError(f"expected a request of at most {MAX_BODY} bytes, got a larger one")
    return bytes(body)


def _tied(session: object, user: str) -> str:
    if not isinstance(session, str) or not 1 <= len(session) <= 100:
        raise UsageError("expected the name of a session")
    return hashlib.sha256(f"{user} {session}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
