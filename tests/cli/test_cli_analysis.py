"""`thalweg earth cluster`, `change` and `map --show`: their output, files and refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.earth.store.reader import open_store


@pytest.fixture(scope="module")
def store(cube: object, model: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thalweg.earth.inference.job import Job
    from thalweg.earth.inference.runner import embed_to_zarr

    return embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("stores") / "fields.zarr")


def test_cluster_writes_a_folder_and_prints_the_shares(
    cli: Callable, store: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = cli("earth", "cluster", store, "--k", 3, "--out", out, "--model", model_folder)
    assert (ran.code, ran.err) == (0, "")
    *shares, stability, written = ran.out.splitlines()
    assert len(shares) == 3 and shares[0].startswith("cluster 1: ")
    assert stability.startswith("stability: adjusted Rand index ")
    assert written == f"clusters: {out}"
    assert {entry.suffix for entry in out.iterdir()} == {".tif", ".qml", ".csv", ".json", ".png"}


def test_change_writes_a_folder_and_prints_a_summary(
    cli: Callable, store: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = cli(
        "earth", "change", store, "--from", "2018-01/2018-05", "--to", "2018-06/2018-10", "--out", out, "--model",
        model_folder,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    compared, changed, written = ran.out.splitlines()
    assert compared.startswith("compared: ") and compared.endswith(" of 2018-06/2018-10")
    assert changed.startswith("changed: ") and changed.endswith(" ha")
    assert written == f"change: {out}"
    assert {entry.suffix for entry in out.iterdir()} == {".tif", ".json", ".png"}


@pytest.mark.parametrize("show", ["embedding", "NDVI", "knDVI", "quality", "cluster"])
def test_map_shows_each_quantity(show: str, cli: Callable, store: Path, model_folder: Path, tmp_path: Path) -> None:
    png = tmp_path / "map.png"
    day = str(open_store(store).time.values[4])[:10]
    ran = cli("earth", "map", store, "--show", show, "--date", day, "--model", model_folder, "--png", png)
    assert (ran.code, ran.err, ran.out) == (0, "", f"figure: {png}\n")
    assert png.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cluster", "--k", 1), "1 cluster(s): expected 2 to 50"),
        (("cluster", "--period", "summer"), "period 'summer': expected a date"),
        (("change", "--from", "2018-07", "--to", "2018-07"), "2018-07 and 2018-07 share days"),
        (("change", "--from", "2018-07", "--to", "2019-07", "--level", 0), "level 0: expected a false discovery rate"),
        (("change", "--from", "2018-04", "--to", "2030-07"), "no date of this store lies in 2030-07"),
        (("map", "--show", "ndwi"), "--show 'ndwi': expected embedding, quality, cluster, ndvi"),
        (("map", "--show", "lai", "--pixel", 3, 4), "--show: the series of a pixel shows its embedding"),
        (("map", "--show", "lai"), "lai: this model was trained without it"),
    ],
)
def test_an_impossible_request_is_one_line_and_leaves_nothing(
    arguments: tuple, words: str, cli: Callable, store: Path, model_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    command, *options = arguments
    ran = cli("earth", command, store, *options, "--model", model_folder)
    assert ran.code == 2, ran.err
    (line,) = ran.err.splitlines()
    assert words in line
    assert list(folder.iterdir()) == []


def test_an_existing_folder_is_refused(cli: Callable, store: Path, tmp_path: Path) -> None:
    for command in (("cluster",), ("change", "--from", "2018-04", "--to", "2018-07")):
        ran = cli("earth", command[0], store, *command[1:], "--out", tmp_path)
        assert ran.code == 2
        assert "exists already" in ran.err
