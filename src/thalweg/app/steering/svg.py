"""Small drawings for the boards, as SVG: the tree of choices, the map of where one has been, a line over steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from thalweg.steer.navigation.history import Node

_CELL, _THUMB = 64, 48


def tree(
    nodes: Mapping[int, Node], current: int, names: Mapping[int, str], picture: Callable[[int], str | None]
) -> str:
    """Draw nodes from left to right, each a button that returns to it.

    Args:
        nodes: by number, parents before children.
        current: the number of the node that one is at.
        names: those given by people.
        picture: the address of a node's image; None where it was never rendered.
    """
    places = _places(nodes)
    way = _way(nodes, current)
    width = (max(x for x, _ in places.values()) + 1) * _CELL
    height = (max(y for _, y in places.values()) + 1) * _CELL
    lines, buttons = [], []
    for number, node in nodes.items():
        x, y = (place * _CELL + _CELL / 2 for place in places[number])
        if node.parent is not None:
            from_x, from_y = (place * _CELL + _CELL / 2 for place in places[node.parent])
            on_way = " tw-way" if number in way else ""
            bend = (from_x + x) / 2
            lines.append(f'<path class="tw-edge{on_way}" d="M{from_x} {from_y}C{bend} {from_y} {bend} {y} {x} {y}"/>')
        label = f"node {number}{f', {names[number]}' if number in names else ''}"
        if number == current:
            label += ", current"
        half = _THUMB / 2
        box = f'x="{x - half}" y="{y - half}" width="{_THUMB}" height="{_THUMB}"'
        address = picture(number)
        image = f'<image href="{escape(address)}" {box}/>' if address else ""
        buttons.append(
            f'<g class="tw-node{" tw-here" if number == current else ""}" role="button" tabindex="0" data-act="go" '
            f'data-value="{number}" aria-label="Return to {escape(label)}"><title>{escape(label)}</title>'
            f'<rect {box}/>{image}<rect class="tw-frame" {box}/>'
            f'<text x="{x}" y="{y + half + 7}">{escape(names.get(number, str(number))[:12])}</text></g>'
        )
    return (
        f'<svg class="tw-tree" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Tree of choices">{"".join(lines + buttons)}</svg>'
    )


def _places(nodes: Mapping[int, Node]) -> dict[int, tuple[int, int]]:
    """Column and row of each node: a first child goes on in its parent's row, others get rows of their own."""
    children: dict[int | None, list[int]] = {}
    for number, node in nodes.items():
        children.setdefault(node.parent, []).append(number)
    places: dict[int, tuple[int, int]] = {}
    lowest = -1
    waiting = [(next(iter(nodes)), 0, True)]  # the next node to place comes last; a tree may be too deep to recurse
    while waiting:
        number, column, begins_row = waiting.pop()
        lowest += begins_row
        places[number] = (column, lowest)
        reached = children.get(number, [])
        waiting += [(child, column + 1, child != reached[0]) for child in reversed(reached)]
    return places


def _way(nodes: Mapping[int, Node], number: int | None) -> list[int]:
    """The nodes from the root to `number`."""
    way: list[int] = []
    while number is not None:
        way.append(number)
        number = nodes[number].parent
    return way[::-1]


def place_map(nodes: Mapping[int, Node], current: int, candidates: Sequence[Sequence[float]]) -> str:
    """Draw where nodes lie along the first two principal axes of the prompts near the start, which is in the middle.

    The axes never change during a walk, and the scale only doubles, so that places stay where they are.

    Args:
        nodes: by number.
        current: the number of the node that one is at.
        candidates: points of the candidates shown.
    """
    spots = {number: _two(node.point) for number, node in nodes.items()}
    shown = [_two(point) for point in candidates]
    furthest = max(max(abs(x), abs(y)) for x, y in (*spots.values(), *shown))
    extent = 1.5
    while extent < furthest < math.inf:
        extent *= 2

    def at(spot: tuple[float, float]) -> tuple[float, float]:
        return round(100 + 95 * spot[0] / extent, 1), round(100 - 95 * spot[1] / extent, 1)

    route = " ".join(f"{x},{y}" for x, y in (at(spots[number]) for number in _way(nodes, current)))
    marks = [f'<circle class="tw-candidate" cx="{x}" cy="{y}" r="3"/>' for x, y in map(at, shown)]
    for number, spot in spots.items():
        x, y = at(spot)
        kind = "tw-here" if number == current else "tw-been"
        marks.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"><title>node {number}</title></circle>')
    ring = round(95 / extent, 1)
    return (
        '<svg class="tw-map" viewBox="0 0 200 200" role="img" aria-label="Map of where the walk has been, the start in '
        f'the middle: {len(spots)} nodes, {len(shown)} candidates"><line x1="5" y1="100" x2="195" y2="100"/>'
        f'<line x1="100" y1="5" x2="100" y2="195"/><circle class="tw-ring" cx="100" cy="100" r="{ring}"/>'
        f'<polyline class="tw-way" points="{route}"/>{"".join(marks)}</svg>'
    )


def _two(point: Sequence[float]) -> tuple[float, float]:
    x, y, *_ = (*point, 0.0, 0.0)
    return x, y


def line(rows: Sequence[tuple[float, float]], best: int | None, label: str) -> str:
    """Draw a value over steps.

    Args:
        rows: step and value.
        best: the row to mark, if any.
        label: what the value is.
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
    mark = "" if best is None else '<circle class="tw-here" cx="{}" cy="{}" r="4"/>'.format(*points[best])
    route = " ".join(f"{x},{y}" for x, y in points)
    said = f"{escape(label)} over {len(rows)} steps, from {values[0]:.4g} to {values[-1]:.4g}"
    return (
        f'<figure class="tw-chart"><svg viewBox="0 0 300 100" role="img" aria-label="{said}">'
        f'<polyline class="tw-way" points="{route}"/>{dots}{mark}</svg>'
        f"<figcaption>{escape(label)}: {low:.4g} to {high:.4g}, step {rows[-1][0]:.0f}</figcaption></figure>"
    )
