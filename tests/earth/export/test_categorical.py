"""Maps of classes and of numbers as GeoTIFF: values, place, colours, names and the QGIS style."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from thalweg.earth.export.bands import write_bands
from thalweg.earth.export.categorical import NO_CLASS, distinct_colours, write_categorical
from thalweg.errors import ThalwegError, UsageError

GRID = GeoBox((300, 520), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
NAMES = ["water", "maize & beet", "forêt"]
COLOURS = ["#1f4fd0", "#e0b020", "#107010"]


def classes() -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 3, GRID.shape)
    values[:5] = NO_CLASS
    return values


def test_classes_colours_names_and_place_are_in_the_file(tmp_path: Path) -> None:
    values = classes()
    path = write_categorical(tmp_path / "new" / "map.tif", values, NAMES, COLOURS, GRID)
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert (file.dtypes, file.nodata, file.crs.to_epsg()) == (("uint8",), NO_CLASS, 32631)
        assert file.transform == GRID.affine
        assert file.colormap(1)[1] == (0xE0, 0xB0, 0x20, 255)
        assert json.loads(file.tags()["classes"]) == NAMES
        assert set(np.unique(file.read(1, out_shape=(150, 260)))) <= {0, 1, 2, NO_CLASS}
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["map.qml", "map.tif"]


def test_the_style_names_every_class(tmp_path: Path) -> None:
    path = write_categorical(tmp_path / "map.tif", classes(), NAMES, COLOURS, GRID)
    entries = list(ElementTree.parse(path.with_suffix(".qml")).iter("paletteEntry"))
    assert [entry.attrib["label"] for entry in entries] == NAMES
    assert [entry.attrib["color"] for entry in entries] == COLOURS
    assert [entry.attrib["value"] for entry in entries] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("names", "colours", "words"),
    [
        (NAMES[:2], COLOURS[:2], r"classes 0 to 2 with 2 name\(s\) and 2 colour\(s\): expected one name"),
        (NAMES, COLOURS[:2], r"with 3 name\(s\) and 2 colour\(s\)"),
        (NAMES, [*COLOURS[:2], "green"], "colour 'green': expected the form #rrggbb"),
        (["x"] * 256, ["#000000"] * 256, "at most 255 classes"),
    ],
)
def test_classes_without_names_are_refused(names: list[str], colours: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        write_categorical(tmp_path / "map.tif", classes(), names, colours, GRID)
    assert list(tmp_path.iterdir()) == []


def test_colours_of_many_classes_differ() -> None:
    assert len(set(distinct_colours(40))) == 40


def test_bands_keep_names_units_and_missing_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    values[3] = np.nan
    path = write_bands(
        tmp_path / "map.tif", {"ndvi": values, "lai": 2 * values}, GRID, {"lai": "m2 m-2"}, {"period": "2018-07"}
    )
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), np.stack([values, 2 * values]))
        assert file.descriptions == ("ndvi", "lai")
        assert file.units[1] == "m2 m-2"
        assert file.tags()["period"] == "2018-07"
        assert np.isnan(file.nodata)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.tif"]


def test_a_map_that_cannot_be_written_raises_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalwegError, match=r"map.tif: could not be written") as caught:
        write_bands(tmp_path / "file" / "map.tif", {"a": np.zeros(GRID.shape)}, GRID)
    assert "\n" not in str(caught.value)
