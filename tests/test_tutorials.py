"""Every command of the tutorials runs as it is written, in order, in an empty folder."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = sorted(DOCS.glob("tutorial-*.md"))
SERVES = "thalweg app "


def commands(document: Path) -> list[str]:
    """The lines that a reader types: those after `$` in console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a reader's shell, in which `thalweg` is this package's."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    command = bin_ / "thalweg"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from thalweg.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    source = Path(__file__).parents[1] / "src"
    yield os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("document", TUTORIALS, ids=lambda document: document.stem)
def test_every_command_runs(document: Path, shell: dict[str, str], cli: Callable[..., Any]) -> None:
    typed = commands(document)
    assert len(typed) >= 5
    for line in typed:
        if line.startswith(SERVES):
            page = ask_and_stop(f"{line} --port 0", Path.cwd(), shell)
            assert '"title":"Thalweg"' in page
        elif "|" in line:
            done = subprocess.run(line, shell=True, env=shell, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        else:  # in this process, which has loaded the libraries
            program, *arguments = shlex.split(line)
            assert program == "thalweg"
            ran = cli(*arguments)
            assert ran.code == 0, f"{line}\n{ran.out}{ran.err}"


def ask_and_stop(line: str, folder: Path, shell: dict[str, str]) -> str:
    """Start a command that serves, fetch its page from the address it prints, and end it as Ctrl-C does."""
    server = subprocess.Popen(
        f"exec {line}", shell=True, cwd=folder, env=shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), f"{line}\n{address}{server.stderr.read()}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=120) as answer:
            return str(answer.read().decode())
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


@pytest.mark.parametrize("document", TUTORIALS, ids=lambda document: document.stem)
def test_what_it_links_to_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
