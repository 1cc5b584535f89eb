"""Maps from labels: folders, rasters, reports, other stores, and what is refused."""

import re
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import xarray as xr

from mapping_scenes import CLASSES, centre, mapping_scene, point_labels, truth
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.mapping_config import MappingConfig, mapping_bytes, window_side
from thalweg.earth.mapping.mapping_run import MappingResult, apply_model, map_labels
from thalweg.errors import UsageError

CONFIG = MappingConfig(calendar="P30D", learner="logistic")


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    scene = mapping_scene()
    scene.embeddings.values[:, :, 2, 3] = np.nan
    return scene


@pytest.fixture(scope="module")
def classified(scene: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> MappingResult:
    out = tmp_path_factory.mktemp("maps") / "crops"
    return map_labels(scene, point_labels(), "crop", out, True, CONFIG)


def test_the_map_is_right_where_it_was_not_labelled(classified: MappingResult) -> None:
    with rasterio.open(classified.folder / "map.tif") as file:
        codes = file.read(1)
        assert file.tags()["class_2"] == "maize"
        assert len({file.colormap(1)[code] for code in (1, 2, 3)}) == 3
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.crs.to_epsg() == 32631
        assert file.transform[:6] == (10, 0, 500_000, 0, -10, 5_600_000)
    assert codes[2, 3] == 0
    assert (codes == truth() + 1).mean() > 0.9
    style = (classified.folder / "map.qml").read_text()
    assert all(f'label="{name}"' in style for name in CLASSES)


def test_probabilities_and_plausible_classes_agree_with_the_map(classified: MappingResult) -> None:
    layers = {}
    for name in ("map", "probabilities", "plausible", "dissimilarity"):
        with rasterio.open(classified.folder / f"{name}.tif") as file:
            layers[name] = file.read()
            if name == "probabilities":
                assert file.descriptions == CLASSES and file.scales == (0.01,) * 3
    known = layers["map"][0] > 0
    assert np.abs(layers["probabilities"][:, known].sum(0).astype(int) - 100).max() <= 2
    assert (layers["plausible"][0, known] == layers["plausible"][1:, known].sum(0)).all()
    assert (layers["plausible"][0, known] >= 1).all()
    assert (layers["plausible"][:, 2, 3] == 255).all() and np.isnan(layers["dissimilarity"][0, 2, 3])
    plausible = np.take_along_axis(layers["plausible"][1:], truth()[None], 0)[0]
    assert 0.83 < plausible[known].mean() <= 1


def test_the_report_says_what_there_is_to_say(classified: MappingResult) -> None:
    report = (classified.folder / "report.md").read_text()
    for words in ("**Blocks** of", "## Scores", "recall (producer's)", "## Area", "Olofsson", "probability sample",
                  "## Plausible classes", "## Learning curve", "dissimilarity", "99% quantile"):  # fmt: skip
        assert words in report
    files = {path.name for path in classified.folder.iterdir()}
    figures = {"map.png", "confusion.png", "areas.png", "plausible.png", "learning-curve.png"}
    assert files == figures | {"map.qml", "report.md", "model.skops", "areas.csv", "confusion.csv"} | {
        f"{name}.tif" for name in ("map", "probabilities", "plausible", "dissimilarity")
    }
    assert re.match(r"macro F1 [01]\.\d{3} on blocks of \d+ px", classified.score_line)


def test_a_map_is_deterministic_and_does_not_depend_on_the_windows(
    scene: xr.Dataset, classified: MappingResult, tmp_path: Path
) -> None:
    plan = classified.model.plan
    small = MappingConfig(calendar="P30D", learner="logistic", memory=mapping_bytes(plan, 16, 90))
    assert window_side(plan, small.memory, 90) == 16
    again = map_labels(scene, point_labels(), "crop", tmp_path / "again", True, small)
    for name in ("map", "probabilities", "plausible"):
        with (
            rasterio.open(tmp_path / "again" / f"{name}.tif") as one,
            rasterio.open(classified.folder / f"{name}.tif") as other,
        ):
            np.testing.assert_array_equal(one.read(), other.read())
    assert again.score_line == classified.score_line


def test_a_model_maps_another_year_and_says_how_far_it_is(classified: MappingResult, tmp_path: Path) -> None:
    model = MappingModel.load(classified.folder)
    later = mapping_scene(seed=9, start="2020-03-01")
    found = apply_model(model, later, tmp_path / "later")
    with rasterio.open(tmp_path / "later" / "map.tif") as file:
        assert (file.read(1) == truth() + 1).mean() > 0.9
    assert "2020-03-01" in (tmp_path / "later" / "report.md").read_text()
    strange = later.copy(deep=True)
    strange.embeddings.values[:, :, :24] += 5
    far = apply_model(model, strange, tmp_path / "strange")
    assert found.summary.shares_beyond[0] < 0.3
    assert 0.45 < far.summary.shares_beyond[1] < 0.8
    assert far.distance_line.startswith("distance from the training pixels: ")


def test_numbers_are_mapped_with_an_interval(scene: xr.Dataset, tmp_path: Path) -> None:
    found = map_labels(scene, point_labels(), "biomass", tmp_path / "biomass", False, MappingConfig(learner="ridge"))
    with rasterio.open(tmp_path / "biomass" / "map.tif") as file:
        values = file.read(1)
    assert np.isnan(values[2, 3])
    inside = np.abs(values - truth()) <= found.model.threshold
    assert np.nanmean(np.where(np.isfinite(values), inside, np.nan)) > 0.85
    report = (tmp_path / "biomass" / "report.md").read_text()
    assert all(words in report for words in ("| R2 |", "## Intervals", "## Mean"))
    assert "colorrampshader" in (tmp_path / "biomass" / "map.qml").read_text()
    apply_model(MappingModel.load(tmp_path / "biomass"), scene, tmp_path / "again")
    with rasterio.open(tmp_path / "again" / "map.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)


def test_the_accessor_maps_in_memory(scene: xr.Dataset, classified: MappingResult) -> None:
    found = scene.thalweg.classify(point_labels(), "crop", config=CONFIG)
    with rasterio.open(classified.folder / "map.tif") as file:
        np.testing.assert_array_equal(found.code.values, file.read(1))
    assert found.probability.dims == ("class", "y", "x")
    assert found["class"].values.tolist() == list(CLASSES)
    assert 0 < found.attrs["macro_f1"] <= 1


def lonely() -> geopandas.GeoDataFrame:
    shapes = [centre(1, 1), centre(2, 2), centre(3, 5)]
    return geopandas.GeoDataFrame({"crop": ["a", "b", "a"]}, geometry=shapes, crs=32631)


@pytest.mark.parametrize(
    ("labels", "column", "config", "words"),
    [
        (point_labels(), "kind", MappingConfig(), "column 'kind': expected crop, biomass"),
        (lonely(), "crop", MappingConfig(), "the labels lie in 1 block(s) of 8 px: expected at least 3"),
        (point_labels().set_crs(None, allow_override=True), "crop", MappingConfig(), "no reference system"),
        (point_labels(), "crop", MappingConfig(learner="magic"), "learner 'magic': expected auto"),
        (point_labels(), "crop", MappingConfig(calendar="P9"), "calendar '2018-03-01/"),
        (point_labels(), "crop", MappingConfig(date="2019-09-01"), "no embedding within 3 days"),
        (point_labels(), "crop", MappingConfig(memory=10**8), "memory 100 MB: too little"),
    ],
)
def test_unusable_input_is_one_line_and_leaves_nothing(
    labels: geopandas.GeoDataFrame, column: str, config: MappingConfig, words: str, scene: xr.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        map_labels(scene, labels, column, tmp_path / "out", True, config)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_stores_of_other_models_and_dimensions_are_refused(classified: MappingResult, tmp_path: Path) -> None:
    scene = mapping_scene()
    for store, words in (
        (scene.assign_attrs({"thalweg:model": "other"}), "the store is of other, the mapping model learned from scene"),
        (scene.isel(embedding=[0, 1]), "the store has 2 dimensions, the mapping model learned from 4"),
    ):
        with pytest.raises(UsageError, match=words):
            apply_model(classified.model, store, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_no_library_warns(scene: xr.Dataset, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        map_labels(scene, point_labels(30), "crop", tmp_path / "out", True, MappingConfig(calendar="P30D"))
