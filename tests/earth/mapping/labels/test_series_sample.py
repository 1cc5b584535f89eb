"""Series sampled at points and in polygons, and written as tables."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mapping_scenes import box, centre, mapping_scene
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.mapping.labels.series_sample import sample, write_sample
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import DataWarning, UsageError


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    return mapping_scene(dates=5)


def table(*shapes: object) -> geopandas.GeoDataFrame:
    names = [f"f{index}" for index in range(len(shapes))]
    return geopandas.GeoDataFrame({"name": names, "pixels": 1}, geometry=list(shapes), crs=32631)


def test_points_are_their_pixel_and_polygons_their_mean(scene: xr.Dataset) -> None:
    found = sample(scene, table(centre(3, 7), box(10, 20, 4, 5)).to_crs(4326))
    assert found["feature"].tolist() == [1] * 5 + [2] * 5
    point, polygon = found[found.feature == 1], found[found.feature == 2]
    np.testing.assert_allclose(point["e2"], scene.embeddings.values[:, 1, 3, 7], rtol=1e-5)
    assert point["e2_spread"].isna().all()
    inside = scene.embeddings.values[:, 2, 10:14, 20:25].reshape(5, -1)
    np.testing.assert_allclose(polygon["e3"], np.nanmean(inside, 1), rtol=1e-5)
    np.testing.assert_allclose(polygon["e3_spread"], np.nanstd(inside, 1, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(polygon["usable"], np.isfinite(inside).mean(1))
    np.testing.assert_allclose(polygon["e3_uncertainty"], 0.1, rtol=1e-5)
    assert set(point["quality"]) <= {"clear", "cloud"}
    assert (polygon["pixels"] == 20).all()
    assert (polygon["label_pixels"] == 1).all()


def test_a_feature_does_not_depend_on_the_others(scene: xr.Dataset) -> None:
    shapes = [centre(3, 7), box(10, 20, 4, 5), centre(40, 41), box(0, 0, 48, 48)]
    together = sample(scene, table(*shapes))
    for number, shape in enumerate(shapes, 1):
        alone = sample(scene, table(shape)).drop(columns=["feature", "name"])
        own = together[together.feature == number].drop(columns=["feature", "name"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, own)


def test_features_outside_are_named_in_a_warning(scene: xr.Dataset) -> None:
    with pytest.warns(DataWarning, match=r"1 feature\(s\) outside the store"):
        found = sample(scene, table(centre(3, 7), centre(90, 90)))
    assert found["feature"].unique().tolist() == [1]


def test_decoded_quantities_have_their_values_and_an_uncertainty(cube: Cube, model: EarthModel) -> None:
    store = embed(cube, model)
    row, column = 12, 20
    x, y = float(store.x[column]), float(store.y[row])
    point = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([x], [y]), crs=32631)
    found = sample(store, point, ("ndvi", "B4", "embedding"), model)
    assert [name for name in found if name.startswith("e")] == [
        f"e{index}{part}" for index in range(1, 8) for part in ("", "_uncertainty", "_spread")
    ]
    bands = store.thalweg.decode("sentinel-2", model=model).sel(band="B04").values[:, row, column]
    np.testing.assert_allclose(found["b4"], bands, atol=1e-5)
    usable = found["ndvi"].notna()
    assert usable.any()
    assert (found["ndvi_uncertainty"][usable] > 0).all()


def test_unknown_quantities_and_other_models_are_refused(scene: xr.Dataset) -> None:
    with pytest.raises(UsageError, match="'greenness': expected embedding, lai"):
        sample(scene, table(centre(3, 7)), ["greenness"])
    with pytest.raises(UsageError, match="embeddings of scene, model thalweg-earth"):
        sample(scene, table(centre(3, 7)), ["ndvi"])


def test_tables_are_written_whole(scene: xr.Dataset, tmp_path: Path) -> None:
    found = sample(scene, table(centre(3, 7)))
    for name, read in (("out.csv", pd.read_csv), ("out.parquet", pd.read_parquet)):
        back = read(write_sample(found, tmp_path / name))
        np.testing.assert_allclose(back["e1"], found["e1"], rtol=1e-5)
    with pytest.raises(UsageError, match=r"expected a file ending in .parquet or .csv"):
        write_sample(found, tmp_path / "out.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
