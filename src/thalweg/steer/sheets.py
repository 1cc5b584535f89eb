"""Contact sheets: images side by side, small ones enlarged, each with a label below it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.io.image_files import check_channels

READABLE_SIDE = 192
"""Shorter side, pixels, that smaller images are enlarged to at least, by a whole factor."""
GAP = 6
"""White pixels between labelled images."""
FONT_SIZE = 14
"""Size of labels below an image as wide as `READABLE_SIDE`, pixels; less where a label is wider than its image."""
MIN_FONT_SIZE = 9
"""Smallest size of labels there; longer ones are cut off."""
LABEL_MARGIN = 6
"""Height that a label has there in addition to its size, pixels."""


@dataclass(frozen=True)
class SheetTile:
    """Place of one image with its label on a labelled sheet, pixels.

    Attributes:
        left: columns to the left of it.
        top: rows above it.
        width: number of columns.
        height: number of rows, those of the label included.
    """

    left: int
    top: int
    width: int
    height: int


def contact_sheet(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Return one image (3, H', W') of images (N, 3, H, W) in rows of `columns`, with white gaps of `gap` pixels."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_ones(channels, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, image in enumerate(images.detach()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def square_columns(count: int) -> int:
    """Return the number of columns of a contact sheet of `count` images that has about as many rows."""
    return math.isqrt(max(count - 1, 0)) + 1


def labelled_sheet(images: Tensor, columns: int, labels: Sequence[str]) -> Tensor:
    """Return a contact sheet for people: images enlarged to a readable size, with their labels below them.

    Labels are as large in relation to wide images as to small ones, and can be read where the sheet is shown reduced.

    Args:
        images: images (N, 3, H, W) in 0..1.
        columns: images per row.
        labels: label of each image.

    Returns:
        Float32 (3, H', W') in 0..1. Pixels of small images are repeated, so that none is invented.

    Raises:
        UsageError: the images have other than 3 channels.
    """
    check_channels(images.shape[1])
    shown = images.detach().cpu().float()
    factor = -(-READABLE_SIDE // min(shown.shape[-2:]))
    shown = shown.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    width = shown.shape[-1]
    font = _font(labels, width)
    tiles = [torch.cat([image, _strip(label, width, font)], 1) for image, label in zip(shown, labels, strict=True)]
    return contact_sheet(torch.stack(tiles), columns, GAP)


def sheet_tiles(width: int, height: int, columns: int, rows: int) -> list[SheetTile]:
    """Return the places of the images, row by row, on a labelled sheet of `width` x `height` pixels."""
    across, down = (width + GAP) // columns, (height + GAP) // rows
    return [
        SheetTile(column * across, row * down, max(across - GAP, 1), max(down - GAP, 1))
        for row in range(rows)
        for column in range(columns)
    ]


def score_labels(seeds: Sequence[int], scores: Sequence[float], prefix: str = "") -> list[str]:
    """Return a label with the seed and the score of each image, such as "seed 3: 0.0244"."""
    return [f"{prefix}seed {seed}: {score:.4g}" for seed, score in zip(seeds, scores, strict=True)]


def _font(labels: Sequence[str], width: int) -> Any:
    """Return the largest font in which the labels fit into a width, pixels."""
    from PIL import ImageFont

    largest, smallest = _scaled(FONT_SIZE, width), _scaled(MIN_FONT_SIZE, width)
    for size in range(largest, smallest, -1):
        font = ImageFont.load_default(size)
        if all(font.getlength(label) <= width for label in labels):
            return font
    return ImageFont.load_default(smallest)


def _strip(label: str, width: int, font: Any) -> Tensor:
    """Return a label in black on white, (3, height, width)."""
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, _scaled(FONT_SIZE + LABEL_MARGIN, width)), "white")
    ImageDraw.Draw(strip).text((0, _scaled(LABEL_MARGIN, width) // 3), label, "black", font)
    return torch.from_numpy(np.asarray(strip, np.float32) / 255).permute(2, 0, 1)


def _scaled(size: int, width: int) -> int:
    """Return a size below an image of `width` pixels."""
    return round(size * width / READABLE_SIDE)
