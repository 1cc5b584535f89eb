"""Styles of maps for QGIS (.qml): classes with their names and colours, or a colour ramp of numbers."""

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from thalweg.earth.export.categorical import distinct_colours, qgis_style

_QGIS_VERSION = "3.28"
_RAMP_STEPS = 6


def write_class_style(path: Path, classes: tuple[str, ...]) -> None:
    """Write the style of a map of classes.

    Args:
        path: file to write; QGIS finds it if it has the raster's name.
        classes: names of the classes, in the order of their codes from 1.
    """
    path.write_text(qgis_style(classes, distinct_colours(len(classes)), first=1), encoding="utf-8")


def write_number_style(path: Path, low: float, high: float) -> None:
    """Write the style of a map of numbers: a colour ramp from `low` to `high`."""
    from matplotlib import colormaps

    root = Element("qgis", version=_QGIS_VERSION)
    pipe = SubElement(root, "pipe")
    renderer = SubElement(pipe, "rasterrenderer", type="singlebandpseudocolor", band="1", opacity="1", alphaBand="-1")
    shader = SubElement(SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED")
    for step in range(_RAMP_STEPS):
        share = step / (_RAMP_STEPS - 1)
        value = low + share * (high - low)
        red, green, blue = (round(255 * part) for part in colormaps["viridis"](share)[:3])
        shown = f"#{red:02x}{green:02x}{blue:02x}"
        SubElement(shader, "item", value=f"{value:.6g}", label=f"{value:.4g}", color=shown, alpha="255")
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
