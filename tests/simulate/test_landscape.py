"""Landscapes: reproducible, in the layout of a real site's files, and consistent with the site behind them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.errors import ThalwegError, UsageError
from thalweg.simulate import Landscape, simulate
from thalweg.simulate.land.heterogeneity import vigour
from thalweg.simulate.land.land_cover import SURFACES, trait
from thalweg.simulate.landscape import simulate_site
from thalweg.simulate.weather.climates import CLIMATES

REAL_BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def test_the_same_seed_gives_identical_datasets() -> None:
    first, second, other = (simulate(seed=seed, size=16, years=1) for seed in (5, 5, 6))
    for name in ("sentinel2", "sentinel1", "landsat8", "truth", "weather"):
        assert getattr(first, name).identical(getattr(second, name)), name
    assert not np.array_equal(first.truth.land_cover, other.truth.land_cover)


@pytest.mark.parametrize("climate", sorted(CLIMATES))
def test_every_climate_gives_finite_data_in_its_zone(climate: str) -> None:
    site = simulate(seed=1, size=24, years=1, climate=climate)  # type: ignore[arg-type]
    zone = "S" if CLIMATES[climate].latitude < 0 else "N"
    assert site.sentinel2.spatial_ref.attrs["crs_wkt"].split('"')[1].endswith(zone)
    for variable in (*site.truth.data_vars.values(), *site.weather.data_vars.values()):
        assert np.isfinite(variable.values).all(), variable.name
    assert (site.weather.temperature_min <= site.weather.temperature_mean).all()
    assert (site.weather.dewpoint_temperature <= site.weather.temperature_mean).all()


@pytest.mark.parametrize("climate", ["boreal", "humid_tropical"])
def test_leaf_area_follows_the_seasons_of_the_climate(climate: str) -> None:
    site = simulate_site(seed=3, size=32, years=2, climate=climate)  # type: ignore[arg-type]
    month, names = site.weather.days.month, [SURFACES[surface].name for surface in site.parcels.surfaces]
    crop, forest = ("winter_cereal", "needleleaf_forest") if climate == "boreal" else ("maize", "broadleaf_forest")
    monthly = {
        name: np.array([site.growth.lai[month == m][:, [n == name for n in names]].mean() for m in range(1, 13)])
        for name in (crop, forest)
    }
    assert monthly[forest].min() > 2.0
    if climate == "boreal":
        assert monthly[crop][[0, 1, 11]].max() < 0.5 and monthly[crop].argmax() == 6 and monthly[crop].max() > 2
    else:
        first_season, second_season = monthly[crop][[4, 5]].max(), monthly[crop][[9, 10]].max()
        assert min(first_season, second_season) > 1.5 and monthly[crop][[0, 1]].max() < 0.8


def test_progress_runs_from_zero_to_one() -> None:
    reported: list[float] = []
    simulate(seed=1, size=16, years=1, progress=lambda fraction, step: reported.append(fraction))
    assert reported[0] == 0.0 and reported[-1] == 1.0 and reported == sorted(reported)


def test_files_have_the_layout_of_a_real_site(landscape: Landscape, tmp_path) -> None:
    folder = landscape.write(tmp_path / "a" / "site")
    assert sorted(path.name for path in folder.iterdir()) == [
        "landsat8.nc",
        "s1.nc",
        "s2.nc",
        "truth.nc",
        "weather.nc",
    ]
    s2 = xr.open_dataset(folder / "s2.nc", mask_and_scale=False)
    assert list(s2.data_vars) == [
        *REAL_BANDS,
        "SCL",
        "sun_zenith",
        "sun_azimuth",
        "view_zenith",
        "view_azimuth",
    ]
    for band in REAL_BANDS:
        assert s2[band].dtype == np.uint16 and s2[band].dims == ("time", "y", "x")
        assert s2[band].attrs["_FillValue"] == 0 and s2[band].attrs["grid_mapping"] == "spatial_ref"
        assert s2[band].encoding["zlib"]
    assert s2.SCL.dtype == np.uint8 and s2.sun_zenith.dtype == np.float32 and s2.sun_zenith.dims == ("time",)
    assert s2.attrs["Conventions"] == "CF-1.8" and s2.time.dtype == "datetime64[ns]"
    for band in ("B05", "B8A", "B11", "SCL"):
        blocks = s2[band].values.reshape(len(s2.time), 32, 2, 32, 2)
        assert (blocks == blocks[:, :, :1, :, :1]).all(), band
    left, step, _, top, _, down = map(float, s2.spatial_ref.attrs["GeoTransform"].split())
    assert (step, down) == (10.0, -10.0)
    assert s2.x.values[0] == left + 5 and s2.y.values[0] == top - 5 and (np.diff(s2.y) == -10).all()

    s1 = xr.open_dataset(folder / "s1.nc", mask_and_scale=False)
    assert s1.VV.dtype == np.int16 and s1.VV.attrs["scale_factor"] == 0.01 and s1.VV.attrs["_FillValue"] == -32768
    assert set(s1.orbit.values) == {"ascending", "descending"} and s1.incidence_angle.dims == ("time",)
    landsat = xr.open_dataset(folder / "landsat8.nc", mask_and_scale=False)
    assert list(landsat.data_vars) == ["B02", "B03", "B04", "B05", "B06", "B07", "pixel_qa"]
    assert landsat.attrs["scale"] == 0.0001 and landsat.pixel_qa.dtype == np.uint16
    assert set(np.unique(landsat.pixel_qa)) <= {322, 324, 328, 352, 480}
    truth = xr.open_dataset(folder / "truth.nc", mask_and_scale=False)
    assert truth.lai.dtype == np.float32 and truth.shadow.dtype == bool and truth.land_cover.dims == ("y", "x")
    assert len(truth.land_cover.attrs["flag_meanings"].split()) == len(truth.land_cover.attrs["flag_values"])
    np.testing.assert_array_equal(truth.time, s2.time)
    np.testing.assert_array_equal(s2.B08, landscape.sentinel2.B08)


def test_a_failed_write_leaves_nothing(landscape: Landscape, tmp_path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        landscape.write(tmp_path / "there")
    written = []

    def fail_at_the_third(data: xr.Dataset, path) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")
        path.write_bytes(b"")

    monkeypatch.setattr("thalweg.simulate.landscape.write_netcdf", fail_at_the_third)
    with pytest.raises(ThalwegError, match="disk full"):
        landscape.write(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1},
        {"size": 8},
        {"size": 33},
        {"size": 32.0},
        {"years": 0},
        {"climate": "polar"},
        {"variety": 1.5},
        {"start": "soon"},
    ],
)
def test_invalid_arguments_are_named(arguments: dict) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(UsageError, match=f"{name} must be .*{value}"):
        simulate(**arguments)


def test_the_site_reproduces_the_truth_of_its_landscape(landscape: Landscape) -> None:
    site = simulate_site(seed=3, size=64, years=1, climate="temperate")
    np.testing.assert_array_equal(site.parcels.land_cover, landscape.truth.land_cover.values)
    days = site.days(pd.DatetimeIndex(landscape.truth.time.values))
    shares = site.parcels.shares
    pure = np.flatnonzero(shares.max(axis=1).toarray().ravel() > 0.99)
    units = np.asarray(shares.argmax(axis=1)).ravel()[pure]
    deviation = np.clip(vigour(site.heterogeneity, site.growth.stress[days[5], units], pure), -2.5, 2.5)
    expected = site.growth.lai[days[5], units] * np.exp(trait("variation", site.parcels.surfaces[units]) * deviation)
    np.testing.assert_allclose(landscape.truth.lai.values[5].ravel()[pure], expected, rtol=0.02, atol=0.02)


def test_a_landscape_of_any_year_opens_as_a_cube(tmp_path: Path) -> None:
    landscape = simulate(seed=1, size=16, years=1, start="2021-07-01")
    landscape.write(tmp_path / "recent")
    cube = Cube.open(tmp_path / "recent")
    assert cube.reference.dates[-1] > np.datetime64("2022-02-01")
    assert "boa_offset_applied" not in simulate(seed=1, size=16, years=1).sentinel2.attrs
