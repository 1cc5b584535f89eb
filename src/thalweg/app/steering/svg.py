"""Drawings of the views as SVG: the tree of choices, the map of its nodes, a line over steps, images of a sheet."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from thalweg.steer.navigation.history import Node
from thalweg.steer.sheets import SheetTile

MAX_TILE_WIDTH = 256
"""Width, pixels, to which wider images of a sheet are reduced."""
_CELL, _THUMB = 64, 48


def tree(
    nodes: Mapping[int, Node], current: int, names: Mapping[int, str], image_url: Callable[[int], str | None]
) -> str:
    """Draw nodes from left to right; each is a button that returns to it.

    Args:
        nodes: by number, parents before children.
        current: number of the current node.
        names: names that the user gave to nodes, by number.
        image_url: function from a node's number to the URL of its image; None where it was never rendered.
    """
    positions = _positions(nodes)
    path = _path_to_root(nodes, current)
    width = (max(x for x, _ in positions.values()) + 1) * _CELL
    height = (max(y for _, y in positions.values()) + 1) * _CELL
    lines, buttons = [], []
    for number, node in nodes.items():
        x, y = (cell * _CELL + _CELL / 2 for cell in positions[number])
        if node.parent is not None:
            from_x, from_y = (cell * _CELL + _CELL / 2 for cell in positions[node.parent])
            on_path = " tw-path" if number in path else ""
            bend = (from_x + x) / 2
            lines.append(f'<path class="tw-edge{on_path}" d="M{from_x} {from_y}C{bend} {from_y} {bend} {y} {x} {y}"/>')
        label = f"node {number}{f', {names[number]}' if number in names else ''}"
        if number == current:
            label += ", current"
        half = _THUMB / 2
        box = f'x="{x - half}" y="{y - half}" width="{_THUMB}" height="{_THUMB}"'
        url = image_url(number)
        image = f'<image href="{escape(url)}" {box}/>' if url else ""
        buttons.append(
            f'<g class="tw-node{" tw-current-node" if number == current else ""}" role="button" tabindex="0" '
            f'data-action="go" data-value="{number}" aria-label="Return to {escape(label)}">'
            f"<title>{escape(label)}</title>"
            f'<rect {box}/>{image}<rect class="tw-frame" {box}/>'
            f'<text x="{x}" y="{y + half + 7}">{escape(names.get(number, str(number))[:12])}</text></g>'
        )
    return (
        f'<svg class="tw-tree" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Tree of choices">{"".join(lines + buttons)}</svg>'
    )


def _positions(nodes: Mapping[int, Node]) -> dict[int, tuple[int, int]]:
    """Return column and row of each node: a first child is in its parent's row, other children have their own rows."""
    children: dict[int | None, list[int]] = {}
    for number, node in nodes.items():
        children.setdefault(node.parent, []).append(number)
    positions: dict[int, tuple[int, int]] = {}
    lowest = -1
    stack = [(next(iter(nodes)), 0, True)]  # a stack, since a tree may be too deep for recursion
    while stack:
        number, column, begins_row = stack.pop()
        lowest += begins_row
        positions[number] = (column, lowest)
        own_children = children.get(number, [])
        stack += [(child, column + 1, child != own_children[0]) for child in reversed(own_children)]
    return positions


def _path_to_root(nodes: Mapping[int, Node], number: int | None) -> list[int]:
    """Return the numbers of the nodes from the root to `number`."""
    path: list[int] = []
    while number is not None:
        path.append(number)
        number = nodes[number].parent
    return path[::-1]


