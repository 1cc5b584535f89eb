"""Commands `thalweg earth fetch` and `thalweg earth embed --bbox`."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac_server import StacServer
from stac_site import Site
from thalweg.earth.store.portable import structured
from thalweg.earth.store.reader import open_store

WEST = slice(2, 18)
REPOSITORY = Path(__file__).parents[3]
FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))  # a file may not grow beyond it, as on a full disk
from thalweg.cli import main
sys.argv = ["thalweg", *sys.argv[1:]]
main()
"""


def box_of(site: Site, columns: slice = WEST) -> tuple[str, ...]:
    return ("--bbox", *(repr(edge) for edge in site.box(columns)))


def test_a_dry_run_lists_items_and_size_and_writes_nothing(site: Site, server: StacServer, cli: Callable) -> None:
    ran = cli("earth", "fetch", *box_of(site), "--time", "2018-01", "out.zarr", "--catalog", server.api, "--dry-run")
    assert ran.code == 0 and ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0].endswith("30 x 18 px of 10 m, EPSG:32631")
    assert lines[1].startswith("sentinel-2: ") and "items of sentinel-2-l2a on" in lines[1]
    dates = {
        name: len([line for line in lines if line.startswith(f"{name}  ")]) for name in ("sentinel-2", "sentinel-1")
    }
    megabytes = 30 * 18 * (21 * dates["sentinel-2"] + 4 * dates["sentinel-1"]) / 1e6
    assert f"size: {megabytes:,.1f} MB before compression" in lines
    assert any(line.startswith("sentinel-2  2018-01-03") and line.endswith("S2_31_00 S2_32_00") for line in lines)
    assert not list(Path.cwd().iterdir())
    assert not [path for path in server.requests if path.endswith(".tif")]


def test_fetch_writes_a_cube_that_inspect_reads(site: Site, server: StacServer, cli: Callable) -> None:
    ran = cli(
        *("earth", "fetch", *box_of(site), "--time", "2022-05", "out.zarr"),
        *("--catalog", server.api, "--sensor", "sentinel-2"),
    )
    assert ran.code == 0 and ran.out.splitlines()[-1] == "cube: out.zarr"
    (line,) = ran.err.splitlines()
    assert line.startswith("thalweg: corrupt: skipped, B04 cannot be read")
    assert [entry.name for entry in Path.cwd().iterdir()] == ["out.zarr"]
    seen = cli("earth", "inspect", "out.zarr")
    assert seen.code == 0 and "Sentinel-2 L2A: 4 dates" in seen.out
    again = cli("earth", "fetch", *box_of(site), "--time", "2022-05", "out.zarr", "--catalog", server.api)
    assert again.code == 2 and again.err == "thalweg: out.zarr: exists already: choose another name or remove it\n"


def test_from_a_box_to_embeddings_in_one_command(
    site: Site, server: StacServer, cli: Callable, model_folder: Path
) -> None:
    command = ("earth", "embed", *box_of(site), "--time", "2018-01/2018-03", "out.zarr", "--catalog", server.api)
    ran = cli(*command, "--model", model_folder)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-2:] == ["cube: out-cube.zarr", "embeddings: out.zarr"]
    store = open_store("out.zarr")
    assert store.sizes["time"] >= 2 and np.isfinite(store.embeddings.values).any()
    assert structured(store.attrs, "thalweg:sources")["sentinel-1"]["items"][0] == "S1_00"
    again = cli(*command, "--model", model_folder)
    assert again.code == 2 and "out.zarr: exists already" in again.err

    server.requests.clear()  # a run that was stopped while it embedded: its cube is not fetched again
    os.rename("out.zarr", "first.zarr")
    assert cli(*command, "--model", model_folder).code == 0
    assert not server.requests
    xr.testing.assert_identical(open_store("out.zarr").compute(), open_store("first.zarr").compute())
    os.rename("out.zarr", "second.zarr")
    other = cli("earth", "embed", *box_of(site), "--time", "2018", "out.zarr", "--catalog", server.api)
    assert other.code == 2 and "out-cube.zarr: exists already, of another box or time" in other.err


