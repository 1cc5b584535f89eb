"""Error messages for the browser: one line, without paths of this machine."""

import sysconfig
import tempfile
from pathlib import Path

import pytest

from thalweg.app.security.messages import MAX_MESSAGE, browser_message
from thalweg.errors import UsageError

WORKSPACE = Path("/srv/our data/work")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"{WORKSPACE}/run-1: its tree.json can't be read", "run-1: its tree.json can't be read"),
        (f"{WORKSPACE}/run-1/nodes/000.safetensors: gone", "run-1/nodes/000.safetensors: gone"),
        (f"{WORKSPACE}: full", "the workspace: full"),
        ("can't read '/home/anna/models/sd/unet/config.json'", "can't read 'config.json'"),
        ("[Errno 28] No space left: '/mnt/disk/x y.png'", "[Errno 28] No space left: 'x y.png'"),
        ("open file:///var/lib/thing/zarr.json failed", "open zarr.json failed"),
        (r"can't read C:\Users\anna\x.png", "can't read x.png"),
        ("expected a ratio, got 3/4", "expected a ratio, got 3/4"),
        ("see https://example.org/a/b for more", "see https://example.org/a/b for more"),
        ("expected seeds such as 0 or 0-3,\n got 'x'", "expected seeds such as 0 or 0-3, got 'x'"),
        (f"{tempfile.gettempdir()}/abc/upload.safetensors is no file", "upload.safetensors is no file"),
        (f"in {sysconfig.get_path('purelib')}/zarr/core/array.py", "in array.py"),
        (f"{Path.home()}/secret/x.png", "x.png"),
    ],
)
def test_paths_are_reduced_to_names(message: str, shown: str) -> None:
    assert browser_message(UsageError(message), WORKSPACE) == shown


def test_other_errors_name_their_class_and_are_short() -> None:
    assert browser_message(KeyError("x")) == "KeyError: 'x'"
    assert len(browser_message(ValueError("x" * 10_000))) <= MAX_MESSAGE + 3