def node_map(nodes: Mapping[int, Node], current: int, candidates: Sequence[Sequence[float]]) -> str:
    """Draw nodes along the first two principal axes of the prompts near the start, with the start at the centre.

    The axes are fixed during a navigation and the scale changes by factors of two, so that the map is stable.

    Args:
        nodes: by number.
        current: number of the current node.
        candidates: points of the candidates.
    """
    points = {number: _two_axes(node.point) for number, node in nodes.items()}
    shown = [_two_axes(point) for point in candidates]
    furthest = max(max(abs(x), abs(y)) for x, y in (*points.values(), *shown))
    extent = 1.5
    while extent < furthest < math.inf:
        extent *= 2

    def to_pixels(point: tuple[float, float]) -> tuple[float, float]:
        return round(100 + 95 * point[0] / extent, 1), round(100 - 95 * point[1] / extent, 1)

    route = " ".join(f"{x},{y}" for x, y in (to_pixels(points[number]) for number in _path_to_root(nodes, current)))
    marks = [f'<circle class="tw-candidate" cx="{x}" cy="{y}" r="3"/>' for x, y in map(to_pixels, shown)]
    for number, point in points.items():
        x, y = to_pixels(point)
        css_class = "tw-current-node" if number == current else "tw-visited"
        marks.append(f'<circle class="{css_class}" cx="{x}" cy="{y}" r="4"><title>node {number}</title></circle>')
    ring = round(95 / extent, 1)
    return (
        '<svg class="tw-map" viewBox="0 0 200 200" role="img" aria-label="Map of the nodes, the start in the '
        f'centre: {len(points)} nodes, {len(shown)} candidates"><line x1="5" y1="100" x2="195" y2="100"/>'
        f'<line x1="100" y1="5" x2="100" y2="195"/><circle class="tw-ring" cx="100" cy="100" r="{ring}"/>'
        f'<polyline class="tw-path" points="{route}"/>{"".join(marks)}</svg>'
    )


def _two_axes(point: Sequence[float]) -> tuple[float, float]:
    x, y, *_ = (*point, 0.0, 0.0)
    return x, y


def line(rows: Sequence[tuple[float, float]], best: int | None, label: str) -> str:
    """Draw a value over steps.

    Args:
        rows: step and value.
        best: index of the row to mark; None: no mark.
        label: name of the value.
    """
    rows = [(step, value) for step, value in rows if math.isfinite(step) and math.isfinite(value)]
    if not rows:
        return ""
    best = best if best is not None and best < len(rows) else None
    values = [value for _, value in rows]
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, max(step for step, _ in rows) or 1.0
    points = [(round(8 + 284 * step / last, 1), round(92 - 84 * (value - low) / span, 1)) for step, value in rows]
    dots = "".join(f'<circle class="tw-row" cx="{x}" cy="{y}" r="1.5"/>' for x, y in points)
    mark = "" if best is None else '<circle class="tw-current-node" cx="{}" cy="{}" r="4"/>'.format(*points[best])
    route = " ".join(f"{x},{y}" for x, y in points)
    description = f"{escape(label)} over {len(rows)} steps, from {values[0]:.4g} to {values[-1]:.4g}"
    return (
        f'<figure class="tw-chart"><svg viewBox="0 0 300 100" role="img" aria-label="{description}">'
        f'<polyline class="tw-path" points="{route}"/>{dots}{mark}</svg>'
        f"<figcaption>{escape(label)}: {low:.4g} to {high:.4g}, step {rows[-1][0]:.0f}</figcaption></figure>"
    )


def tile(url: str, sheet_size: tuple[int, int], place: SheetTile, label: str) -> str:
    """Draw one image of a sheet with its label, at its own size or `MAX_TILE_WIDTH`.

    Args:
        url: URL of the sheet.
        sheet_size: width and height of the sheet, pixels.
        place: place of the image on the sheet.
        label: description of the image.
    """
    width = min(place.width, MAX_TILE_WIDTH)
    height = round(place.height * width / place.width)
    return (
        f'<svg class="tw-tile" width="{width}" height="{height}" role="img" aria-label="{escape(label)}" '
        f'viewBox="{place.left} {place.top} {place.width} {place.height}">'
        f'<image href="{escape(url)}" width="{sheet_size[0]}" height="{sheet_size[1]}"/></svg>'
    )
