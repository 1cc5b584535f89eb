"""Export of a map of classes: a GeoTIFF with a colour table, and a style file for QGIS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.export.bands import save_cog
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write, write_failure

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

NO_CLASS = 255
"""Value of pixels that have no class."""

GOLDEN_ANGLE = 0.381966
"""Step in hue between neighbouring classes, as a fraction of the circle: no two of them have similar hues."""


def write_categorical(
    path: str | Path, values: NDArray[np.integer], names: Sequence[str], colours: Sequence[str], geobox: "GeoBox"
) -> Path:
    """Write a map of classes as a cloud-optimised GeoTIFF with a colour table, and `NAME.qml` next to it for QGIS.

    QGIS applies a style of the same name when it opens the GeoTIFF. The names of the classes are also in the file's
    metadata, as a JSON list `classes`.

    Args:
        path: GeoTIFF to write; an existing one is replaced, the parents are created.
        values: (H, W), number of the class of each pixel, from 0; `NO_CLASS` where there is none.
        names: names of the classes, 255 at most.
        colours: colours of the classes, as `#rrggbb`.
        geobox: pixel grid of the map, H x W.

    Raises:
        UsageError: There are more than 255 classes, a class has no name or no colour, or a colour has another form.
        ThalwegError: A file cannot be written.
    """
    path = Path(path)
    found = np.unique(values)
    largest = int(found[found != NO_CLASS].max(initial=0))
    if len(names) > NO_CLASS or len(names) != len(colours) or largest >= max(1, len(names)) or found.min(initial=0) < 0:
        raise UsageError(
            f"classes 0 to {largest} with {len(names)} name(s) and {len(colours)} colour(s): expected one name and one "
            f"colour per class, and at most {NO_CLASS} classes"
        )
    table = {number: (*rgb(colour), 255) for number, colour in enumerate(colours)}

    def fill(file: Any) -> None:
        file.write(values.astype(np.uint8), 1)
        file.write_colormap(1, {**table, NO_CLASS: (0, 0, 0, 0)})
        file.set_band_description(1, "class")
        file.update_tags(classes=json.dumps(list(names)))

    save_cog(path, geobox, fill, "MODE", dtype="uint8", count=1, nodata=NO_CLASS)
    style = path.with_suffix(".qml")
    try:
        atomic_write(style, qgis_style(names, colours).encode())
    except OSError as error:
        raise write_failure(style, error) from error
    return path


def qgis_style(names: Sequence[str], colours: Sequence[str], first: int = 0) -> str:
    """Return a QGIS layer style that shows the classes `first`, `first` + 1, ... of a raster in colours with names."""
    root = Element("qgis", styleCategories="Symbology")
    pipe = SubElement(root, "pipe")
    renderer = SubElement(pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1")
    palette = SubElement(renderer, "colorPalette")
    for number, (name, colour) in enumerate(zip(names, colours, strict=True), first):
        SubElement(palette, "paletteEntry", value=str(number), color=colour, label=name, alpha="255")
    indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, encoding="unicode") + "\n"


def distinct_colours(count: int) -> list[str]:
    """Return `count` colours as `#rrggbb`: hues spread over the circle, in three brightnesses."""
    import colorsys

    shades = ((0.65, 0.85), (0.85, 0.62), (0.40, 0.98))
    colours = []
    for number in range(count):
        saturation, value = shades[number % len(shades)]
        rgb = colorsys.hsv_to_rgb(0.58 + number * GOLDEN_ANGLE, saturation, value)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return colours


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour `#rrggbb`."""
    try:
        if len(colour) != 7 or not colour.startswith("#"):
            raise ValueError
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
    except ValueError:
        raise UsageError(f"colour {colour!r}: expected the form #rrggbb, such as #2f7d32") from None
