"""`thalweg earth fetch`: from a bounding box to a cube, also as the first step of `thalweg earth embed`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.flags import Command, with_flags
from thalweg.cli.common.progress import progress
from thalweg.errors import UsageError
from thalweg.io.atomic import refuse_existing

if TYPE_CHECKING:
    from thalweg.earth.stac.plan import FetchPlan
    from thalweg.earth.stac.search.request import Request

Box = Annotated[
    tuple[float, float, float, float] | None, typer.Option("--bbox", help="west south east north in degrees")
]
Time = Annotated[str | None, typer.Option("--time", help="a day, month or year, or two: 2022-01/2022-12")]
Sensors = Annotated[
    list[str] | None,
    typer.Option("--sensor", help="a declared sensor, repeat for more; by default those of the shipped model"),
]
CatalogueName = Annotated[
    str, typer.Option("--catalog", help="planetary-computer, earth-search, cdse, or a STAC catalogue's URL or path")
]
Crs = Annotated[
    str | None, typer.Option("--crs", help="reference system of the grid; by default the UTM zone of the box's centre")
]
DEFAULT_CATALOGUE = "planetary-computer"


@dataclass(frozen=True)
class Search:
    """Search of a catalogue as the command line asks for it.

    Attributes:
        command: called command; its flags appear in messages.
        bbox: west, south, east, north in degrees; None where the command got no box.
        time: a day, month or year, or two of them; None where the command got no time.
        sensor: names of declared sensors; None for the default ones.
        catalog: name, URL or path of a catalogue.
        crs: reference system of the grid; None for the default one.
    """

    command: Command
    bbox: tuple[float, float, float, float] | None
    time: str | None
    sensor: list[str] | None
    catalog: str
    crs: str | None

    def request(self) -> "Request":
        """Return the request of the search; `UsageError` if it is invalid, or has no box or time."""
        from thalweg.earth.stac.search.request import Request

        if self.bbox is None or self.time is None:
            example = "`bbox=4.30 50.90 4.32 50.92` `time=2022`"
            raise UsageError(f"{self.command.name}: expected `bbox=W S E N` and `time`, as in {example}")
        return Request(self.bbox, self.time, tuple(self.sensor) if self.sensor else None, self.crs)


def fetch(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Zarr store to write; must not exist")],
    bbox: Box = None,
    time: Time = None,
    sensor: Sensors = None,
    catalog: CatalogueName = DEFAULT_CATALOGUE,
    crs: Crs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the items and the size, and stop")] = False,
) -> None:
    """Fetch a cube from a STAC catalogue: a box, a span of time, one grid of 10 m. A killed run resumes."""
    planned = _planned(Search(context.command, bbox, time, sensor, catalog, crs), out)
    if dry_run:
        for name, dates in planned.dates.items():
            for date in dates:
                print(f"{name}  {date.time:%Y-%m-%d %H:%M}  {' '.join(date.names)}")
        return
    _fetch(planned, out)
    print(f"cube: {out}")


def cube_and_out(first: Path, second: Path | None, search: Search) -> tuple[Path, Path]:
    """Return the cube to embed and the store to write; with a box, the cube is fetched first, next to the store.

    Args:
        first: first path of the command: the cube, or the store where there is a box.
        second: second path of the command: the store; None where there is a box.
        search: search for the cube.

    Raises:
        UsageError: the arguments do not fit together, or one of the paths to write exists already.
    """
    if search.bbox is None and second is not None:
        return first, second
    if search.bbox is None or search.time is None or second is not None:
        raise UsageError("embed: expected CUBE OUT.zarr, or OUT.zarr with `bbox=W S E N` and `time`")
    out, cube = first, first.with_name(f"{first.stem}-cube.zarr")
    refuse_existing(out)
    if not cube.exists():
        _fetch(_planned(search, cube), cube)
    elif not _is_fetched_for(cube, search):
        raise UsageError(f"{cube}: exists already, of another box or time: choose another name or remove it")
    print(f"cube: {cube}")
    return cube, out


def _planned(search: Search, out: Path) -> "FetchPlan":
    """Search a catalogue and print the plan, with the flags of the called command."""
    from thalweg.earth.stac.plan import plan

    request = search.request()
    refuse_existing(out)
    planned = plan(request, search.catalog)
    print("\n".join(with_flags(line, search.command) for line in planned.lines()))
    return planned


def _fetch(planned: "FetchPlan", out: Path) -> None:
    """Fetch a plan; shows progress, and a line on stderr for each item skipped."""
    from thalweg.earth.stac.fetch import fetch as fetch_planned

    with progress("MB") as show:
        fetch_planned(planned, out, show, lambda line: print(f"thalweg: {line}", file=sys.stderr))


def _is_fetched_for(cube: Path, search: Search) -> bool:
    """Return True if a cube was fetched for a search, by an earlier run that was stopped while it embedded."""
    from thalweg.earth.stac.zarr_writer import fetched_request

    return fetched_request(cube) == search.request()
