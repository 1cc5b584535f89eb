"""Maps of classes as QGIS draws them, with the colours and names of the style next to the GeoTIFF."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from PIL import Image

from thalweg.earth.export.categorical import write_categorical

SCRIPT = Path(__file__).parents[3] / "scripts" / "qgis_picture.py"
PYTHON = os.environ.get("QGIS_PYTHON", shutil.which("python3", path="/usr/bin") or "python3")
PREFIX = os.environ.get("QGIS_PREFIX_PATH", "/usr")
HAS_QGIS = subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True).returncode == 0


@pytest.mark.skipif(not HAS_QGIS, reason="no QGIS: /usr/bin/python3 has no module qgis (Debian: python3-qgis)")
def test_qgis_draws_classes_in_the_colours_of_their_style(tmp_path: Path) -> None:
    values = np.zeros((60, 60), np.uint8)
    values[:, 30:] = 1
    colours = ["#2f7d32", "#d2a03c"]
    grid = GeoBox.from_bbox((500_000, 5_600_000, 500_600, 5_600_600), "EPSG:32631", resolution=10)
    path = write_categorical(tmp_path / "map.tif", values, ["forest", "maize"], colours, grid)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [PYTHON, SCRIPT, path, tmp_path / "map.png", "--prefix", PREFIX],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["renderer"], found["crs"]) == ("paletted", "EPSG:32631")
    assert [part[1:] for part in found["classes"]] == [["forest", colours[0]], ["maize", colours[1]]]
    drawn = np.asarray(Image.open(tmp_path / "map.png").convert("RGB"))
    with rasterio.open(path) as file:
        table = file.colormap(1)
    assert tuple(drawn[270, 150]) == table[0][:3] and tuple(drawn[270, 460]) == table[1][:3]
