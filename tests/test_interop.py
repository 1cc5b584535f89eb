"""Code of docs/interop.md: the adapters run where their library is installed, rs-embed's on a stand-in too."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import thalweg
from foreign_files import unit_integers, write_alphaearth

DOCUMENT = Path(__file__).parents[1] / "docs" / "interop.md"
NOTEBOOKS = DOCUMENT.parent / "notebooks"


def code(name: str) -> str:
    """Return the block of the document that imports a library."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if f"\nfrom {name}." in block]
    assert len(found) == 1
    return str(found[0])


def run(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": f"interop_{name}"}
    exec(compile(code(name), f"{DOCUMENT}: {name}", "exec"), names)
    return names


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    return write_alphaearth(tmp_path, unit_integers())


def test_torchgeo_samples_the_pixels_of_a_store(tile: Path) -> None:
    pytest.importorskip("torchgeo", reason="torchgeo is not installed", exc_type=Exception)
    from torch.utils.data import DataLoader
    from torchgeo.datasets import stack_samples
    from torchgeo.samplers import GridGeoSampler

    dataset = run("torchgeo")["StoreDataset"](tile)
    expected = thalweg.open(tile).embeddings.values[0]
    sampler = GridGeoSampler(dataset, size=16, stride=16)
    batches = list(DataLoader(dataset, sampler=sampler, collate_fn=stack_samples))
    assert len(batches) == 9 and all(batch["image"].shape == (1, 64, 16, 16) for batch in batches)
    corners = {tuple(np.round(batch["image"][0, :, 0, 0].tolist(), 4)) for batch in batches}
    wanted = {tuple(np.round(expected[:, row, column].tolist(), 4)) for row in (0, 16, 32) for column in (0, 16, 32)}
    assert corners == wanted


@dataclass
class Box:
    """A box of degrees, as rs-embed's `BBox`."""

    minlon: float
    minlat: float
    maxlon: float
    maxlat: float


@dataclass
class Output:
    """An output, as rs-embed's `OutputSpec`."""

    mode: str
    pooling: str = "mean"


@dataclass
class Year:
    """A year, as rs-embed's `TemporalSpec`."""

    year: int


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names of rs-embed that the adapter imports, with the fields and defaults of its release 0.3."""

    @dataclass
    class Embedding:
        data: Any
        meta: dict[str, Any]

    def register(name: str) -> Any:
        return lambda embedder: setattr(embedder, "model_name", name) or embedder

    contents = {
        "rs_embed": {},
        "rs_embed.core": {},
        "rs_embed.embedders": {},
        "rs_embed.core.embedding": {"Embedding": Embedding},
        "rs_embed.core.registry": {"register": register},
        "rs_embed.embedders.base": {"EmbedderBase": type("EmbedderBase", (), {})},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    yield


def check_embedder(tile: Path, box: Any, year: Any, pooled: Any, grid: Any) -> None:
    embedder = run("rs_embed")["StoreEmbedder"]
    embedder.path = tile
    assert embedder.model_name == "thalweg"
    common = {"spatial": box, "temporal": year, "sensor": None, "backend": "auto"}
    found = embedder().get_embedding(output=grid, **common)
    expected = thalweg.open(tile).thalweg.window(box.minlon, box.minlat, box.maxlon, box.maxlat).embeddings.values[0]
    assert found.data.dims == ("d", "y", "x") and min(found.data.shape[1:]) > 5
    np.testing.assert_array_equal(found.data.values, expected)
    mean = embedder().get_embedding(output=pooled, **common)
    np.testing.assert_allclose(mean.data, expected.mean((1, 2)), rtol=1e-5, atol=1e-7)
    assert mean.meta["model"] == "alphaearth-foundations-v1"


def inner_box(tile: Path) -> tuple[float, float, float, float]:
    """Return the box in degrees of the middle of a tile."""
    from pyproj import Transformer

    dataset = thalweg.open(tile)
    to_degrees = Transformer.from_crs(dataset.attrs["proj:wkt2"], 4326, always_xy=True)
    west, south = to_degrees.transform(float(dataset.x[10]), float(dataset.y[30]))
    east, north = to_degrees.transform(float(dataset.x[25]), float(dataset.y[12]))
    return west, south, east, north


def test_rs_embed_gets_the_embeddings_of_a_box_through_a_stand_in(tile: Path, stand_in: None) -> None:
    check_embedder(tile, Box(*inner_box(tile)), Year(2020), Output("pooled"), Output("grid"))


def test_rs_embed_gets_the_embeddings_of_a_box(tile: Path) -> None:
    if importlib.util.find_spec("rs_embed") is None:
        pytest.skip("rs-embed is not installed: it needs Python 3.12")
    from rs_embed import BBox, OutputSpec, TemporalSpec

    check_embedder(tile, BBox(*inner_box(tile)), TemporalSpec.year(2020), OutputSpec.pooled(), OutputSpec.grid())


def test_the_notebooks_hold_no_outputs_and_no_paths_of_a_machine() -> None:
    import nbformat

    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert [path.stem for path in paths] == ["folder-to-crop-map", "steering-an-image", "towers-to-gpp"]
    for path in paths:
        assert f"notebooks/{path.name}" in DOCUMENT.read_text("utf-8")
        for cell in nbformat.read(path, 4).cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert not re.search(r"[\"']/[a-z]", cell.source), "a path of one machine"
