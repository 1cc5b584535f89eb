"""The public names: documented, listed in docs/api.md, and loaded only when used."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("thalweg", "thalweg.steer", "thalweg.diffusion", "thalweg.gpp")
PUBLIC = [(wing, name) for wing in WINGS for name in importlib.import_module(wing).__all__]
STUBS = sorted((ROOT / "src").rglob("__init__.pyi"))
PROMISED = {
    "thalweg": {"open", "embed", "Cube", "Sensor", "Band", "register_sensor", "EarthModel"},
    "thalweg.steer": {"optimize", "imprint", "Navigation", "Metric", "metric"},
    "thalweg.diffusion": {"load", "miniature"},
}


@pytest.mark.parametrize("wing", PROMISED)
def test_promised_names_are_there(wing: str) -> None:
    module = importlib.import_module(wing)
    assert PROMISED[wing] <= set(dir(module))
    assert all(hasattr(module, name) for name in PROMISED[wing])


@pytest.mark.parametrize(("wing", "name"), PUBLIC)
def test_it_is_documented(wing: str, name: str) -> None:
    found = getattr(importlib.import_module(wing), name)
    if isinstance(found, str) or inspect.ismodule(found):
        return
    text = inspect.getdoc(found) or ""
    assert len(text.split()) >= 5, f"{wing}.{name} has no docstring"
    if inspect.isfunction(found):
        parameters = [one for one in inspect.signature(found).parameters if not one.startswith("_")]
        missing = [one for one in parameters if not re.search(rf"^\s+\*{{0,2}}{one}(?: \(.*\))?:|`{one}`", text, re.M)]
        assert not missing, f"{wing}.{name} does not describe {', '.join(missing)}"
        assert "Raises:" in text or not parameters, f"{wing}.{name} does not say what it raises"


def test_the_table_of_public_names_is_complete() -> None:
    listed = set(re.findall(r"^\| `(thalweg[\w.]*)", (ROOT / "docs" / "api.md").read_text("utf-8"), re.M))
    assert listed == {f"{wing}.{name}" for wing, name in PUBLIC if name != "__version__"}


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.relative_to(ROOT / "src").as_posix())
def test_every_listed_name_loads(stub: Path) -> None:
    module = importlib.import_module(".".join(stub.parent.relative_to(ROOT / "src").parts))
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ("torch", "xarray", "numpy", "scipy", "matplotlib", "pandas", "diffusers", "gradio", "dask")
    wings = ", ".join(WINGS)
    program = f"import sys, {wings}; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
