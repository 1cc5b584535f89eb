"""Daily tables of towers: their features, the joined measurements, and the absence of leaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import MapPoint, lon_lat
from thalweg.errors import UsageError
from thalweg.gpp.data.features import (
    FeatureRecipe,
    join_flux,
    model_columns,
    open_source,
    read_table,
    read_tables,
    reconstructed_bands,
    tower_table,
    write_table,
)
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.footprint.footprint import Footprint, Tower
from thalweg.gpp.footprint.footprint_series import pixels_of_embeddings
from thalweg.gpp.tables.daily_table import daily_table


@pytest.fixture(scope="module")
def tower(cube: Cube) -> Tower:
    return Tower(MapPoint(float(cube.x[15]), float(cube.y[16])), 30)


@pytest.fixture(scope="module")
def prepared(embedded: xr.Dataset, tower: Tower) -> tuple[pd.DataFrame, FeatureRecipe]:
    return tower_table(embedded, tower, "SIM")


def flux_table(start: str, days: int = 400, site: str = "SIM", seed: int = 0) -> pd.DataFrame:
    time = pd.date_range(start, periods=days)
    random = np.random.default_rng(seed)
    gpp = np.where(random.random(days) < 0.3, np.nan, random.normal(5, 2, days))
    frame = pd.DataFrame({"site": site, "time": time, "gpp": gpp, "vegetation": "CRO", "TA_F": 10.0})
    return daily_table(frame, {"TA_F": "deg C"})


def test_the_table_holds_the_footprint_by_day(
    prepared: tuple[pd.DataFrame, FeatureRecipe], embedded: xr.Dataset, tower: Tower, cube: Cube, model: EarthModel
):
    table, recipe = prepared
    series = pixels_of_embeddings(embedded, Footprint.on(cube.grid, tower, "cube")).average()
    on_dates = table.set_index("time").loc[pd.DatetimeIndex(series.dates).normalize()]
    np.testing.assert_allclose(on_dates[list(series.names)], series.mean)
    np.testing.assert_allclose(on_dates[[f"{name}_spread" for name in series.names]], series.spread)
    assert (table["time"].diff().dropna() == pd.Timedelta(days=1)).all()
    expected = potential_radiation(lon_lat(tower.position, cube.grid).latitude, table["time"].to_numpy())
    np.testing.assert_allclose(table["SW_IN_POT"], expected)
    assert table["gpp"].isna().all()
    assert recipe.embedding_model == model.identifier
    assert set(model_columns(recipe)) <= set(table)
    assert table.attrs["units"]["SW_IN_POT"] == "W m-2"


def test_a_cube_gives_the_table_of_its_embeddings(
    prepared: tuple[pd.DataFrame, FeatureRecipe], cube: Cube, tower: Tower, model: EarthModel
):
    table, recipe = tower_table(cube, tower, "SIM", model)
    pd.testing.assert_frame_equal(table, prepared[0], atol=1e-5)
    assert recipe == prepared[1]


def test_the_smoother_gives_its_variance(embedded: xr.Dataset, tower: Tower):
    table, _ = tower_table(embedded.isel(embedding=slice(0, 7)), tower, "SIM", gap_filling="kalman")
    assert (table[[f"e{index + 1}_variance" for index in range(7)]] >= 0).all(axis=None)


def test_gpp_is_joined_and_nothing_of_it_reaches_the_features(prepared: tuple[pd.DataFrame, FeatureRecipe]):
    table, recipe = prepared
    start = f"{table['time'].iloc[40]:%Y-%m-%d}"
    one, other = flux_table(start, seed=0), flux_table(start, seed=1)
    joined, wider = join_flux(table, recipe, one, None, "flux.csv")
    changed, _ = join_flux(table, recipe, other, None, "flux.csv")
    assert joined["gpp"].iloc[:40].isna().all()
    expected = one.set_index("time")["gpp"].reindex(joined["time"])
    np.testing.assert_array_equal(joined["gpp"], expected)
    assert joined["gpp"].isna().sum() > 40
    pd.testing.assert_frame_equal(joined.drop(columns="gpp"), changed.drop(columns="gpp"))
    pd.testing.assert_frame_equal(joined[table.columns].drop(columns="gpp"), table.drop(columns="gpp"))
    assert wider.units["TA_F"] == "deg C"


def test_no_overlap_in_time_is_refused(prepared: tuple[pd.DataFrame, FeatureRecipe]):
    with pytest.raises(UsageError, match=r"flux.csv: no overlap in time: measured 2001-01-01 to .*, the cube has 2018"):
        join_flux(*prepared, flux_table("2001-01-01"), None, "flux.csv")


@pytest.mark.parametrize(
    ("site", "message"), [(None, "it has several sites: name one of A, B with `site`"), ("C", "no site 'C'")]
)
def test_the_site_must_be_known(prepared: tuple[pd.DataFrame, FeatureRecipe], site: str | None, message: str):
    two = pd.concat([flux_table("2018-01-01", site=name) for name in ("A", "B")], ignore_index=True)
    with pytest.raises(UsageError, match=message):
        join_flux(*prepared, two, site, "flux.csv")


def test_a_written_table_is_read_unchanged(prepared: tuple[pd.DataFrame, FeatureRecipe], tmp_path: Path):
    path = tmp_path / "site.csv"
    write_table(*prepared, path)
    table, recipe = read_table(path)
    pd.testing.assert_frame_equal(table, prepared[0], rtol=1e-5)
    assert recipe == prepared[1]
    with pytest.raises(UsageError, match=r"site.csv: exists already"):
        write_table(*prepared, path)
    (tmp_path / "site.csv.json").write_text("{}")
    with pytest.raises(UsageError, match=r"site.csv.json: damaged .* prepare it again"):
        read_table(path)
    with pytest.raises(UsageError, match=r"other.csv: expected a table of `thalweg gpp prepare`"):
        read_table(tmp_path / "other.csv")


def test_tables_that_train_together_have_one_recipe(prepared: tuple[pd.DataFrame, FeatureRecipe], tmp_path: Path):
    table, recipe = prepared
    with_gpp, recipe = join_flux(table, recipe, flux_table("2018-01-01"), None, "flux.csv")
    paths = [tmp_path / f"{name}.csv" for name in ("a", "b", "c")]
    write_table(with_gpp, recipe, paths[0])
    write_table(with_gpp.assign(site="B"), recipe.model_copy(update={"gap_filling": "kalman"}), paths[1])
    write_table(table.assign(site="C"), recipe, paths[2])
    with pytest.raises(
        UsageError,
        match=r"b.csv: gap_filling kalman, expected linear as in .*a.csv: prepare all tables with the same options",
    ):
        read_tables(paths[:2])
    with pytest.raises(UsageError, match=r"c.csv: no day with GPP: prepare it with a flux file"):
        read_tables(paths[::2])


def test_reconstructed_bands_are_in_the_sensors_units(
    embedded: xr.Dataset, tower: Tower, cube: Cube, model: EarthModel
):
    series = pixels_of_embeddings(embedded, Footprint.on(cube.grid, tower, "cube")).average()
    found = reconstructed_bands(series.mean, model)
    assert list(found) == [f"{name} {band}" for name in model.sensors for band in cube.series[name].sensor.band_names]
    assert found["sentinel-2 B08"].shape == (len(series.dates),)
    assert -30 < np.median(found["sentinel-1 VV"]) < 5


def test_a_store_and_a_cube_are_distinguished(embedding_store: Path, cube_folder: Path, tmp_path: Path):
    assert isinstance(open_source(embedding_store), xr.Dataset)
    assert isinstance(open_source(cube_folder), Cube)
    with pytest.raises(UsageError, match="no such file or folder"):
        open_source(tmp_path / "nothing")


def test_a_store_of_7_dimensions_has_no_32(embedded: xr.Dataset, tower: Tower):
    with pytest.raises(UsageError, match="size 32: it has 7 dimensions"):
        tower_table(embedded, tower, "SIM", size=32)
