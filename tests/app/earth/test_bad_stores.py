"""One bad store among others: it is refused in one line within a time limit, the others stay usable."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient

from earth_app import earth_app
from thalweg.app.earth import open_stores as stores_module
from thalweg.app.earth import tiles
from thalweg.app.earth.open_stores import OpenStores
from thalweg.app.earth.store_metadata import MAX_DATES
from thalweg.app.earth.time_limit import MAX_STUCK, TimeLimit
from thalweg.app.workspace import Workspace
from thalweg.errors import UsageError

ORIGIN = "http://127.0.0.1"
BAD = "bad.zarr"


@pytest.fixture
def folder(store: Path, tmp_path: Path) -> Iterator[Path]:
    """Workspace of two stores, one of which the test damages."""
    for name in ("good.zarr", BAD):
        shutil.copytree(store, tmp_path / name)
    yield tmp_path


def metadata(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the metadata of a store and of its arrays."""
    for file in folder.rglob("zarr.json"):
        declared = json.loads(file.read_text())
        change(declared)
        for part in declared.get("consolidated_metadata", {}).get("metadata", {}).values():
            change(part)
        file.write_text(json.dumps(declared))


def resize(dimension: str, size: int) -> Callable[[dict[str, Any]], None]:
    def change(declared: dict[str, Any]) -> None:
        for at, name in enumerate(declared.get("dimension_names") or ()):
            if name == dimension:
                declared["shape"][at] = size

    return change


