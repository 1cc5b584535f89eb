"""The command as a process: access, tokens and the end by a signal."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from thalweg.app.server import bind
from waiting import HANG_SECONDS

Started = Callable[..., AbstractContextManager[tuple["subprocess.Popen[str]", str]]]


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """Starts `thalweg app` with options: `with started("--no-token") as (process, address)`."""

    @contextmanager
    def start(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
        command = [sys.executable, "-c", "from thalweg.cli import main; main()", "app", str(tmp_path / "workspace")]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            [*command, "--port", "0", "--steps", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], HANG_SECONDS)[0]
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
            process.communicate()

    return start


@contextmanager
def browser_of(address: str) -> Iterator[httpx.Client]:
    """A client that has followed the address that the command printed."""
    origin = address.partition("/?")[0]
    with httpx.Client(
        base_url=origin, headers={"Origin": origin}, timeout=HANG_SECONDS, follow_redirects=True
    ) as client:
        assert client.get(address).status_code == 200
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_though_a_stream_is_open_and_a_job_runs(
    started: Started, tmp_path: Path, number: signal.Signals
) -> None:
    with started() as (process, address), browser_of(address) as client:
        page = client.get("/config").json()
        begin = next(part["id"] for part in page["components"] if part["props"].get("elem_id") == "navigate-start")
        event = next(event for event in page["dependencies"] if [begin, "click"] in event["targets"])
        body = {"data": ["a ball", "0-4000", 9], "fn_index": event["id"], "session_hash": "here"}
        assert client.post("/gradio_api/queue/join", json=body).status_code == 200
        client.post("/gradio_api/upload", files={"files": ("x.safetensors", b"unused")}).raise_for_status()
        assert list(tmp_path.glob("thalweg-app-*/*/*/*"))
        with client.stream("GET", "/gradio_api/queue/data?session_hash=here") as stream:
            lines = stream.iter_lines()
            while "Rendering ..." not in next(lines):
                pass
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 128 + number
            assert time.monotonic() - began < 5
            assert not [line for line in lines if "Cancelled" in line]
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert not list(tmp_path.glob("thalweg-app-*"))


def test_a_new_token_is_printed(started: Started) -> None:
    with started() as (_, address):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=([\w-]{32})", address)
        assert found is not None
        assert httpx.get(found[1]).status_code == 401
        bearer = {"Authorization": f"Bearer {found[2]}"}
        assert httpx.get(f"{found[1]}/config", headers=bearer).status_code == 200
        with browser_of(address) as client:
            assert client.get("/config").status_code == 200


def test_without_a_token_this_machine_and_the_allowed_name_are_admitted(started: Started) -> None:
    with started("--no-token", "--allow-host", "maps.example.org") as (_, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        for host, status in (("127.0.0.1", 200), ("maps.example.org", 200), ("evil.example", 400)):
            assert httpx.get(address, headers={"Host": host}).status_code == status


def test_answers_are_sent_at_once() -> None:
    with bind("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio asks for before it sets TCP_NODELAY
