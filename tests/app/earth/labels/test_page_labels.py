"""Labels of a page: placed where they were drawn, and every hostile value refused in one line."""

import json
import math
from typing import Any

import numpy as np
import pytest
import shapely

from mapping_scenes import box, centre
from thalweg.app.earth.labels import page_labels
from thalweg.app.earth.labels.page_labels import MAX_PAGE_CLASSES, MAX_PAGE_LABELS, MAX_VERTICES, read_page_labels
from thalweg.app.earth.open_stores import OpenStore
from thalweg.errors import UsageError

SQUARE = [[4, 2], [10, 2], [10, 8], [4, 8]]
NESTED: list[Any] = []
for _ in range(200):
    NESTED = [NESTED]


def point(column: float = 5.5, row: float = 7.5, code: int = 0) -> dict[str, Any]:
    return {"class": code, "geometry": {"type": "Point", "coordinates": [column, row]}}


def polygon(*rings: Any, kind: str = "Polygon") -> dict[str, Any]:
    return {"class": 0, "geometry": {"type": kind, "coordinates": list(rings)}}


def test_labels_lie_where_they_were_drawn(scene_store: OpenStore) -> None:
    frame = read_page_labels(["wheat", "maize"], [point(), polygon(SQUARE), point(0.5, 0.5, 1)], scene_store)
    assert frame["class"].tolist() == ["wheat", "wheat", "maize"]
    assert frame.geometry[0].equals(centre(7, 5))
    assert frame.geometry[1].equals(box(2, 4, 6, 6))
    assert frame.geometry[2].equals(centre(0, 0))
    assert frame.crs.to_epsg() == 32631


def test_polygons_have_holes_and_parts(scene_store: OpenStore) -> None:
    hole, far = [[5, 3], [6, 3], [6, 4], [5, 4]], [[20, 20], [24, 20], [24, 24], [20, 24]]
    frame = read_page_labels(["a"], [polygon(SQUARE, hole), polygon([SQUARE], [far], kind="MultiPolygon")], scene_store)
    assert frame.area.tolist() == [3500, 5200]


def test_a_polygon_that_crosses_itself_keeps_its_area(scene_store: OpenStore) -> None:
    frame = read_page_labels(["a"], [polygon([[0, 0], [4, 4], [4, 0], [0, 4]])], scene_store)
    assert frame.geometry[0].is_valid
    assert frame.area[0] == pytest.approx(800)


HOSTILE: dict[str, tuple[Any, Any, str]] = {
    "no classes": ([], [point()], "expected 1 to 100 classes, got 0"),
    "too many classes": ([str(n) for n in range(MAX_PAGE_CLASSES + 1)], [point()], "expected 1 to 100 classes"),
    "classes of another type": ({"a": 1}, [point()], "expected 1 to 100 classes"),
    "a number as class": ([5], [point()], "expected the name of a class to be a text"),
    "a blank class": (["  "], [point()], "expected a name of printable characters"),
    "a class with control characters": (["a\x1b[31m"], [point()], "expected a name of printable characters"),
    "a class with a NUL": (["a\0"], [point()], "a text of whole characters"),
    "half a character": (["\ud800"], [point()], "a text of whole characters"),
    "a long class": (["x" * 61], [point()], "at most 60 characters"),
    "a class twice": (["a", " a "], [point()], "one twice"),
    "no labels": (["a"], [], "no labels yet"),
    "labels of another type": (["a"], "drop table", "expected a list of labels"),
    "a text as label": (["a"], ["x"], "label 1: expected a class and a geometry"),
    "too many labels": (["a"], [point()] * (MAX_PAGE_LABELS + 1), "3,001 labels on the store"),
    "an unknown class": (["a"], [point(code=1)], "the class of label 1"),
    "a negative class": (["a"], [point(code=-1)], "the class of label 1"),
    "true as class": (["a"], [{**point(), "class": True}], "the class of label 1"),
    "no geometry": (["a"], [{"class": 0}], "expected a class and a geometry"),
    "a line": (["a"], [polygon(SQUARE, kind="LineString")], "the kind of label 1"),
    "a kind of another type": (["a"], [{"class": 0, "geometry": {"type": [], "coordinates": [1, 2]}}], "the kind of"),
    "NaN": (["a"], [point(math.nan)], "a column of label 1"),
    "infinity": (["a"], [point(math.inf)], "a column of label 1"),
    "a huge number": (["a"], [point(10**400)], "a column of label 1"),
    "text as coordinate": (["a"], [point("1")], "a column of label 1"),  # type: ignore[arg-type]
    "far outside": (["a"], [point(1e6)], "expected a column of label 1 to be a number from -1 to 49"),
    "three coordinates": (
        ["a"],
        [{"class": 0, "geometry": {"type": "Point", "coordinates": [1, 2, 3]}}],
        "each corner",
    ),
    "two corners": (["a"], [polygon(SQUARE[:2])], "at least 3 different corners"),
    "one corner often": (["a"], [polygon([[1, 1]] * 10)], "at least 3 different corners"),
    "an empty polygon": (["a"], [polygon()], "expected lists of corners"),
    "an empty ring": (["a"], [polygon([])], "expected lists of corners"),
    "corners on a line": (["a"], [polygon([[1, 1], [2, 2], [3, 3]])], "a polygon without an area"),
    "too many corners": (["a"], [polygon([[n % 40, n % 39] for n in range(MAX_VERTICES // 2)])] * 3, "corners in all"),
    "deeply nested": (["a"], [polygon(NESTED)], "expected column and row"),
}


@pytest.mark.parametrize(("classes", "labels", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_value_is_refused_in_one_line(scene_store: OpenStore, classes: Any, labels: Any, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_page_labels(classes, labels, scene_store)
    message = str(refusal.value)
    assert words in message
    assert "\n" not in message and len(message) < 500


def test_polygons_over_too_many_pixels_are_refused(scene_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_labels, "MAX_POLYGON_AREA", 1000)
    whole = polygon([[0, 0], [48, 0], [48, 48], [0, 48]])
    with pytest.raises(UsageError, match="polygons over more than 1,000 pixels"):
        read_page_labels(["a"], [whole], scene_store)


def test_pixels_and_map_are_inverse(scene_store: OpenStore) -> None:
    from thalweg.earth.positions import dataset_geobox

    grid = dataset_geobox(scene_store.dataset)
    shapes = np.array([shapely.Point(3.25, 7.5), shapely.box(1, 2, 5, 9)], object)
    again = page_labels.to_pixels(page_labels.to_map(shapes, grid), grid)
    assert all(shapely.equals_exact(one, other, 1e-6) for one, other in zip(again, shapes, strict=True))
    assert json.dumps(shapely.get_coordinates(again).tolist())
