from types import SimpleNamespace

import pytest

from thalweg.app.steering.svg import MAX_TILE_WIDTH, line, node_map, tile, tree
from thalweg.app.steering.views import metric_text
from thalweg.steer.metrics.parsing import parse
from thalweg.steer.sheets import SheetTile


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([("sharpness", "", 1.0)], "sharpness"),
        ([("sharpness", "", 2.0), ("", "", 1.0), ("blur", "", 0.0)], "2*sharpness"),
        ([("sharpness", "", 1.0), ("blur", "", -0.5)], "sharpness - 0.5*blur"),
        ([("colour", "#ff0000", 0.5), ("contrast", "", 1.0)], '0.5*colour: "#ff0000" + contrast'),
    ],
)
def test_metrics_are_written_as_the_command_line_reads_them(rows: list, text: str) -> None:
    assert metric_text(rows) == text
    parse(text)


def test_text_of_a_metric_is_not_parsed() -> None:
    assert metric_text([("text", 'a" + image: "x', 1.0)]).count('"') == 2


def nodes() -> dict:
    parents = {0: None, 1: 0, 2: 1, 3: 0, 4: 3}
    return {n: SimpleNamespace(parent=parent, point=[n, -n, 5.0]) for n, parent in parents.items()}


def test_the_tree_has_a_button_for_each_node_and_escapes_names() -> None:
    drawn = tree(nodes(), 2, {1: "<script>"}, lambda number: f"runs/x&y/{number}.png" if number else None)
    assert drawn.count('role="button"') == 5
    assert drawn.count("tw-current-node") == 1
    assert drawn.count("<image") == 4
    assert "<script>" not in drawn and "&lt;script&gt;" in drawn
    assert "x&amp;y" in drawn
    assert drawn.count("tw-edge tw-path") == 2


def test_points_of_the_map_are_fixed_until_the_scale_doubles() -> None:
    near = {0: SimpleNamespace(parent=None, point=[0.0, 0.0]), 1: SimpleNamespace(parent=0, point=[1.0, 0.5])}
    further = {**near, 2: SimpleNamespace(parent=1, point=[1.4, -1.4])}
    spot = 'cx="163.3" cy="68.3"'
    assert spot in node_map(near, 1, [])
    assert spot in node_map(further, 2, [[0.2, 0.1, 9.0]])
    assert spot not in node_map({**near, 2: SimpleNamespace(parent=1, point=[2.0, 0.0])}, 2, [])
    assert 'cx="100.0" cy="100.0"' in node_map({0: SimpleNamespace(parent=None, point=[])}, 0, [])


def test_a_line_marks_the_best_and_has_a_description() -> None:
    drawn = line([(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)], 1, "score <x>")
    assert 'cx="150.0" cy="8.0" r="4"' in drawn
    assert "score &lt;x&gt; over 3 steps, from 1 to 2" in drawn
    assert line([], None, "score") == ""
    assert "polyline" in line([(0.0, 1.0)], None, "score")


@pytest.mark.parametrize(("width", "height", "shown"), [(192, 212, (192, 212)), (512, 565, (MAX_TILE_WIDTH, 282))])
def test_a_tile_shows_one_image_of_a_sheet(width: int, height: int, shown: tuple[int, int]) -> None:
    drawn = tile("runs/x&y/sheet.png", (4000, 2000), SheetTile(200, 300, width, height), "after, seed <3>")
    assert f'width="{shown[0]}" height="{shown[1]}"' in drawn and f'viewBox="200 300 {width} {height}"' in drawn
    assert '<image href="runs/x&amp;y/sheet.png" width="4000" height="2000"/>' in drawn
    assert 'aria-label="after, seed &lt;3&gt;"' in drawn