def chunked(size: int) -> Callable[[dict[str, Any]], None]:
    def change(declared: dict[str, Any]) -> None:
        if len(declared.get("shape", ())) == 4:
            declared["chunk_grid"]["configuration"]["chunk_shape"] = [1, 7, size, size]
            declared["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]

    return change


def sharded(declared: dict[str, Any]) -> None:
    if len(declared.get("shape", ())) == 4:
        declared["chunk_grid"]["configuration"]["chunk_shape"] = [1, 7, 10**6, 10**6]


def single_values(declared: dict[str, Any]) -> None:
    if declared.get("dimension_names") == ["x"]:
        declared["shape"], declared["chunk_grid"]["configuration"]["chunk_shape"] = [2000], [1]


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda declared: declared.update({key: value})


def root(content: bytes) -> Callable[[Path], None]:
    return lambda bad: (bad / "zarr.json").write_bytes(content) and None


def part(content: bytes) -> Callable[[Path], None]:
    def damage(bad: Path) -> None:
        declared = json.loads((bad / "zarr.json").read_text())
        declared.pop("consolidated_metadata", None)
        (bad / "zarr.json").write_text(json.dumps(declared))
        (bad / "embeddings" / "zarr.json").write_bytes(content)

    return damage


def circle(bad: Path) -> None:
    (bad / "zarr.json").unlink()
    (bad / "zarr.json").symlink_to(bad / "zarr.json")


def pipe(bad: Path) -> None:
    (bad / "zarr.json").unlink()
    os.mkfifo(bad / "zarr.json")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deep": root(b"[" * 100_000),
    "deep in a list": root(b'{"attributes": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    "empty": root(b""),
    "no text": root(b"\xff\xfe\0"),
    "a list": root(b"[]"),
    "cut short": lambda bad: (bad / "zarr.json").write_bytes((bad / "zarr.json").read_bytes()[:200]),
    "a number of many digits": root(b'{"attributes": {"geoemb:model": ' + b"1" * 10_000 + b"}}"),
    "deep in an array": part(b"[" * 100_000),
    "an array cut short": part(b'{"shape": [1,'),
    "a circle": circle,
    "a pipe": pipe,
    "wide": lambda bad: metadata(bad, resize("x", 10**9)),
    "a million pixels each way in one chunk": lambda bad: metadata(bad, chunked(10**6)),
    "shards of a million chunks": lambda bad: metadata(bad, sharded),
    "a coordinate in single values": lambda bad: metadata(bad, single_values),
    "a billion dates": lambda bad: metadata(bad, resize("time", 10**9)),
    "too many dates": lambda bad: metadata(bad, resize("time", MAX_DATES + 1)),
    "negative": lambda bad: metadata(bad, resize("y", -1)),
    "a text as shape": lambda bad: metadata(
        bad, lambda declared: declared.update(shape="x") if "shape" in declared else None
    ),
    "attributes of another type": lambda bad: metadata(bad, put("attributes", 5)),
    "no attributes": lambda bad: metadata(bad, put("attributes", {})),
    "codecs of another type": lambda bad: metadata(
        bad, lambda declared: declared.update(codecs=5) if "codecs" in declared else None
    ),
    "another format": lambda bad: metadata(bad, put("zarr_format", 99)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_bad_store_is_one_line_and_the_others_are_usable(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / BAD)
    client = TestClient(earth_app(Workspace(folder)), base_url=ORIGIN, headers={"Origin": ORIGIN})
    started = time.monotonic()
    listed = client.get("/earth/stores").json()
    assert "good.zarr" in listed
    for path in ("store", "clear", "tile/preview/0/0/0", "pixel"):
        answer = client.get(f"/earth/{path}", params={"store": BAD, "date": 0, "row": 0, "column": 0})
        assert answer.status_code == 422, (path, answer.text[:200])
        message = answer.json()["error"]
        assert "\n" not in message and len(message) < 600 and str(folder) not in message, message
    good = {"store": "good.zarr", "date": 0, "row": 0, "column": 0}
    for path in ("store", "tile/preview/0/0/0", "pixel"):
        assert client.get(f"/earth/{path}", params=good).status_code == 200
    assert time.monotonic() - started < 20


def test_a_very_wide_store_that_can_be_read_in_parts_is_served(folder: Path) -> None:
    """Its coordinates do not follow, so that it is refused, but nothing of its size is made."""
    metadata(folder / BAD, lambda declared: (resize("x", 10**6)(declared), resize("y", 10**6)(declared)))
    import resource

    client = TestClient(earth_app(Workspace(folder)), base_url=ORIGIN, headers={"Origin": ORIGIN})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in ("store", "tile/preview/0/0/0", "clear", "pixel"):
        client.get(f"/earth/{path}", params={"store": BAD, "date": 0, "row": 0, "column": 0})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 600_000, f"{grown / 1000:.0f} MB"


def test_a_store_that_does_not_open_delays_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, entered = threading.Event(), []
    whole = stores_module.check_metadata

    def stuck(path: Path, name: str) -> None:
        if name == BAD:
            entered.append(name)
            gate.wait(60)
        whole(path, name)

    monkeypatch.setattr(stores_module, "check_metadata", stuck)
    monkeypatch.setattr(stores_module, "OPEN_SECONDS", 0.5)
    client = TestClient(earth_app(Workspace(folder)), base_url=ORIGIN, headers={"Origin": ORIGIN})
    try:
        for _ in range(MAX_STUCK):
            assert "no answer within 0.5 seconds" in client.get("/earth/store", params={"store": BAD}).json()["error"]
        started = time.monotonic()
        for _ in range(50):
            assert "does not answer" in client.get("/earth/store", params={"store": BAD}).json()["error"]
        assert client.get("/earth/stores").json() == [BAD, "good.zarr"]
        assert client.get("/earth/store", params={"store": "good.zarr"}).status_code == 200
        assert time.monotonic() - started < 10
        assert len(entered) == 1  # the others wait for the first one's lock
    finally:
        gate.set()
    deadline = time.monotonic() + 20
    while client.get("/earth/store", params={"store": BAD}).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_request_that_takes_too_long_is_abandoned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, draw = threading.Event(), tiles.draw_tile

    def stuck(opened: Any, *arguments: Any) -> bytes:
        if opened.name == BAD:
            gate.wait(60)
        return draw(opened, *arguments)

    monkeypatch.setattr(tiles, "draw_tile", stuck)
    client = TestClient(earth_app(Workspace(folder)), base_url=ORIGIN, headers={"Origin": ORIGIN})
    query = {"date": 0, "row": 0, "column": 0}
    assert client.get("/earth/store", params={"store": BAD}).status_code == 200
    monkeypatch.setattr(stores_module, "READ_SECONDS", 0.3)
    try:
        for _ in range(MAX_STUCK + 20):
            answer = client.get("/earth/tile/preview/0/0/0", params={"store": BAD, **query})
            assert answer.status_code == 422
        monkeypatch.setattr(stores_module, "READ_SECONDS", 60.0)
        assert client.get("/earth/tile/preview/0/0/0", params={"store": "good.zarr", **query}).status_code == 200
    finally:
        gate.set()


CHUNKS_THAT_BLOCK = """
import os, sys
from pathlib import Path
from earth_app import earth_app
from fastapi.testclient import TestClient
from thalweg.app.earth import open_stores
from thalweg.app.workspace import Workspace

origin, folder = "http://127.0.0.1", Path(sys.argv[1])
client = TestClient(earth_app(Workspace(folder)), base_url=origin, headers={"Origin": origin})
query = {"date": 0, "row": 0, "column": 0}
for name in ("bad.zarr", "good.zarr"):
    assert client.get("/earth/store", params={"store": name}).status_code == 200
for shard in [file for file in (folder / "bad.zarr" / "picture" / "c").rglob("*") if file.is_file()]:
    shard.unlink()
    os.mkfifo(shard)
open_stores.READ_SECONDS = 0.5
answers = [client.get("/earth/tile/preview/0/0/0", params={"store": "bad.zarr", **query}).json() for _ in range(4)]
open_stores.READ_SECONDS = 60.0
good = client.get("/earth/tile/preview/0/0/0", params={"store": "good.zarr", **query})
print(answers[0]["error"], answers[-1]["error"], good.status_code, sep="|", flush=True)
os._exit(0)
"""


def test_chunks_that_block_delay_no_other_store(folder: Path) -> None:
    command = [sys.executable, "-c", CHUNKS_THAT_BLOCK, str(folder)]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2] / "helpers", capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    first, last, good = ran.stdout.strip().split("|")
    assert "no answer within 0.5 seconds" in first
    assert "does not answer" in last
    assert good == "200"


def test_stores_in_runs_and_names_that_are_not_utf8_are_left_out(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")
    shutil.copytree(folder / BAD, folder / "run" / "inner.zarr")
    os.mkdir(os.fsencode(folder) + b"/\xff.zarr")
    (folder / "loop").symlink_to(folder)
    assert OpenStores(Workspace(folder)).names() == [BAD, "good.zarr"]


def test_requests_to_one_store_wait_without_threads() -> None:
    async def request() -> list[float]:
        threads, shared = anyio.CapacityLimiter(8), anyio.CapacityLimiter(8)
        slow, quick = TimeLimit("slow", threads), TimeLimit("quick", threads)
        took: list[float] = []

        async def at_slow() -> None:
            await slow.run(lambda: time.sleep(0.05), 30, shared)

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(at_slow)
            await anyio.sleep(0.05)
            began = time.monotonic()
            await quick.run(lambda: None, 30, shared)
            took.append(time.monotonic() - began)
        return took

    assert anyio.run(request)[0] < 0.5


def test_what_fails_within_the_time_fails_as_it_is() -> None:
    def fail() -> None:
        raise UsageError("expected something")

    async def ask() -> None:
        limit = TimeLimit("store", anyio.CapacityLimiter(8))
        for _ in range(MAX_STUCK + 2):
            with pytest.raises(UsageError, match="expected something"):
                await limit.run(fail, 5, anyio.CapacityLimiter(8))
        assert limit.is_idle

    anyio.run(ask)
