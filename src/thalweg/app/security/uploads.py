"""Files that browsers upload, kept in a folder of this process, within limits, for a short time."""

import atexit
import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from thalweg.errors import UsageError
from thalweg.io.safetensors_files import SUFFIX

UPLOAD_LIMIT = 20_000_000
"""Largest upload, bytes; an embedding of FLUX has 4 MB, of Qwen-Image 15 MB; that of FLUX.2 klein base is too large."""
MAX_USER_UPLOADS = 5
MAX_SERVER_UPLOADS = 25
"""Uploads of one browser, and of all browsers, while the server runs, in multiples of the largest upload."""
MAX_AGE = 600.0
"""Seconds after which an upload that no event has used is removed."""
_FORM_BYTES = 10_000
"""Bytes of a multipart request in addition to its file."""


@dataclass(frozen=True)
class _Upload:
    owner: str
    path: Path
    size: int
    made: float


class Uploads:
    """Uploads of all browsers, each under a name that only its own browser can use.

    An upload counts for its browser and for the server until it is removed; one that was copied into the workspace
    counts until the server stops.

    Attributes:
        limit: largest size of a file, bytes.
        user_limit: largest total of one browser, bytes.
        server_limit: largest total of all browsers, bytes.
        folder: folder of the files.
    """

    def __init__(self, limit: int = UPLOAD_LIMIT) -> None:
        self.limit = limit
        self.user_limit = MAX_USER_UPLOADS * limit
        self.server_limit = MAX_SERVER_UPLOADS * limit
        self.folder = private_folder() / f"uploads-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._known: dict[str, _Upload] = {}
        self._used: dict[str, int] = {}

    def add(self, user: str, content: BinaryIO, size: int, suffix: str = SUFFIX) -> str:
        """Store a file and return the name under which its browser finds it.

        Args:
            user: secret of the browser.
            content: content of the file.
            size: its size, bytes.
            suffix: suffix of its kind; the rest of its name is not the browser's.

        Raises:
            UsageError: it exceeds a limit; no part of it is kept.
        """
        self.sweep()
        self.check_size(size)
        with self.reserved(user, size):
            folder = self.folder / secrets.token_hex(16)
            folder.mkdir(parents=True, mode=0o700)
            upload = _Upload(_mark(user), folder / f"upload{suffix}", size, time.monotonic())
            try:
                with upload.path.open("xb") as file:
                    shutil.copyfileobj(content, file)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            name = secrets.token_urlsafe(24)
            with self._lock:
                self._known[name] = upload
                self._count(upload.owner, size)  # the reservation ends with the block
        return name

    def check_size(self, size: int) -> None:
        """Check the size of a file, bytes.

        Raises:
            UsageError: it is too large.
        """
        if size > self.limit:
            raise UsageError(f"expected an upload of at most {_megabytes(self.limit)}, got a larger one")

    @contextlib.contextmanager
    def reserved(self, user: str, size: int) -> Iterator[None]:
        """Count bytes that arrive but are not stored yet.

        Raises:
            UsageError: the uploads of this browser, or of all browsers, exceed their limit.
        """
        owner = _mark(user)
        with self._lock:
            if self._used.get(owner, 0) + size > self.user_limit:
                raise UsageError(
                    f"expected at most {_megabytes(self.user_limit)} of uploads from one browser, got more: "
                    "copy the file into the workspace instead"
                )
            if sum(self._used.values()) + size > self.server_limit:
                raise UsageError(
                    f"expected at most {_megabytes(self.server_limit)} of uploads from all browsers, got more: "
                    "copy the file into the workspace instead"
                )
            self._count(owner, size)
        try:
            yield
        finally:
            with self._lock:
                self._count(owner, -size)

    def find(self, user: str, name: str) -> Path | None:
        """Return the path of a user's upload; None where the user has none of that name."""
        with self._lock:
            upload = self._known.get(name)
        return upload.path if upload is not None and upload.owner == _mark(user) else None

    def remove(self, path: Path, is_kept: bool = False) -> None:
        """Remove an upload after use; with `is_kept` the workspace has a copy, which stays counted."""
        with self._lock:
            names = [name for name, upload in self._known.items() if upload.path == path]
        self._remove(names, is_kept)
        for empty in private_folder().glob("tmp*"):  # Gradio's upload button leaves one at each event
            empty.unlink(missing_ok=True)

    def sweep(self, max_age: float = MAX_AGE) -> None:
        """Remove uploads older than `max_age` seconds."""
        oldest = time.monotonic() - max_age
        with self._lock:
            names = [name for name, upload in self._known.items() if upload.made <= oldest]
        self._remove(names)

    def close(self) -> None:
        """Remove all uploads."""
        with self._lock:
            names = list(self._known)
        self._remove(names)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _count(self, owner: str, size: int) -> None:
        """Change the total of an owner, under the lock; owners with a total of 0 are removed."""
        self._used[owner] = self._used.get(owner, 0) + size
        if self._used[owner] == 0:
            del self._used[owner]

    def _remove(self, names: list[str], is_kept: bool = False) -> None:
        with self._lock:
            gone = [self._known.pop(name) for name in names if name in self._known]
            for upload in gone:
                if not is_kept:
                    self._count(upload.owner, -upload.size)
        for upload in gone:
            shutil.rmtree(upload.path.parent, ignore_errors=True)


async def receive_upload(
    request: Request,
    uploads: Uploads,
    user: str,
    suffixes: tuple[str, ...] = (SUFFIX,),
    kind: str = f"an embedding file named *{SUFFIX}",
) -> Response:
    """Answer the upload of a form with one file by a list with its name; a refused one is one line of text.

    Args:
        request: the upload.
        uploads: uploads of all browsers.
        user: secret of the browser.
        suffixes: suffixes of the kinds that are accepted, in lower case.
        kind: what is accepted, for the message.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return PlainTextResponse("expected a form with one file named files", 400)
    length = request.headers.get("content-length", "0")
    try:
        with contextlib.ExitStack() as counted:

            async def body() -> AsyncGenerator[bytes, None]:
                """Yield the arriving bytes, counted before they are stored."""
                total = 0
                async for chunk in request.stream():
                    total += len(chunk)
                    uploads.check_size(total - _FORM_BYTES)
                    counted.enter_context(uploads.reserved(user, max(0, min(len(chunk), total - _FORM_BYTES))))
                    yield chunk

            if length.isdecimal():
                uploads.check_size(int(length) - _FORM_BYTES)
            form = await MultiPartParser(request.headers, body(), max_files=1, max_fields=8).parse()
        async with contextlib.AsyncExitStack() as parsed:
            parsed.push_async_callback(form.close)
            file = form.get("files")
            if not isinstance(file, UploadFile) or file.size is None:
                return PlainTextResponse("expected a form with one file named files", 400)
            suffix = Path(file.filename or "").suffix.lower()
            if suffix not in suffixes:
                return PlainTextResponse(f"expected {kind}; other kinds are refused", 400)
            return JSONResponse([uploads.add(user, file.file, file.size, suffix)])
    except UsageError as error:
        return PlainTextResponse(str(error), 413)
    except MultiPartException as error:
        return PlainTextResponse(f"expected a form with one file ({error.message})", 400)


@functools.cache
def private_folder() -> Path:
    """Return a folder that only this process's user can enter, removed at exit; also for Gradio's files."""
    folder = Path(tempfile.mkdtemp(prefix="thalweg-app-")).resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _mark(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:g} MB"
