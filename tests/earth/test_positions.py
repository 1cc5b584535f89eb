"""Positions: located on a grid, read from their text form, refused in one line outside of it."""

from collections.abc import Callable

import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from thalweg.earth.inference.compute import embed
from thalweg.earth.positions import (
    LonLat,
    MapPoint,
    PixelIndex,
    Position,
    dataset_geobox,
    format_pixel,
    locate,
    lon_lat,
    map_point,
    parse_position,
)
from thalweg.errors import UsageError

GRID = GeoBox((4, 5), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")


@pytest.mark.parametrize("pixel", [PixelIndex(0, 0), PixelIndex(3, 4), PixelIndex(1, 2)])
def test_a_pixel_is_located_by_each_kind_of_position(pixel: PixelIndex) -> None:
    centre = map_point(pixel, GRID)
    assert centre == MapPoint(500_005 + 10 * pixel.column, 5_599_995 - 10 * pixel.row)
    assert locate(pixel, GRID) == pixel
    assert locate(centre, GRID) == pixel
    assert locate(MapPoint(centre.x + 4.9, centre.y - 4.9), GRID) == pixel
    assert locate(lon_lat(pixel, GRID), GRID) == pixel
    assert map_point(lon_lat(pixel, GRID), GRID).x == pytest.approx(centre.x, abs=1e-3)


def test_a_point_on_an_edge_belongs_to_the_upper_left_pixel() -> None:
    assert locate(MapPoint(500_010, 5_599_990), GRID) == PixelIndex(0, 0)
    assert locate(MapPoint(500_000, 5_600_000), GRID) == PixelIndex(0, 0)
    assert locate(MapPoint(500_050, 5_599_960), GRID) == PixelIndex(3, 4)


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (
            PixelIndex(4, 0),
            "pixel row 4, column 0 is outside the grid: expected a row of 0 to 3 and a column of 0 to 4",
        ),
        (PixelIndex(0, -1), "pixel row 0, column -1 is outside"),
        (MapPoint(500_051, 5_599_990), "x 500051, y 5599990 is outside the grid: expected x 500000 to 500050, y 55999"),
        (MapPoint(12, 3), "x 12, y 3 is outside"),
        (LonLat(3.1, 50.5517), "longitude 3.1, latitude 50.5517 is outside the grid: expected longitude 3 to 3.0007"),
    ],
)
def test_a_position_outside_is_refused(position: Position, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(position, GRID)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MapPoint(float("nan"), 0), "expected two finite map coordinates"),
        (lambda: LonLat(364.31, 50.9), "write 4.31 50.9"),
        (lambda: LonLat(50, 110), "longitude comes first, write 110 50"),
        (lambda: LonLat(float("inf"), 50), "expected a longitude of -180 to 180"),
    ],
)
def test_coordinates_out_of_range_are_refused(make: Callable[[], Position], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value)


def test_positions_are_read_from_their_text() -> None:
    assert parse_position("pixel:12,30") == PixelIndex(12, 30)
    assert parse_position(" XY: 500005 , -5.5e6 ") == MapPoint(500_005, -5.5e6)
    assert parse_position("lonlat:4.31,50.91") == LonLat(4.31, 50.91)
    assert parse_position(format_pixel(PixelIndex(7, 9))) == PixelIndex(7, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12,30", "write pixel:30,12 if they are column 12 and row 30"),
        ("here", "expected pixel:ROW,COLUMN, xy:X,Y or lonlat:LON,LAT"),
        ("pixel:1.5,2", "expected whole numbers as row and column"),
        ("pixel:1", "expected pixel:ROW,COLUMN"),
        ("tile:1,2", "expected pixel:ROW,COLUMN"),
    ],
)
def test_ambiguous_and_invalid_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_position(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_grid_of_embeddings_and_of_their_parts(cube: object, model: object) -> None:
    dataset: xr.Dataset = embed(cube, model)
    grid = dataset_geobox(dataset)
    assert grid.shape == (32, 32)
    assert grid.crs.epsg == 32631
    point = MapPoint(float(dataset.x[20]) + 3, float(dataset.y[12]) - 3)
    assert locate(point, grid) == PixelIndex(12, 20)
    part = dataset_geobox(dataset.isel(y=slice(10, 20), x=slice(20, 21)))
    assert part.shape == (10, 1)
    assert locate(point, part) == PixelIndex(2, 0)
    assert locate(point, dataset_geobox(dataset.isel(y=slice(0, None, 2), x=slice(0, None, 2)))) == PixelIndex(6, 10)
    with pytest.raises(UsageError, match="x is not evenly spaced"):
        dataset_geobox(dataset.isel(x=[0, 1, 5]))
    with pytest.raises(UsageError, match="no dimension y"):
        dataset_geobox(dataset.isel(y=0))
