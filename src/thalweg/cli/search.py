"""`thalweg earth index` and `thalweg earth search`."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.common.checks import check_input, check_new, check_store
from thalweg.cli.common.positions import LonLatOption, PixelOption, XYOption, required_position
from thalweg.cli.common.progress import announce, progress
from thalweg.errors import UsageError

FIRST = 10
"""Neighbours that are printed; the files hold all."""

DEFAULT_SEASON = 30.0
"""Days before and after a date within which entries are of its season."""


def index(
    stores: Annotated[list[Path], typer.Argument(help="embedding stores of one model")],
    out: Annotated[Path, typer.Option("--out", help="index folder to write; must not exist")],
    every: Annotated[int, typer.Option(help="index every Nth row and column only")] = 1,
) -> None:
    """Index the embeddings of stores over all their dates, for `thalweg earth search`."""
    for store in stores:
        check_store(store)
    check_new(out)
    announce("sampling the stores")
    from thalweg.earth.search import SearchIndex, build_index

    with progress("pixel-dates") as show:
        build_index(stores, out, every, show)
    print(f"index: {out}, {len(SearchIndex.open(out)):,} embeddings of {len(stores)} store(s)")


def search(
    index: Annotated[Path, typer.Argument(help="folder that `thalweg earth index` wrote")],
    like: Annotated[Path, typer.Option(help="embedding store of the pixel to search for")],
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    date: Annotated[
        str | None, typer.Option(help="a date such as 2018-06-30; all dates of the pixel if left out")
    ] = None,
    season: Annotated[
        float | None, typer.Option(help="days of the year before and after --date to search in; 30 by default")
    ] = None,
    count: Annotated[int, typer.Option(help="neighbours to find")] = 50,
    apart: Annotated[
        int, typer.Option(help="least distance in pixels between two neighbours of one store; 0 lists every date")
    ] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write; LIKE-neighbours by default")] = None,
) -> None:
    """Find the embeddings of an index most like a pixel's: GeoParquet, GeoJSON and a figure."""
    from thalweg.earth.store.lookup import parse_date

    position = required_position(pixel, xy, lonlat)
    if date is not None:
        parse_date(date)
    elif season is not None:
        raise UsageError("--season: expected with --date, whose season it is: give --date too, or leave --season out")
    check_input(index, "index")
    check_store(like)
    out = out or Path(f"{like.stem}-neighbours")
    check_new(out)
    announce(f"opening {index}")
    from thalweg.earth.search import SearchIndex, find_neighbours, neighbour_map
    from thalweg.io.atomic import atomic_folder

    opened = SearchIndex.open(index)
    announce(f"searching {len(opened):,} embeddings")
    found = find_neighbours(opened, like, position, date, count, DEFAULT_SEASON if season is None else season, apart)
    if found.pixel != position:
        print(f"pixel: {found.pixel}")
    announce("drawing the figure")
    with atomic_folder(out) as folder:
        found.write(folder)
        neighbour_map(found, folder / "neighbours.png")
    for rank, one in enumerate(found.found[:FIRST], 1):
        print(
            f"{rank:3} {one.distance:7.3f}  {str(one.date)[:10]}  {one.pixel}  {one.lon_lat.longitude:.5f} "
            f"{one.lon_lat.latitude:.5f}  {one.store.name}"
        )
    fewer = "" if len(found.found) == count else f" of {count} wanted"
    print(f"{len(found.found)} neighbours{fewer}: {out}")
