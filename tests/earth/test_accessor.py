"""`thalweg.open` and `.thalweg`: positions, windows, similarity, components and decoding."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pyproj import Transformer

import thalweg
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import LonLat, PixelIndex
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("stores") / "out.zarr")


@pytest.fixture(scope="module")
def opened(store: Path) -> xr.Dataset:
    return thalweg.open(store)


def degrees(x: float, y: float) -> tuple[float, float]:
    longitude, latitude = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(x, y)
    return longitude, latitude


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, thalweg; thalweg.open; print({'torch', 'xarray', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_an_opened_store_has_its_reference_system_without_another_import(store: Path, cube: Cube) -> None:
    code = """
import sys, thalweg
opened = thalweg.open(sys.argv[1])
print(opened.rio.crs.to_epsg(), *opened.embeddings.rio.transform()[:6], *opened.embeddings.rio.bounds())
"""
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left, top = cube.x[0] - 5, cube.y[0] + 5
    expected = [32631, 10, 0, left, 0, -10, top, left, top - 320, left + 320, top]
    assert [float(number) for number in done.stdout.split()] == expected


def test_a_position_gives_its_pixel(opened: xr.Dataset) -> None:
    x, y = float(opened.x[20]), float(opened.y[12])
    for dx, dy in ((0, 0), (4.9, -4.9), (-4.9, 4.9)):
        here = opened.thalweg.at(LonLat(*degrees(x + dx, y + dy)))
        assert here.embeddings.dims == ("time", "embedding")
        assert (float(here.x), float(here.y)) == (x, y)
    np.testing.assert_array_equal(here.embeddings.values, opened.embeddings.values[..., 12, 20])


def test_a_position_outside_raises_one_line_error(opened: xr.Dataset) -> None:
    outside = degrees(float(opened.x[0]) - 5.5, float(opened.y[0]))
    for lon, lat in (outside, (13.4, 52.5), (0.0, 0.0)):
        with pytest.raises(
            UsageError, match=r"is outside the grid: expected longitude 3\.\d+ to 3\.\d+, latitude 50"
        ) as caught:
            opened.thalweg.at(LonLat(lon, lat))
        assert "\n" not in str(caught.value)


def test_a_window_has_the_pixels_within_its_sides(opened: xr.Dataset) -> None:
    west, south = degrees(float(opened.x[4]), float(opened.y[20]))
    east, north = degrees(float(opened.x[9]), float(opened.y[10]))
    part = opened.thalweg.window(west - 1e-6, south - 1e-6, east + 1e-6, north + 1e-6)
    assert {4, 9} <= set(np.flatnonzero(np.isin(opened.x.values, part.x.values)))
    assert {10, 20} <= set(np.flatnonzero(np.isin(opened.y.values, part.y.values)))
    assert part.sizes["x"] <= 8
    assert part.sizes["y"] <= 13
    left, _, right, top = part.attrs["spatial:bbox"]
    assert (left, right) == (float(part.x[0]) - 5, float(part.x[-1]) + 5)
    assert top == float(part.y[0]) + 5
    assert part.thalweg.at(PixelIndex(0, 0)).embeddings.shape == part.embeddings.shape[:2]
    corner = LonLat(*degrees(float(part.x[0]), float(part.y[0])))
    np.testing.assert_array_equal(part.thalweg.at(corner).embeddings, part.embeddings[..., 0, 0])
    with pytest.raises(UsageError, match="no pixel of this store lies in it"):
        opened.thalweg.window(13, 52, 14, 53)
    with pytest.raises(UsageError, match="expected west below east and south below north"):
        opened.thalweg.window(east, south, west, north)


def test_similarity_is_that_of_the_figures(opened: xr.Dataset) -> None:
    alike = opened.thalweg.similar(PixelIndex(12, 20))
    assert alike.dims == ("y", "x")
    np.testing.assert_allclose(alike.values, similarity(opened, PixelIndex(12, 20)), rtol=1e-6)
    assert alike.attrs["row"] == 12
    assert alike.rio.crs.to_epsg() == 32631


def test_components_keep_distances_and_are_ordered(opened: xr.Dataset) -> None:
    parts = opened.thalweg.pca(7)
    assert parts.dims == ("time", "component", "y", "x")
    share = parts.attrs["explained_variance"]
    assert share == sorted(share, reverse=True)
    assert sum(share) == pytest.approx(1, abs=1e-5)
    vectors = opened.embeddings.values
    seen = np.argwhere(np.isfinite(vectors).all(1))
    (date, row, column), (_, other_row, other_column) = seen[0], seen[seen[:, 0] == seen[0, 0]][-1]
    apart = np.linalg.norm(vectors[date, :, row, column] - vectors[date, :, other_row, other_column])
    found = parts.values[date, :, row, column] - parts.values[date, :, other_row, other_column]
    assert np.linalg.norm(found) == pytest.approx(apart, rel=1e-3)
    assert (np.isnan(parts.values[:, 0]) == np.isnan(vectors[:, 0])).all()
    assert opened.thalweg.pca().sizes["component"] == 3
    with pytest.raises(UsageError, match="8 components: expected 1 to 7"):
        opened.thalweg.pca(8)


def test_a_sensor_is_rebuilt_by_the_model_of_the_store(
    opened: xr.Dataset, cube: Cube, model: EarthModel, model_folder: Path
) -> None:
    bands = opened.thalweg.decode("sentinel-2", model=model_folder)
    assert bands.dims == ("time", "band", "y", "x")
    assert list(bands.band.values) == list(model.autoencoder("sentinel-2").sensor.band_names)
    vectors = torch.from_numpy(np.nan_to_num(opened.embeddings.values[3:4]))
    expected = model.decode(vectors, "sentinel-2")[0].numpy()
    usable = np.isfinite(opened.embeddings.values[3]).all(0)
    np.testing.assert_allclose(bands.values[3][:, usable], expected[:, usable], atol=1e-5)
    assert np.isnan(bands.values[3][:, ~usable]).all()
    radar = opened.thalweg.decode("sentinel-1", days=6, model=model)
    assert radar.attrs == {"units": "dB", "days_from_date": 6.0}
    assert -40 < float(radar.median()) < 10


def test_a_sensor_rebuilt_resembles_what_was_seen(cube: Cube, fitted_folder: Path, tmp_path: Path) -> None:
    fitted = EarthModel.load(fitted_folder)
    opened = thalweg.open(embed_to_zarr(Job(cube, fitted, size=32), tmp_path / "out.zarr"))
    rebuilt = opened.thalweg.decode("sentinel-2", model=fitted)
    seen = cube.reference.read(cube.whole).values[cube.eligible()]
    both = np.isfinite(rebuilt.values) & np.isfinite(seen)
    spread = np.abs(seen[both] - np.median(seen[both])).mean()
    assert np.abs(rebuilt.values[both] - seen[both]).mean() < spread / 2


def test_another_model_and_an_unknown_sensor_are_refused(opened: xr.Dataset, model: EarthModel) -> None:
    with pytest.raises(UsageError, match=r"embeddings of thalweg-earth-.*, model .*: embed the cube again"):
        opened.thalweg.decode("sentinel-2")
    with pytest.raises(
        UsageError, match=r"quantity 'sentinel-9': expected sentinel-2, sentinel-1, lai.* mean sentinel"
    ):
        opened.thalweg.decode("sentinel-9", model=model)


@pytest.mark.parametrize("trait", ["lai", "soil_moisture"])
def test_traits_are_decoded_with_an_interval(trait: str, cube: Cube) -> None:
    shipped = EarthModel.load()
    store = thalweg.embed(cube, shipped)
    decoded = store.thalweg.decode(trait, model=shipped)
    assert decoded.dims == ("time", "band", "y", "x")
    assert list(decoded.band.values) == [trait, f"{trait}_uncertainty"]
    known = np.isfinite(store.embeddings.values[:, 0])
    assert (decoded.values[:, 0][known] >= 0).all()
    assert (decoded.values[:, 1][known] > 0).all()
    assert np.isnan(decoded.values[:, 0][~known]).all()


def test_a_trait_has_no_day_and_an_untrained_one_is_refused(opened: xr.Dataset, model: EarthModel) -> None:
    with pytest.raises(UsageError, match="a trait is known on the dates only"):
        opened.thalweg.decode("lai", days=3, model=model)
    with pytest.raises(UsageError, match="lai: this model was trained without it"):
        opened.thalweg.decode("lai", model=model)


def test_the_accessor_is_for_embeddings() -> None:
    with pytest.raises(UsageError, match=r"open one with thalweg.open\(path\)"):
        _ = xr.Dataset({"rain": ("x", [1.0])}).thalweg.pca


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such store"):
        thalweg.open(tmp_path / "nothing.zarr")
