"""The command line: exit codes, one line on stderr, and nothing half-written left behind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import thalweg
from thalweg.earth.positions import MapPoint, dataset_geobox, lon_lat
from thalweg.earth.store.reader import open_store
from thalweg.earth.training.config import TrainingConfig

THALWEG = Path(sys.executable).with_name("thalweg")

FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))  # from here on every write beyond 8 kB fails
from thalweg.cli import main
main()
"""


@dataclass(frozen=True)
class Ran:
    """Result of a command."""

    code: int
    out: str
    err: str


def assert_one_line(ran: Ran, code: int, *words: str) -> None:
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran.err
    assert ran.err.startswith("thalweg: ")
    assert "Traceback" not in ran.out + ran.err
    for word in words:
        assert word in ran.err


@pytest.fixture(scope="module")
def store(cube_folder: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made by the installed command, in its own process."""
    out = tmp_path_factory.mktemp("stores") / "embeddings.zarr"
    command = [THALWEG, "earth", "embed", cube_folder, out, "--model", model_folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"embeddings: {out}" in done.stdout
    return out


def test_version() -> None:
    done = subprocess.run([THALWEG, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"thalweg {thalweg.__version__}\n", "")


def test_importing_the_command_line_loads_no_heavy_library() -> None:
    heavy = ["torch", "xarray", "lightning", "zarr", "matplotlib", "pandas", "scipy", "rioxarray"]
    script = f"import sys, thalweg.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sensors_lists_the_declarations(cli: Callable) -> None:
    ran = cli("earth", "sensors")
    assert ran.code == 0
    assert [line.split(":")[0] for line in ran.out.splitlines()][:3] == ["sentinel-2", "sentinel-1", "landsat-8"]
    assert "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12" in ran.out
    assert "VV VH" in ran.out


def test_inspect_summarises_sensors_dates_and_clear_fractions(cli: Callable, cube_folder: Path, cube: object) -> None:
    ran = cli("earth", "inspect", cube_folder)
    assert (ran.code, ran.err) == (0, "")
    assert "32 x 32 px of 10 m, EPSG:32631" in ran.out
    for name, series in cube.series.items():
        first, last = str(series.dates[0])[:10], str(series.dates[-1])[:10]
        assert f"{series.sensor.title}: {len(series.dates)} dates, {first} to {last}, longest gap" in ran.out
        assert f"{cube.usable_fraction(name).mean():.0%} of pixel-dates clear" in ran.out
    assert "#" not in ran.out
    assert len(ran.out.splitlines()) < 15


def test_inspect_lists_the_dates_on_request(cli: Callable, cube_folder: Path, cube: object) -> None:
    ran = cli("earth", "inspect", cube_folder, "--dates")
    assert (ran.code, ran.err) == (0, "")
    assert "32 x 32 px of 10 m, EPSG:32631" in ran.out
    for name, series in cube.series.items():
        assert f"{series.sensor.title}: {len(series.dates)} dates" in ran.out
        for date, clear in zip(series.dates, cube.usable_fraction(name), strict=True):
            assert f"  {str(date)[:10]}  {clear:5.0%}" in ran.out
    assert f"{len(cube.eligible())} dates get embeddings" in ran.out
    assert matplotlib.image.imread("landscape-availability.png").std() > 0.01


def test_simulate_writes_a_cube_that_inspect_reads(cli: Callable, tmp_path: Path) -> None:
    out = tmp_path / "landscape"
    assert cli("earth", "simulate", out, "--seed", 5, "--size", 16, "--years", 1).code == 0
    ran = cli("earth", "inspect", out, "--png", tmp_path / "dates.png")
    assert ran.code == 0
    for title in ("Sentinel-2 L2A", "Sentinel-1", "Landsat 8/9"):
        assert f"\n{title}: " in ran.out
    assert (tmp_path / "dates.png").stat().st_size > 1000


def test_embed_writes_a_store(store: Path, cube: object) -> None:
    dataset = open_store(store)
    assert dataset.embeddings.shape == (len(cube.eligible()), 7, 32, 32)
    assert [entry.name for entry in store.parent.iterdir()] == ["embeddings.zarr"]


def test_embed_takes_the_full_size(cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "full.zarr"
    assert cli("earth", "embed", cube_folder, out, "--model", model_folder, "--size", 32).code == 0
    assert open_store(out).sizes["embedding"] == 32


def test_map_and_similar_draw_figures(cli: Callable, store: Path, tmp_path: Path) -> None:
    date = str(open_store(store).time.values[2])[:10]
    for arguments in (("map", store), ("map", store, "--date", date), ("map", store, "--pixel", 12, 12)):
        ran = cli("earth", *arguments, "--png", tmp_path / "figure.png")
        assert (ran.code, ran.err) == (0, "")
        assert matplotlib.image.imread(tmp_path / "figure.png")[..., :3].std() > 0.01
        (tmp_path / "figure.png").unlink()
    ran = cli("earth", "similar", store, "--pixel", 12, 12)
    assert (ran.code, ran.out) == (0, "figure: embeddings-similar.png\n")
    assert matplotlib.image.imread("embeddings-similar.png")[..., :3].std() > 0.01


def test_a_position_is_a_pixel_a_map_point_or_a_longitude_and_latitude(
    cli: Callable, store: Path, tmp_path: Path
) -> None:
    dataset = open_store(store)
    x, y = float(dataset.x[20]) + 3, float(dataset.y[12]) - 3
    point = lon_lat(MapPoint(x, y), dataset_geobox(dataset))
    figures = []
    for position in (("--pixel", 12, 20), ("--xy", x, y), ("--lonlat", point.longitude, point.latitude)):
        ran = cli("earth", "map", store, *position, "--png", tmp_path / "figure.png")
        assert (ran.code, ran.err) == (0, "")
        assert ("pixel: row 12, column 20\n" in ran.out) == (position[0] != "--pixel")
        figures.append(matplotlib.image.imread(tmp_path / "figure.png"))
    assert (figures[0] == figures[1]).all()
    assert (figures[0] == figures[2]).all()


def test_the_date_that_is_taken_is_printed(cli: Callable, store: Path, tmp_path: Path) -> None:
    date = open_store(store).time.values[2]
    near = str(date + np.timedelta64(1, "D"))[:10]
    ran = cli("earth", "map", store, "--date", near, "--png", tmp_path / "figure.png")
    assert ran.out.splitlines()[0] == f"date: {str(date)[:10]}, the nearest to {near}"
    ran = cli("earth", "map", store, "--png", tmp_path / "figure.png")
    assert ran.out.splitlines()[0].endswith(", the clearest")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("map", "STORE", "--date", "2018-13-01"), "expected a date such as 2018-06-30"),
        (("map", "STORE", "--pixel", 1, 2, "--xy", 3, 4), "give one of --pixel ROW COL, --xy X Y and --lonlat LON LAT"),
        (("map", "STORE", "--lonlat", 364.31, 50.9), "write 4.31 50.9"),
        (("map", "STORE", "--png", "STORE/zarr.json/map.png"), "could not be written"),
        (("map", "missing.zarr"), "missing.zarr: no such store"),
        (("similar", "STORE"), "no position: give one of --pixel ROW COL, --xy X Y and --lonlat LON LAT"),
        (("similar", "missing.zarr", "--pixel", 1, 2), "missing.zarr: no such store"),
        (("inspect", "missing"), "missing: no such file or folder"),
        (("embed", "missing", "out.zarr"), "missing: no such file or folder"),
        (("embed", "STORE", "out.zarr", "--size", 8), "--size 8: expected 7 or 32"),
        (("embed", "STORE", "out.zarr", "--model", "missing"), "missing: no such model folder"),
        (("embed", "STORE", "STORE"), "exists already"),
        (("embed", "STORE", "out.zarr", "--quantise", 9), "expected 8 or 16 bits"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_loaded(
    arguments: tuple[object, ...], words: str, cli: Callable, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("loaded before the arguments were checked")

    for name in ("store.reader.open_store", "model.earth_model.EarthModel.load", "cube.cube.Cube.open"):
        monkeypatch.setattr(f"thalweg.earth.{name}", fail)
    ran = cli("earth", *(str(argument).replace("STORE", str(store)) for argument in arguments))
    assert ran.code in (1, 2), ran.err
    assert ran.err.count("\n") == 1
    assert words in ran.err


def test_steps_are_announced_on_a_terminal_only(
    cli: Callable, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("earth", "map", store, "--png", tmp_path / "figure.png")
    assert cli(*arguments).err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli(*arguments).err == f"opening {store} ...\ndrawing the map ...\n"


@pytest.mark.parametrize("command", ["map", "similar", "explain", "whatif", "between", "inspect", "embed"])
def test_refusing_arguments_imports_no_heavy_library(command: str) -> None:
    arguments = {
        "similar": ["--pixel", "1", "2"],
        "explain": ["figure.png"],
        "whatif": ["out", "--date", "2018-06-30", "--target", "nvdi+0.1", "--pixel", "1", "2"],
        "between": ["2018-06-30", "2018-07-30", "out"],
        "embed": ["out.zarr"],
    }.get(command, [])
    script = (
        "import sys\nfrom thalweg.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "heavy = ['torch', 'xarray', 'lightning', 'zarr', 'matplotlib', 'pandas', 'scipy', 'rioxarray', 'odc']\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "earth", command, "missing.zarr", *arguments], capture_output=True, text=True
    )
    assert done.stdout == "2 []\n", done.stderr


def test_training_from_the_command_line(cli: Callable, cube_folder: Path, tmp_path: Path) -> None:
    for sensor in ("sentinel-2", "sentinel-1"):
        ran = cli("earth", "train", sensor, cube_folder, "--out", tmp_path / sensor, "--steps", 0)
        assert (ran.code, ran.out) == (0, f"checkpoint: {tmp_path / sensor}\n")
    card = json.loads((tmp_path / "sentinel-1" / "model.json").read_text())
    assert card["sensors"][0]["name"] == "sentinel-1"
    assert card["training"]["settings"] == json.loads(TrainingConfig(steps=0).model_dump_json())


def test_a_bad_cube_is_one_line_and_leaves_nothing(
    cli: Callable, bad_cube: object, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stores" / "out.zarr"
    out.parent.mkdir()
    assert_one_line(cli("earth", "embed", bad_cube.path, out, "--model", model_folder), 2, *bad_cube.words)
    assert list(out.parent.iterdir()) == []


def test_inspect_of_a_bad_cube_is_one_line_too(cli: Callable, bad_cube: object) -> None:
    assert_one_line(cli("earth", "inspect", bad_cube.path), 2, *bad_cube.words)
    assert list(Path.cwd().iterdir()) == []


def test_a_cube_without_the_reference_sensor_is_refused(
    cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    ran = cli("earth", "embed", cube_folder / "s1.nc", tmp_path / "out.zarr", "--model", model_folder)
    assert_one_line(ran, 2, "no sensor that sets the dates", "add Sentinel-2")


def test_an_output_that_exists_is_left_alone(
    cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "taken"
    out.mkdir()
    (out / "precious").write_text("mine")
    commands = (
        ("embed", cube_folder, out, "--model", model_folder),
        ("simulate", out, "--size", 16, "--years", 1),
        ("train", "sentinel-1", cube_folder, "--out", out, "--steps", 0),
        ("fuse", model_folder / "sentinel-2", "--data", cube_folder, "--out", out, "--steps", 0),
    )
    for command in commands:
        assert_one_line(cli("earth", *command), 2, "taken", "exists already", "choose another")
        assert [entry.name for entry in out.iterdir()] == ["precious"]


@pytest.mark.parametrize("command", ["embed", "simulate", "train", "map"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command: str,
    cube_folder: Path,
    model_folder: Path,
    store: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    out = folder / "out"
    arguments = {
        "embed": ("embed", cube_folder, out, "--model", model_folder),
        "simulate": ("simulate", out, "--size", 16, "--years", 1),
        "train": ("train", "sentinel-1", cube_folder, "--out", out, "--steps", 0),
        "map": ("map", store, "--png", out),
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "earth", *map(str, arguments)], capture_output=True, text=True
    )
    assert_one_line(Ran(done.returncode, done.stdout, done.stderr), 1, str(out), "free some space")
    assert list(folder.iterdir()) == []


def test_a_parent_that_is_a_file_is_one_line(
    cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ran = cli("earth", "embed", cube_folder, tmp_path / "file" / "out.zarr", "--model", model_folder)
    assert_one_line(ran, 1, "out.zarr", "could not be written")


def test_a_truncated_model_is_one_line(cli: Callable, cube_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(model_folder, damaged)
    weights = damaged / "sentinel-1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    ran = cli("earth", "embed", cube_folder, tmp_path / "out.zarr", "--model", damaged)
    assert_one_line(ran, 2, "sentinel-1/weights.safetensors", "damaged", "fetch or write the file again")
    assert not (tmp_path / "out.zarr").exists()


def test_a_path_without_a_model_or_a_store_and_an_unknown_sensor_are_one_line(
    cli: Callable, cube_folder: Path, tmp_path: Path
) -> None:
    ran = cli("earth", "embed", cube_folder, tmp_path / "out.zarr", "--model", tmp_path)
    assert_one_line(ran, 2, "not a checkpoint", "model.json")
    ran = cli("earth", "train", "sentinel-9", cube_folder, "--out", tmp_path / "out")
    assert_one_line(ran, 2, "sensor 'sentinel-9'", "did you mean sentinel-2?")
    assert_one_line(cli("earth", "map", tmp_path / "nothing.zarr"), 2, "no such store")
    xr.Dataset({"rain": ("x", [1.0])}).to_zarr(tmp_path / "rain.zarr", consolidated=False)
    assert_one_line(cli("earth", "map", tmp_path / "rain.zarr"), 2, "without embeddings", "thalweg earth embed")


def test_a_date_or_pixel_without_embeddings_is_one_line(cli: Callable, store: Path) -> None:
    assert_one_line(cli("earth", "map", store, "--date", "2030-01-01"), 2, "within 3 days", "the nearest is of")
    assert_one_line(cli("earth", "map", store, "--date", "Tuesday"), 2, "'Tuesday'", "such as 2018-06-30")
    assert_one_line(cli("earth", "similar", store, "--pixel", 32, 0), 2, "row 32, column 0 is outside", "0 to 31")
    assert_one_line(cli("earth", "similar", store, "--pixel", 1, 1), 2, "no embedding on any date", "another")
    assert list(Path.cwd().iterdir()) == []


def test_the_installed_command_has_no_traceback(tmp_path: Path) -> None:
    command = [THALWEG, "earth", "inspect", tmp_path / "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"thalweg: {tmp_path / 'nothing'}: no such file or folder\n"


def test_an_unexpected_error_is_one_line_that_asks_for_a_report(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[()]:
        raise RuntimeError("a fault\nover two lines")

    monkeypatch.setattr("thalweg.earth.sensors.known_sensors", fail)
    with pytest.raises(RuntimeError):
        cli("earth", "sensors")
    monkeypatch.delenv("THALWEG_TRACEBACK")
    assert_one_line(cli("earth", "sensors"), 1, "RuntimeError: a fault over two lines", "THALWEG_TRACEBACK=1")
