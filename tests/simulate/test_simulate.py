"""The landscape simulator: layout of the files, physics, and the accuracy of its fast PROSAIL."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.errors import ThalwegError, UsageError
from thalweg.simulate import Landscape, dataset, simulate
from thalweg.simulate.land.land_cover import COVERS, LAND_COVER, trait
from thalweg.simulate.land.vegetation import Growth
from thalweg.simulate.landscape import site_of
from thalweg.simulate.overpasses import sentinel2_passes, sun_position
from thalweg.simulate.radiative_transfer.canopy import (
    HOTSPOT,
    LANDSAT8,
    SENTINEL2,
    Leaves,
    ViewGeometry,
    canopy_reflectance,
    leaf_optics,
)
from thalweg.simulate.radiative_transfer.optics import CHLOROPHYLL_STEP, SOIL_STEP, unit_responses, vigour
from thalweg.simulate.radiative_transfer.radar import LOOKS, soil_backscatter, speckle
from thalweg.simulate.weather.climates import CLIMATES
from thalweg.simulate.weather.clouds import CloudScene, cover_scene

CODES = {name: code for code, name in LAND_COVER.items()}
REAL_BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    return simulate(seed=3, size=64, years=1, climate="temperate")


def reflectance(data: xr.Dataset, band: str) -> np.ndarray:
    return data[band].values / 10000.0


def ndvi(landscape: Landscape) -> np.ndarray:
    red, near = reflectance(landscape.sentinel2, "B04"), reflectance(landscape.sentinel2, "B08")
    return (near - red) / (near + red)


def unclouded(landscape: Landscape) -> np.ndarray:
    return (landscape.truth.cloud.values < 0.02) & ~landscape.truth.shadow.values


def of_class(landscape: Landscape, name: str) -> np.ndarray:
    return landscape.truth.land_cover.values == CODES[name]


def test_the_same_seed_gives_the_same_bits() -> None:
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


def test_progress_runs_from_zero_to_one() -> None:
    told: list[float] = []
    simulate(seed=1, size=16, years=1, progress=lambda share, what: told.append(share))
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)


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


def test_writing_leaves_nothing_half_done(landscape: Landscape, tmp_path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        landscape.write(tmp_path / "there")
    written = []

    def fail_at_the_third(data: xr.Dataset, path) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")
        path.write_bytes(b"")

    monkeypatch.setattr(dataset, "write", fail_at_the_third)
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
        {"start": "soon"},
    ],
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(UsageError, match=f"{name} must be .*{value}"):
        simulate(**arguments)


@pytest.mark.parametrize("bands", [SENTINEL2, LANDSAT8], ids=["Sentinel-2", "Landsat 8"])
@pytest.mark.parametrize("view", [ViewGeometry(35, 5, 40), ViewGeometry(72, 8, 150), ViewGeometry(20, 2.5, 300)])
def test_canopies_agree_with_the_prosail_package(bands, view: ViewGeometry) -> None:
    import prosail

    rng, count = np.random.default_rng(0), 25
    leaves = Leaves(
        *(
            rng.uniform(low, high, count)
            for low, high in ((1.2, 2), (3, 60), (2, 14), (0, 0.9), (0.003, 0.03), (0.003, 0.014))
        )
    )
    lai, angles = rng.uniform(0.02, 6.5, count), rng.choice([38.0, 57.0, 64.0], count)
    grid = np.arange(400, 2501)
    soil = 0.7 * np.interp(bands.wavelengths, grid, prosail.spectral_lib.soil.rsoil1)
    ours = canopy_reflectance(*leaf_optics(leaves, bands.wavelengths), lai, angles, view, np.tile(soil, (1, count, 1)))[
        0
    ]
    for index in range(count):
        traits = [values[index] for values in vars(leaves).values()]
        spectrum = prosail.run_prosail(
            *traits,
            lai[index],
            angles[index],
            HOTSPOT,
            view.sun_zenith,
            view.view_zenith,
            view.relative_azimuth,
            prospect_version="D",
            rsoil=0.7,
            psoil=1.0,
        )
        exact = [
            spectrum[np.abs(grid - centre) <= width / 2].mean()
            for centre, width in zip(bands.centres, bands.widths, strict=True)
        ]
        np.testing.assert_allclose(bands.average(ours[index]), exact, atol=0.0025)


@pytest.mark.parametrize("lai", [0.0, 0.4, 1.5, 4.0])
def test_variation_within_parcels_agrees_with_running_prosail_there(lai: float) -> None:
    kinds = np.arange(1)  # winter cereal
    passes = sentinel2_passes(np.random.default_rng(1), CLIMATES["temperate"], pd.date_range("2018-05-01", periods=9))

    def respond(vigour: float, soil: float, tint: float) -> np.ndarray:
        variation = COVERS[0].variation
        states = {
            "lai": lai * np.exp(variation * vigour),
            "dead": 0.1 * lai * np.exp(variation * vigour),
            "chlorophyll": 45 * np.exp(CHLOROPHYLL_STEP * tint),
            "leaf_water": 0.014,
            "petals": 0.0,
            "residue": 0.0,
            "roughness": 1.0,
            "soil_moisture": 0.2,
            "stress": 0.0,
        }
        growth = Growth(**{name: np.full((len(passes.times), 1), value) for name, value in states.items()})
        brightness = np.exp(np.full(1, SOIL_STEP * soil))
        return unit_responses(CLIMATES["temperate"], SENTINEL2, kinds, brightness, np.zeros(1), growth, passes)[0, 0]

    middle = respond(0, 0, 0)
    for v, s, c in ((0.8, -0.7, 0.5), (-1.2, 1.0, -1.0), (1.9, 1.5, 1.0), (-2.0, -1.5, 0.0)):
        approximate = np.array([1, v, v * v, s, s * v, s * v * v, c]) @ middle
        np.testing.assert_allclose(approximate, respond(v, s, c)[0], atol=0.005)


def test_greener_ground_has_more_ndvi_and_a_steeper_red_edge(landscape: Landscape) -> None:
    crops = np.isin(landscape.truth.land_cover.values, [1, 2, 3, 4, 5])
    clear = unclouded(landscape) & crops
    lai, index = landscape.truth.lai.values[clear], ndvi(landscape)[clear]
    edges = [0.0, 0.3, 0.8, 1.5, 2.5, 8.0]
    means = [index[(lai >= low) & (lai < high)].mean() for low, high in itertools.pairwise(edges)]
    assert (np.diff(means) > 0).all() and means[0] < 0.35 and means[-1] > 0.75
    edge = (reflectance(landscape.sentinel2, "B07") - reflectance(landscape.sentinel2, "B05"))[clear]
    assert edge[lai > 3].mean() > edge[lai < 0.3].mean() + 0.15


def test_reflectance_is_of_the_order_of_flanders(landscape: Landscape) -> None:
    # Means over clear dates of two real sites: B02 0.06, B04 0.08, B8A 0.31 to 0.36, B11 0.21, B12 0.14.
    clear = unclouded(landscape)
    bounds = {
        "B02": (0.03, 0.09),
        "B04": (0.04, 0.12),
        "B8A": (0.24, 0.42),
        "B11": (0.15, 0.28),
        "B12": (0.08, 0.2),
    }
    for band, (low, high) in bounds.items():
        assert low < reflectance(landscape.sentinel2, band)[clear].mean() < high, band


def test_shadows_darken_and_clouds_brighten() -> None:
    ground = np.full((10, 16, 16), 0.2, np.float32)
    none, half = np.zeros((16, 16), np.float32), np.full((16, 16), 0.5, np.float32)
    shaded = cover_scene(ground, CloudScene(none, none, half, 1.0), SENTINEL2)
    clouded = cover_scene(ground, CloudScene(half, none, none, 1.0), SENTINEL2)
    assert (shaded < ground).all() and (clouded > ground).all()
    assert (np.diff(shaded[:, 0, 0]) <= 0).all()  # skylight is blue


def test_scene_classification_errs_rarely_and_at_edges(landscape: Landscape) -> None:
    from scipy.ndimage import maximum_filter

    cloud, classes = landscape.truth.cloud.values, landscape.sentinel2.SCL.values
    flagged = np.isin(classes, [8, 9, 10])
    assert set(np.unique(classes)) <= {2, 3, 4, 5, 6, 7, 8, 9, 10}
    missed = (cloud > 0.15) & ~flagged
    assert 0.0005 < missed[cloud > 0.15].mean() < 0.10
    thick_nearby = np.stack([maximum_filter(image, 25) > 0.3 for image in cloud])
    assert thick_nearby[missed & (cloud > 0.25)].mean() > 0.8
    false = flagged & (cloud < 0.02)
    assert false.sum() > 0 and false[cloud < 0.02].mean() < 0.02
    seen = landscape.truth.shadow.values & (cloud < 0.05)
    assert np.isin(classes[seen], [2, 3]).mean() > 0.6


def test_wetter_bare_soil_scatters_more(landscape: Landscape) -> None:
    moisture = np.linspace(0.08, 0.4, 9)
    backscatter = soil_backscatter(moisture, np.full(9, 1.0), np.full(9, 38.0))
    assert (np.diff(backscatter, axis=0) > 0).all() and (backscatter[:, 0] > backscatter[:, 1]).all()

    truth, radar = landscape.truth, landscape.sentinel1
    spring = (radar.orbit == "ascending").values & np.isin(pd.DatetimeIndex(radar.time).month, [3, 4, 5])
    fields = of_class(landscape, "potato") | of_class(landscape, "maize") | of_class(landscape, "beet")
    vv = 0.01 * radar.VV.values[spring][:, fields].mean(axis=1)
    wet = truth.soil_moisture.values[:, fields].mean(axis=1)
    nearest = np.interp(pd.DatetimeIndex(radar.time[spring]).asi8, pd.DatetimeIndex(truth.time).asi8, wet)
    assert np.corrcoef(vv, nearest)[0, 1] > 0.5


def test_speckle_has_the_looks_it_claims() -> None:
    noise = speckle(np.random.default_rng(1), (4, 400, 400))
    assert noise.mean() == pytest.approx(1.0, abs=0.01)
    assert (noise.mean() / noise.std()) ** 2 == pytest.approx(LOOKS, rel=0.06)
    neighbours = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert 0.1 < neighbours < 0.6


def test_water_is_dark_and_villages_bright_to_radar(landscape: Landscape) -> None:
    vv = 0.01 * landscape.sentinel1.VV.values.mean(axis=0)
    fields = np.isin(landscape.truth.land_cover.values, [1, 2, 3, 4, 7])
    assert vv[of_class(landscape, "water")].mean() < vv[fields].mean() - 2
    assert vv[of_class(landscape, "built_up")].mean() > vv[fields].mean() + 1.5


def test_production_is_bounded_and_absent_on_water(landscape: Landscape) -> None:
    gpp = landscape.truth.gpp.values
    assert gpp.min() >= 0 and gpp.max() < 35
    lake = landscape.truth.lai.values.max(axis=0) == 0
    assert lake.any() and (gpp[:, lake] == 0).all()
    yearly = landscape.truth.gpp_daily.values.sum(axis=0)
    assert 300 < np.median(yearly) < 2200  # gC m-2, temperate crops and grass


def test_crops_are_harvested_and_meadows_mown(landscape: Landscape) -> None:
    lai, days = landscape.truth.lai_daily.values, landscape.truth.day.dt.dayofyear.values
    parcels = landscape.truth.parcel.values

    def of(name: str) -> np.ndarray:
        return lai[:, np.unique(parcels[of_class(landscape, name)])]

    cereals = of("winter_cereal")
    growing, after = (days > 120) & (days < 180), (days > 205) & (days < 240)
    assert np.median(cereals[growing].max(axis=0)) > 2.5 and np.median(cereals[after].min(axis=0)) < 0.5
    meadows = of("grass_mown")
    drops = (meadows[1:] < 0.55 * meadows[:-1]).sum(axis=0)
    assert np.median(drops) >= 2


def test_sun_stands_where_real_acquisitions_say() -> None:
    # Sentinel-2 over 3.02 E 50.82 N, 2017-08-04 10:53:28 UTC: zenith 35.9, azimuth 155.2 degrees.
    zenith, azimuth = sun_position(pd.DatetimeIndex(["2017-08-04 10:53:28"]), 50.82, 3.02)
    assert zenith[0] == pytest.approx(35.87, abs=0.5) and azimuth[0] == pytest.approx(155.2, abs=1.0)


def test_a_site_is_the_cause_of_its_landscape(landscape: Landscape) -> None:
    site = site_of(seed=3, size=64, years=1, climate="temperate")
    np.testing.assert_array_equal(site.layout.land_cover, landscape.truth.land_cover.values)
    days = site.days(pd.DatetimeIndex(landscape.truth.time.values))
    shares = site.layout.shares
    pure = np.flatnonzero(shares.max(axis=1).toarray().ravel() > 0.99)
    units = np.asarray(shares.argmax(axis=1)).ravel()[pure]
    deviation = np.clip(vigour(site.fields, site.growth.stress[days[5], units], pure), -2.5, 2.5)
    expected = site.growth.lai[days[5], units] * np.exp(trait("variation", site.layout.kinds[units]) * deviation)
    np.testing.assert_allclose(landscape.truth.lai.values[5].ravel()[pure], expected, rtol=0.02, atol=0.02)
