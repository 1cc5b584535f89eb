"""Options that name a position: `--pixel ROW COL`, `--xy X Y` and `--lonlat LON LAT`, of which one is given."""

from typing import Annotated

import typer

from thalweg.earth.positions import LonLat, MapPoint, PixelIndex, Position
from thalweg.errors import UsageError

PixelOption = Annotated[
    tuple[float, float] | None, typer.Option("--pixel", metavar="ROW COL", help="a pixel by row and column, from 0")
]
XYOption = Annotated[
    tuple[float, float] | None,
    typer.Option("--xy", metavar="X Y", help="a point in map coordinates of the grid's reference system"),
]
LonLatOption = Annotated[
    tuple[float, float] | None,
    typer.Option("--lonlat", metavar="LON LAT", help="a point in degrees (WGS 84)"),
]


def optional_position(
    pixel: tuple[float, float] | None, xy: tuple[float, float] | None, lonlat: tuple[float, float] | None
) -> Position | None:
    """Return the position that the options name, None if none is given.

    Raises:
        UsageError: More than one is given, or a coordinate is out of range.
    """
    given: list[Position] = [
        *([_pixel_index(*pixel)] if pixel is not None else []),
        *([MapPoint(*xy)] if xy is not None else []),
        *([LonLat(*lonlat)] if lonlat is not None else []),
    ]
    if len(given) > 1:
        raise UsageError("expected one position: give one of --pixel ROW COL, --xy X Y and --lonlat LON LAT")
    return given[0] if given else None


def _pixel_index(row: float, column: float) -> PixelIndex:
    if not (float(row).is_integer() and float(column).is_integer()):
        raise UsageError(
            f"--pixel {row:.10g} {column:.10g}: expected whole numbers, the row and the column; map coordinates are "
            "--xy X Y, degrees --lonlat LON LAT"
        )
    return PixelIndex(int(row), int(column))


def required_position(
    pixel: tuple[float, float] | None, xy: tuple[float, float] | None, lonlat: tuple[float, float] | None
) -> Position:
    """Return the position that the options name.

    Raises:
        UsageError: None or more than one is given, or a coordinate is out of range.
    """
    position = optional_position(pixel, xy, lonlat)
    if position is None:
        raise UsageError("no position: give one of --pixel ROW COL, --xy X Y and --lonlat LON LAT")
    return position
