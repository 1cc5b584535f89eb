"""Saved models, series and maps: equal predictions, and no data for pixels without observations."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import read_grid
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import MapPoint
from thalweg.errors import MissingPathError, UsageError
from thalweg.gpp.data.features import FeatureRecipe, tower_table
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.footprint.footprint import Tower
from thalweg.gpp.models.baselines import RidgeLearner
from thalweg.gpp.models.checkpoint import GppModel, load_model, save_model
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner
from thalweg.gpp.predict import MapJob, predict_map, predict_series


@pytest.fixture(scope="module")
def saved(gpp_model: Path) -> GppModel:
    return load_model(gpp_model)


@pytest.fixture(scope="module")
def south_west(embedded: xr.Dataset) -> xr.Dataset:
    """20 x 20 pixels; the upper left 3 x 3 were never observed."""
    return embedded.isel(y=slice(0, 20), x=slice(0, 20))


@pytest.fixture(scope="module")
def gpp_map(south_west: xr.Dataset, saved: GppModel, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    reported: list[tuple[int, int]] = []
    job = MapJob(south_west, saved)
    path = predict_map(job, tmp_path_factory.mktemp("map") / "gpp.zarr", lambda *at: reported.append(at))
    assert reported[-1] == (400, 400)
    return xr.open_zarr(path, chunks=None, decode_coords="all")


def test_a_saved_model_predicts_as_before(saved: GppModel, fitted: tuple[Ensemble, Windows]):
    model, windows = fitted
    np.testing.assert_array_equal(saved.ensemble.predict(windows), model.predict(windows))
    np.testing.assert_array_equal(saved.ensemble.predict_interval(windows), model.predict_interval(windows))
    assert saved.card.features == windows.features


def test_a_model_is_saved_without_pickle(gpp_model: Path):
    assert {path.name for path in gpp_model.iterdir()} == {"model.json", "weights.safetensors"}


def test_a_model_of_trees_makes_a_map(
    fitted: tuple[Ensemble, Windows], recipe: FeatureRecipe, south_west: xr.Dataset, tmp_path: Path
):
    windows = fitted[1]
    trees = {"trees": partial(LightGBMLearner, config=LightGBMConfig(leaves=4, trees=25, bound_trees=5, climate=True))}
    save_model(Ensemble(trees, members=2).fit(windows), windows, recipe, tmp_path / "model")
    job = MapJob(south_west, load_model(tmp_path / "model"))
    low, gpp, high = job.predict(list(job.windows())[-1])
    known = np.isfinite(gpp)
    assert known.any() and (low <= gpp)[known].all() and (gpp <= high)[known].all()


def test_a_model_is_not_overwritten(
    gpp_model: Path, fitted: tuple[Ensemble, Windows], recipe: FeatureRecipe, tmp_path: Path
):
    with pytest.raises(UsageError, match="exists already"):
        save_model(*fitted, recipe, gpp_model)


def test_a_folder_of_another_kind_is_refused(gpp_model: Path, model_folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="a model of kind fusion, expected gpp"):
        load_model(model_folder / "fusion")
    with pytest.raises(UsageError, match=r"not a GPP model: expected model.json"):
        load_model(tmp_path)
    with pytest.raises(MissingPathError):
        load_model(tmp_path / "none")
    for change, message in (
        ({"features": 3}, "not the card of a GPP model"),
        ({"format": 9}, r"format 9, of thalweg .* train it again"),
        ({"content_hash": ""}, "hash"),
        ({"members": 1}, "1 members, it holds 3 learners"),
        ({"members": 10**9}, "1000000000 members, it holds 3 learners"),
        ({"learners": {"0-0": {"kind": "transformer"}}}, "it holds 1 learners"),
        ({"weights": {"tiny": 0.5, "other": 0.5}}, "it holds 3 learners"),
        ({"training": {}}, "no model can be built from it"),
        ({"features": ["e2", "e1", *(f"e{index}" for index in range(3, 8)), "SW_IN_POT"]}, "in order"),
        ({"features": [*(f"e{index}" for index in range(1, 8)), "SW_IN_POT", "SW_IN_POT"]}, "expected each once"),
    ):
        folder = shutil.copytree(gpp_model, tmp_path / "copy", dirs_exist_ok=True)
        card = json.loads((gpp_model / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(card | change))
        with pytest.raises(UsageError, match=message):
            load_model(folder)
    (shutil.copytree(gpp_model, tmp_path / "cut") / "weights.safetensors").write_bytes(b"12")
    with pytest.raises(UsageError, match=r"weights.safetensors is not a whole safetensors file"):
        load_model(tmp_path / "cut")


@pytest.mark.parametrize(("row", "column"), [(10, 10), (19, 4), (0, 15)])
def test_a_map_equals_the_series_of_every_pixel(
    gpp_map: xr.Dataset, south_west: xr.Dataset, saved: GppModel, row: int, column: int
):
    tower = Tower(MapPoint(float(south_west.x[column]), float(south_west.y[row])), 1)
    table, _ = tower_table(south_west, tower, "pixel")
    series = predict_series(saved, table)
    here = gpp_map.isel(y=row, x=column).sel(time=series["time"].to_numpy())
    for name in ("gpp", "lower", "upper"):
        np.testing.assert_allclose(here[name].values, series[name], atol=1e-4)
    assert np.isfinite(gpp_map["gpp"].isel(y=row, x=column)).sum() == len(series)


def test_a_map_of_a_cube_is_that_of_its_embeddings(
    cube: Cube, embedded: xr.Dataset, model: EarthModel, saved: GppModel
):
    from_cube, from_embeddings = MapJob(cube, saved, model), MapJob(embedded, saved)
    np.testing.assert_array_equal(from_cube.time, from_embeddings.time)
    window = list(from_cube.windows())[-1]
    np.testing.assert_allclose(from_cube.predict(window), from_embeddings.predict(window), atol=1e-3)


def test_a_map_has_coordinates_and_units(gpp_map: xr.Dataset, south_west: xr.Dataset):
    assert gpp_map["gpp"].dims == ("time", "y", "x")
    assert read_grid(gpp_map, "map")[0] == read_grid(south_west, "embeddings")[0]
    np.testing.assert_array_equal(gpp_map.x, south_west.x)
    assert {gpp_map[name].attrs["units"] for name in ("gpp", "lower", "upper")} == {"gC m-2 d-1"}
    assert (gpp_map.time.diff("time") == np.timedelta64(1, "D")).all()
    known = np.isfinite(gpp_map["gpp"])
    assert ((gpp_map["lower"] <= gpp_map["gpp"]) & (gpp_map["gpp"] <= gpp_map["upper"])).where(known, True).all()


def test_pixels_without_observations_have_no_prediction(gpp_map: xr.Dataset):
    assert gpp_map["gpp"].isel(y=slice(0, 3), x=slice(0, 3)).isnull().all()
    assert gpp_map["gpp"].isel(y=slice(3, None), x=slice(3, None)).notnull().mean() > 0.5


def test_a_map_is_not_overwritten(south_west: xr.Dataset, saved: GppModel, tmp_path: Path):
    (tmp_path / "gpp.zarr").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        predict_map(MapJob(south_west, saved), tmp_path / "gpp.zarr")


def test_a_failed_map_leaves_nothing(
    south_west: xr.Dataset, saved: GppModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(MapJob, "predict", fail)
    with pytest.raises(RuntimeError):
        predict_map(MapJob(south_west, saved), tmp_path / "gpp.zarr")
    assert not list(tmp_path.iterdir())


def changed(saved: GppModel, **changes: object) -> GppModel:
    return GppModel(saved.ensemble, saved.card.model_copy(update=changes))


def test_features_that_a_map_lacks_are_refused(south_west: xr.Dataset, saved: GppModel):
    recipe = saved.card.recipe
    with pytest.raises(UsageError, match="needs 'TA_F', which a map does not have: predict the series of a tower"):
        MapJob(south_west, changed(saved, features=("e1", "TA_F")))
    with pytest.raises(UsageError, match="gaps filled by kalman, too slow for every pixel"):
        MapJob(south_west, changed(saved, recipe=recipe.model_copy(update={"gap_filling": "kalman"})))
    with pytest.raises(UsageError, match=r"embedded by thalweg-earth-.*, the GPP model learned from another"):
        MapJob(south_west, changed(saved, recipe=recipe.model_copy(update={"embedding_model": "another"})))
    with pytest.raises(UsageError, match="7 dimensions, the model needs 32"):
        MapJob(south_west, changed(saved, recipe=recipe.model_copy(update={"size": 32})))
    with pytest.raises(UsageError, match="days from first to last date, expected at least 90"):
        MapJob(south_west.isel(time=slice(0, 2)), saved)


def test_a_series_takes_the_class_of_its_site(
    south_west: xr.Dataset, saved: GppModel, make_table, recipe, tmp_path: Path
):
    tower = Tower(MapPoint(float(south_west.x[10]), float(south_west.y[10])), 20)
    table, _ = tower_table(south_west, tower, "pixel")
    features = [*saved.card.features, "vegetation_CRO"]
    training = table.assign(site="A", gpp=table["SW_IN_POT"] / 40, vegetation_CRO=0.0)
    other = training.assign(site="B", gpp=training["gpp"] * 2, vegetation_CRO=1.0)
    windows = make_windows(pd.concat([training, other]), features)
    save_model(Ensemble({"ridge": RidgeLearner}, members=2).fit(windows), windows, recipe, tmp_path / "model")
    model = load_model(tmp_path / "model")
    with pytest.raises(UsageError, match="needs 'vegetation_CRO', which the features lack"):
        predict_series(model, table)
    crop, other_class = (predict_series(model, table.assign(vegetation=name))["gpp"] for name in ("CRO", "ENF"))
    assert not np.allclose(crop, other_class)


def test_a_series_needs_the_models_features(south_west: xr.Dataset, saved: GppModel):
    tower = Tower(MapPoint(float(south_west.x[10]), float(south_west.y[10])), 20)
    table, _ = tower_table(south_west, tower, "pixel")
    with pytest.raises(UsageError, match="needs 'e3', which the features lack"):
        predict_series(saved, table.drop(columns="e3"))
