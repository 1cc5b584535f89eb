"""Windows of a cube: rectangles of pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels. It may reach beyond the grid, where the quality is `Quality.OUTSIDE`.

    Attributes:
        top: first row, from 0; negative above the grid.
        left: first column, from 0; negative to the left of the grid.
        height: number of rows.
        width: number of columns.
    """

    top: int
    left: int
    height: int
    width: int

    def grown(self, margin: int) -> "Window":
        """Return the window with `margin` more pixels on every side."""
        return Window(self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin)

    def quarters(self) -> "list[Window]":
        """Return the four quarters of a window of at least two by two pixels; together they cover it."""
        down, right = self.height // 2, self.width // 2
        return [
            Window(top, left, height, width)
            for top, height in ((self.top, down), (self.top + down, self.height - down))
            for left, width in ((self.left, right), (self.left + right, self.width - right))
        ]


def grid_windows(shape: Sequence[int], side: int) -> Iterator[Window]:
    """Yield the windows of `side` by `side` pixels that cover a grid of `shape`, row by row; smaller at its edges."""
    return (window_at(shape, side, index) for index in range(window_count(shape, side)))


def window_count(shape: Sequence[int], side: int) -> int:
    """Return the number of windows of `side` by `side` pixels that cover a grid of `shape`."""
    rows, columns = shape
    return -(-rows // side) * -(-columns // side)


def window_at(shape: Sequence[int], side: int, index: int) -> Window:
    """Return one of the windows that cover a grid, without listing the others.

    Args:
        shape: rows and columns of the grid.
        side: side of a window in pixels; windows at the lower and right edges may be smaller.
        index: index of the window, from 0, row by row.

    Raises:
        IndexError: there is no such window.
    """
    if not 0 <= index < window_count(shape, side):
        raise IndexError(f"window {index} of {window_count(shape, side)}")
    rows, columns = shape
    row, column = divmod(index, -(-columns // side))
    top, left = row * side, column * side
    return Window(top, left, min(side, rows - top), min(side, columns - left))
