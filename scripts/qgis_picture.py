"""Draw a raster with QGIS's own renderer and its style, without a screen, next to the legend.

Run it with the Python that has the module `qgis` (Debian: python3-qgis):

    QT_QPA_PLATFORM=offscreen python3 scripts/qgis_picture.py crops/map.tif map.png [--prefix /usr]

It prints one JSON object: the version of QGIS, the renderer, the reference system, and the classes of the style.
"""

import argparse
import json
from typing import Any

WIDTH, HEIGHT, MARGIN, LEGEND = 600, 528, 10, 230
"""Size of the map, of the margin and of the legend in pixels."""


def draw(raster: str, out: str, prefix: str) -> dict[str, Any]:
    """Draw a raster to a PNG and return what QGIS found."""
    from qgis.core import QgsApplication, QgsMapRendererSequentialJob, QgsMapSettings, QgsRasterLayer
    from qgis.PyQt.QtCore import QSize, Qt
    from qgis.PyQt.QtGui import QColor, QImage, QPainter

    application = QgsApplication([], False)
    application.setPrefixPath(prefix, True)
    application.initQgis()
    layer = QgsRasterLayer(raster, "map")
    if not layer.isValid():
        raise SystemExit(f"{raster}: QGIS cannot open it")
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(WIDTH, HEIGHT))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    picture = QImage(WIDTH + LEGEND + MARGIN, HEIGHT + 2 * MARGIN, QImage.Format_RGB32)
    picture.fill(QColor("white"))
    painter = QPainter(picture)
    painter.drawImage(MARGIN, MARGIN, job.renderedImage())
    renderer = layer.renderer()
    classes = [(part.value, part.label, part.color.name()) for part in renderer.classes()]
    for row, (_, label, color) in enumerate(classes):
        top = 3 * MARGIN + 26 * row
        painter.fillRect(WIDTH + 3 * MARGIN, top, 24, 16, QColor(color))
        painter.setPen(Qt.black)
        painter.drawText(WIDTH + 3 * MARGIN + 34, top + 13, label)
    painter.end()
    picture.save(out)
    from qgis.core import Qgis

    found = {"qgis": Qgis.QGIS_VERSION, "renderer": renderer.type(), "crs": layer.crs().authid(), "classes": classes}
    application.exitQgis()
    return found


def main() -> None:
    """Draw the raster that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("raster", help="GeoTIFF; QGIS applies NAME.qml next to it")
    parser.add_argument("out", help="PNG to write")
    parser.add_argument("--prefix", default="/usr", help="folder that QGIS is installed in")
    arguments = parser.parse_args()
    print(json.dumps(draw(arguments.raster, arguments.out, arguments.prefix), ensure_ascii=False))


if __name__ == "__main__":
    main()