def test_the_chosen_zone_is_reported_with_the_flag(site: Site, server: StacServer, cli: Callable) -> None:
    arguments = (
        "earth",
        "fetch",
        *box_of(site, slice(4, 28)),
        "--time",
        "2018-01",
        "out.zarr",
        "--catalog",
        server.api,
    )
    said = cli(*arguments, "--dry-run").out
    assert "reaches into 2 UTM zones: its grid is in EPSG:3263" in said and "--crs EPSG:3263" in said
    chosen = cli(*arguments, "--dry-run", "--crs", "EPSG:32632").out
    assert "EPSG:32632" in chosen.splitlines()[0] and "UTM zones" not in chosen


INVALID = {
    "no box": (("fetch", "out.zarr", "--time", "2022"), "expected --bbox W S E N and --time"),
    "no time": (("fetch", "out.zarr", "--bbox", 4.3, 50.9, 4.4, 51.0), "expected --bbox W S E N and --time"),
    "west over east": (("fetch", "out.zarr", "--bbox", 4.4, 50.9, 4.3, 51.0, "--time", "2022"), "not less than east"),
    "antimeridian": (("fetch", "out.zarr", "--bbox", 179.9, 1, -179.9, 2, "--time", "2022"), "antimeridian"),
    "pole": (("fetch", "out.zarr", "--bbox", 4, 84, 5, 85, "--time", "2022"), "UTM has no grid"),
    "dates reversed": (
        ("fetch", "out.zarr", "--bbox", 4.3, 50.9, 4.4, 51.0, "--time", "2022/2021"),
        "2022 is after 2021",
    ),
    "no catalogue": (
        ("fetch", "out.zarr", "--bbox", 4.3, 50.9, 4.4, 51.0, "--time", "2022", "--catalog", "nowhere"),
        "expected planetary-computer, earth-search, cdse",
    ),
    "embed without a store": (("embed", "cube.nc"), "expected CUBE OUT.zarr, or OUT.zarr with --bbox"),
    "embed a cube and a box": (
        ("embed", "cube.nc", "out.zarr", "--bbox", 4.3, 50.9, 4.4, 51.0, "--time", "2022"),
        "expected CUBE OUT.zarr, or OUT.zarr with --bbox",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_raises_one_line_error_and_leaves_nothing(name: str, cli: Callable) -> None:
    arguments, words = INVALID[name]
    ran = cli("earth", *arguments)
    assert ran.code == 2 and ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("thalweg: ") and words in line
    assert not list(Path.cwd().iterdir())


def documented_commands() -> list[str]:
    pages = (REPOSITORY / "docs" / "data-access.md", REPOSITORY / "README.md")
    lines = [line for page in pages for line in page.read_text().splitlines()]
    start = "$ thalweg earth "
    return [line.removeprefix(start) for line in lines if line.startswith(start) and "--bbox" in line]


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_are_valid(line: str) -> None:
    """Parse the documented commands and build their requests; nothing is searched."""
    import typer.main

    from thalweg.cli.earth import earth
    from thalweg.earth.stac import Request

    name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(earth).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, arguments).params
    assert given["out"] is not None or given["cube"] is not None
    assert Request(given["bbox"], given["time"], tuple(given["sensor"] or ()) or None, given["crs"]).grid.shape


def test_a_full_disk_raises_one_line_error_and_leaves_nothing(site: Site, server: StacServer, tmp_path: Path) -> None:
    arguments = (
        "earth",
        "fetch",
        *box_of(site),
        "--time",
        "2018-01",
        str(tmp_path / "out.zarr"),
        "--catalog",
        server.api,
    )
    ran = subprocess.run([sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("thalweg: ") and "could not be written" in line and "free some space" in line
    assert not list(tmp_path.iterdir())
