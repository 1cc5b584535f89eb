"""The pinned versions are the installed ones: nothing is installed unpinned, and no pin is left over."""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_FROZEN = {"pip", "setuptools", "thalweg", "wheel"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_installed_versions_equal_constraints() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("only the environment that `make` installs is pinned by constraints.txt")
    if sys.platform != "linux" or sys.version_info[:2] != (3, 11):
        pytest.skip("constraints.txt is complete for Linux and Python 3.11; others may need a package more or less")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    # A local version such as 2.13.0+cpu names the build, not the release.
    installed = {_canonical(found.name): found.version.partition("+")[0] for found in distributions()}
    expected = {_canonical(name): version for name, version in pinned.items()}
    assert {name: version for name, version in installed.items() if name not in NOT_FROZEN} == {
        name: version for name, version in expected.items() if name not in NOT_FROZEN
    }
