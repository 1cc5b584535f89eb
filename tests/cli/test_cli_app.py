"""`thalweg app` as a process: what it prints, serves and refuses."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from waiting import HANG_SECONDS

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), ("--token",)),
        (("--host", "0.0.0.0", "--no-token"), ("--token",)),
        (("--no-token", "--token", TOKEN), ("--no-token", "got both")),
        (("--token", ""), ("12 characters", "0")),
        (("--allow-host", "https://maps.example.org"), ("expected a host name such as", "'https://maps.example.org'")),
        (("--host", "0.0.0.0", "--token", "short"), ("12 characters", "5")),
        (("--upload-limit", 0), ("at least 1 MB",)),
        (("--model", "no-such-model"), ("no-such-model",)),
        (("--scheduler", "eulr"), ("scheduler 'eulr': expected", "did you mean euler?")),
        (("--device", "gpu"), ("expected a device such as", "called cuda")),
        (("--port", 70_000), ("--port", "65,535")),
    ],
)
def test_bad_input_is_one_line(cli: Callable, arguments: tuple, words: tuple) -> None:
    ran = cli("app", "work", "--port", 0, *arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    for word in words:
        assert word in ran.err


def test_a_port_that_is_taken_is_one_line(cli: Callable) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = cli("app", "work", "--port", taken.getsockname()[1])
    assert (ran.code, ran.err.count("\n")) == (1, 1), ran.err
    assert "--port" in ran.err


def test_serves_until_interrupted_and_asks_for_the_token(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "from thalweg.cli import main; main()", "app", str(tmp_path / "work"))
    with subprocess.Popen(
        [*command, "--port", "0", "--host", "0.0.0.0", "--token", TOKEN, "--steps", "4"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().replace("0.0.0.0", "127.0.0.1")
            assert address.endswith(f"/?token={TOKEN}")
            plain = address.partition("?")[0]
            with pytest.raises(HTTPError, match="401"):
                urlopen(plain, timeout=HANG_SECONDS)
            page = urlopen(Request(plain, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=HANG_SECONDS)
            assert b"Thalweg" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(HANG_SECONDS) in (0, -signal.SIGINT, 130)
