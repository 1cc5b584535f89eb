"""Real Sentinel-1, Sentinel-2 and Landsat series, if they are in the folder next to the checkout."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.inference.compute import embed_block
from thalweg.earth.inference.job import Job
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.earth.sensors import Quality

SITES = Path(__file__).parents[2].parent / "shared" / "earth"

pytestmark = pytest.mark.skipif(not (SITES / "BE-1").is_dir(), reason="the real sites are not next to this checkout")


@pytest.mark.parametrize(
    ("site", "dates"),
    [
        ("BE-1", {"sentinel-2": 118, "sentinel-1": 159, "landsat-8": 26}),
        ("BE-2", {"sentinel-2": 72, "sentinel-1": 80}),
        ("BE-3", {"sentinel-2": 146, "sentinel-1": 157, "landsat-8": 23}),
        ("TZ-1", {"sentinel-2": 136, "sentinel-1": 60}),
    ],
)
def test_a_site_opens_with_all_its_dates(site: str, dates: dict[str, int]) -> None:
    cube = Cube.open(SITES / site)
    entries = {name: sum(len(part.times) for part in series.parts) for name, series in cube.series.items()}
    assert entries == dates
    # Scenes of one overpass, seconds apart, are one date.
    joined = {"BE-1": {"landsat-8": 24}, "BE-3": {"sentinel-2": 143}, "TZ-1": {"sentinel-2": 134}}.get(site, {})
    assert {name: len(series.dates) for name, series in cube.series.items()} == dates | joined
    assert cube.grid.shape == (64, 64)
    assert cube.grid.resolution.x == 10
    assert cube.reference.sensor.name == "sentinel-2"


@pytest.mark.parametrize(("site", "clear"), [("BE-1", 71), ("BE-2", 46)])
def test_the_number_of_clear_dates_is_that_of_the_data_set(site: str, clear: int) -> None:
    assert len(Cube.open(SITES / site).eligible()) == clear


@pytest.mark.parametrize("site", ["BE-3", "TZ-1"])
def test_sites_without_10_m_bands_lack_them(site: str) -> None:
    series = Cube.open(SITES / site).reference
    present = [name for name, here in zip(series.sensor.band_names, series.present_bands, strict=True) if here]
    assert present == ["B05", "B06", "B07", "B8A", "B11", "B12"]
    seen = series.read(Window(0, 0, 8, 8))
    assert np.isnan(seen.values[:, ~series.present_bands]).all()
    assert np.isfinite(seen.values[:, series.present_bands]).any()


def test_values_are_reflectance_backscatter_and_nothing_else() -> None:
    cube = Cube.open(SITES / "BE-1")
    for name, low, high in (("sentinel-2", 0, 0.7), ("sentinel-1", -30, 5), ("landsat-8", 0, 0.7)):
        seen = cube.series[name].read(cube.whole)
        values = seen.values[:, cube.series[name].present_bands]
        values = values[np.isfinite(values)]
        assert low < np.percentile(values, 1)
        assert np.percentile(values, 99) < high
    raw = xr.open_dataset(SITES / "BE-1" / "s2.nc", mask_and_scale=False)
    clear = np.isin(raw.SCL.values, (4, 5, 6, 7)) & (raw.B08.values > 0)
    seen = cube.reference.read(cube.whole)
    np.testing.assert_allclose(
        seen.values[:, 6][clear & seen.valid], raw.B08.values[clear & seen.valid] / 1e4, rtol=1e-6
    )


def test_averaging_reduces_the_speckle_of_sentinel_1() -> None:
    cube = Cube.open(SITES / "BE-2")
    smooth = cube.series["sentinel-1"].read(Window(10, 10, 20, 20)).values
    raw = xr.open_dataset(SITES / "BE-2" / "s1.nc").isel(y=slice(10, 30), x=slice(10, 30))
    for index, band in enumerate(("VV", "VH")):
        power = 10 ** (raw[band].values / 10)
        np.testing.assert_allclose(
            smooth[1:-1, index], 10 * np.log10((power[:-2] + power[1:-1] + power[2:]) / 3), atol=1e-3
        )
        assert np.diff(smooth[:, index], axis=0).std() < 0.6 * np.diff(raw[band].values, axis=0).std()


@pytest.fixture(params=["fitted", "shipped"])
def any_model(request: pytest.FixtureRequest, model: EarthModel) -> EarthModel:
    if request.param == "fitted":
        return model
    if not (SHIPPED / "fusion" / "model.json").exists():
        pytest.skip("this checkout holds no shipped weights")
    return EarthModel.load()


def test_a_window_of_a_site_is_embedded(any_model: EarthModel) -> None:
    job = Job(Cube.open(SITES / "BE-1"), any_model)
    found = embed_block(job, Window(30, 40, 10, 12))
    assert found.embeddings.shape == (71, 7, 10, 12)
    usable = found.quality <= Quality.WATER
    assert 0.3 < usable.mean() < 1
    finite = np.isfinite(found.embeddings)
    np.testing.assert_array_equal(finite, np.broadcast_to(usable[:, None], finite.shape))
    assert np.nanstd(found.embeddings) > 0.05
    assert np.nanmax(np.abs(found.gaps["sentinel-1"])) < 12
    assert found.valid_context_dates.min() > 40
