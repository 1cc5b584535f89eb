"""`thalweg earth fetch`: from a box to a cube; the same before `thalweg earth embed`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.progress import progress
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.earth.stac import FetchPlan

Box = Annotated[
    tuple[float, float, float, float] | None, typer.Option("--bbox", help="west south east north in degrees")
]
Time = Annotated[str | None, typer.Option("--time", help="a day, month or year, or two: 2022-01/2022-12")]
Sensors = Annotated[
    list[str] | None,
    typer.Option("--sensor", help="a declared sensor; repeat for more; the shipped model's by default"),
]
CatalogueName = Annotated[
    str, typer.Option("--catalog", help="planetary-computer, earth-search, cdse, or a STAC catalogue's URL or path")
]
Crs = Annotated[str | None, typer.Option("--crs", help="grid's reference system; the UTM zone of the box's centre")]
DEFAULT_CATALOGUE = "planetary-computer"


def fetch(
    out: Annotated[Path, typer.Argument(help="Zarr store to write; must not exist")],
    bbox: Box = None,
    time: Time = None,
    sensor: Sensors = None,
    catalog: CatalogueName = DEFAULT_CATALOGUE,
    crs: Crs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the items and the size, and stop")] = False,
) -> None:
    """Fetch a cube from a STAC catalogue: a box, a span of time, one grid of 10 m. A killed run resumes."""
    if bbox is None or time is None:
        raise UsageError("fetch: expected --bbox W S E N and --time, as in --bbox 4.30 50.90 4.32 50.92 --time 2022")
    planned = _planned(out, bbox, time, sensor, catalog, crs)
    if dry_run:
        for name, dates in planned.dates.items():
            for date in dates:
                print(f"{name}  {date.time:%Y-%m-%d %H:%M}  {' '.join(date.names)}")
        return
    _fetch(planned, out)
    print(f"cube: {out}")


def cube_and_out(
    first: Path,
    second: Path | None,
    bbox: tuple[float, float, float, float] | None,
    time: str | None,
    sensor: list[str] | None,
    catalog: str,
    crs: str | None,
) -> tuple[Path, Path]:
    """The cube to embed and the store to write; with a box the cube is fetched first, beside the store."""
    if bbox is None and second is not None:
        return first, second
    if bbox is None or time is None or second is not None:
        raise UsageError("embed: expected CUBE OUT.zarr, or OUT.zarr with --bbox W S E N and --time")
    out, cube = first, first.with_name(f"{first.stem}-cube.zarr")
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    if not cube.exists():
        _fetch(_planned(cube, bbox, time, sensor, catalog, crs), cube)
    elif not _is_of(cube, bbox, time, sensor, crs):
        raise UsageError(f"{cube}: exists already, of another box or time: choose another name or remove it")
    print(f"cube: {cube}")
    return cube, out


def _planned(
    out: Path,
    bbox: tuple[float, float, float, float],
    time: str,
    sensor: list[str] | None,
    catalog: str,
    crs: str | None,
) -> "FetchPlan":
    """Search, and say what was found."""
    from thalweg.earth.stac import Request, plan

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    planned = plan(Request(bbox, time, tuple(sensor) if sensor else None, crs), catalog)
    print("\n".join(planned.lines()))
    return planned


def _fetch(planned: "FetchPlan", out: Path) -> None:
    from thalweg.earth.stac import fetch as fetch_planned

    with progress("MB") as show:
        fetch_planned(planned, out, show, lambda line: print(f"thalweg: {line}", file=sys.stderr))


def _is_of(
    cube: Path, bbox: tuple[float, float, float, float], time: str, sensor: list[str] | None, crs: str | None
) -> bool:
    """Whether a cube was fetched for a request, by an earlier run that was stopped while it embedded."""
    from thalweg.earth.stac import Request, fetched_request

    return fetched_request(cube) == Request(bbox, time, tuple(sensor) if sensor else None, crs)
