"""`thalweg earth embed` at scale and `thalweg earth export`: their output, files and refusals."""

import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import pytest
import rasterio

from thalweg.earth.store.reader import open_store

UNREACHABLE = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def store(cube: object, model: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thalweg.earth.inference.job import Job
    from thalweg.earth.inference.runner import embed_to_zarr

    return embed_to_zarr(Job(cube, model, quantize=16), tmp_path_factory.mktemp("stores") / "embeddings.zarr")


def test_embed_keeps_to_a_budget_and_prints_the_loss_by_quantization(
    cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    ran = cli(
        "earth", "embed", cube_folder, out, "--model", model_folder, "--memory", "2GB", "--workers", 1, "--quantise", 8
    )
    assert (ran.code, ran.err) == (0, "")
    plan, stored, loss = ran.out.splitlines()
    assert plan.startswith("memory: at most ")
    assert "1 worker(s), blocks of 64 px, 16 date(s) at once" in plan
    assert stored == f"embeddings: {out}"
    assert loss.startswith("quantized to 8 bits: a linear probe of the RGB preview loses ")
    assert open_store(out).attrs["geoemb:data_type"] == "int8"


def test_embed_with_two_workers(cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    ran = cli("earth", "embed", cube_folder, out, "--model", model_folder, "--workers", 2)
    assert (ran.code, ran.out) == (0, f"workers: 2\nembeddings: {out}\n")
    assert open_store(out).sizes["embedding"] == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheduler", UNREACHABLE), f"scheduler {UNREACHABLE}: not reachable"),
        (("--scheduler", UNREACHABLE, "--workers", 2), "--scheduler and --workers: give one of them"),
        (("--memory", "100MB"), "memory 100 MB: too little, this cube needs"),
        (("--memory", "plenty"), "memory 'plenty': expected a size such as 4GB"),
        (("--quantise", 12), "quantise 12: expected 8 or 16 bits"),
    ],
)
def test_an_impossible_request_is_one_line_and_leaves_nothing(
    options: tuple[object, ...],
    words: str,
    cli: Callable,
    cube_folder: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thalweg.earth.inference.dask_backend.CONNECT_TIMEOUT", "1s")
    ran = cli("earth", "embed", cube_folder, tmp_path / "run" / "out.zarr", "--model", model_folder, *options)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


def test_export_writes_each_format(cli: Callable, store: Path, model_folder: Path, tmp_path: Path) -> None:
    dates = open_store(store).sizes["time"]
    for format, files in (("cog", 3 * dates), ("geoparquet", dates), ("stac", 4 * dates + 8)):
        out = tmp_path / format
        ran = cli("earth", "export", store, out, "--format", format, "--model", model_folder)
        assert (ran.code, ran.out, ran.err) == (0, f"{format}: {out}\n", "")
        assert sum(file.is_file() for file in out.rglob("*")) == files
    ran = cli("earth", "export", store, tmp_path / "plain.zarr", "--format", "unsharded")
    assert (ran.code, ran.err) == (0, "")
    assert open_store(tmp_path / "plain.zarr").sizes == open_store(store).sizes
    with rasterio.open(next((tmp_path / "cog").iterdir())) as file:
        assert file.count == 7
    assert len(geopandas.read_parquet(next((tmp_path / "geoparquet").iterdir()))) > 0


def test_export_refuses_in_one_line(cli: Callable, store: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for source, out, words in (
        (store, tmp_path / "taken", "taken: exists already: choose another name or remove it"),
        (tmp_path / "nothing.zarr", tmp_path / "out", "nothing.zarr: no such store"),
        (tmp_path / "taken", tmp_path / "out", "taken: not a readable Zarr store"),
    ):
        ran = cli("earth", "export", source, out, "--format", "cog")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert words in line
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["here", "taken"]


def test_a_missing_extra_is_one_line(
    cli: Callable, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "geopandas", None)  # as if it were not installed
    ran = cli("earth", "export", store, tmp_path / "out", "--format", "geoparquet")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert "needs geopandas, which is not installed" in line
    assert "thalweg[earth,archive,mapping,gpp]" in line
    assert not (tmp_path / "out").exists()
