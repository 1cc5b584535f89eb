"""Embedding of a cube: no seams, no embeddings without observations, correct counts and gaps."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window
from thalweg.earth.inference.compute import embed, embed_block, embed_blocks
from thalweg.earth.inference.job import Job
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import Quality
from thalweg.earth.store.schema import CONTEXT_DAYS
from thalweg.errors import UsageError

DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def embedded(cube: Cube, model: EarthModel) -> xr.Dataset:
    return embed(cube, model)


def test_layout_of_an_embedded_cube(embedded: xr.Dataset, cube: Cube) -> None:
    assert embedded.embeddings.dims == embedded.uncertainty.dims == ("time", "embedding", "y", "x")
    assert embedded.embeddings.dtype == embedded.uncertainty.dtype == np.float32
    assert dict(embedded.sizes) == {"time": len(cube.eligible()), "embedding": 7, "y": 32, "x": 32, "colour": 3}
    np.testing.assert_array_equal(embedded.time.values, cube.reference.dates[cube.eligible()])
    np.testing.assert_array_equal(embedded.x.values, cube.x)
    np.testing.assert_array_equal(embedded.y.values, cube.y)
    for name in ("valid_context_dates", "quality", "gap_sentinel-1"):
        assert embedded[name].dims == ("time", "y", "x")


@pytest.mark.parametrize("block", [12, 16])
def test_blocks_have_no_seams(block: int, cube: Cube, model: EarthModel, embedded: xr.Dataset) -> None:
    job = Job(cube, model, block=block)
    covered = np.zeros((32, 32), int)
    for index, found in embed_blocks(job):
        window = found.window
        assert window == job.window(index)
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        covered[rows, columns] += 1
        whole = embedded.isel(y=rows, x=columns)
        np.testing.assert_allclose(found.embeddings, whole.embeddings.values, atol=1e-5)
        np.testing.assert_allclose(found.uncertainty, whole.uncertainty.values, atol=1e-5)
        np.testing.assert_array_equal(found.valid_context_dates, whole.valid_context_dates.values)
        np.testing.assert_array_equal(found.quality, whole.quality.values)
        np.testing.assert_array_equal(found.preview, whole.picture.values)
        np.testing.assert_array_equal(found.gaps["sentinel-1"], whole["gap_sentinel-1"].values)
    assert (covered == 1).all()


def test_embeddings_are_nested(cube: Cube, model: EarthModel, embedded: xr.Dataset) -> None:
    full = embed(cube, model, size=32)
    assert full.sizes["embedding"] == 32
    np.testing.assert_array_equal(full.embeddings.values[:, :7], embedded.embeddings.values)


def test_a_pixel_has_an_embedding_if_the_reference_sensor_observed_it(embedded: xr.Dataset, cube: Cube) -> None:
    seen = cube.reference.read(cube.whole).valid[cube.eligible()]
    assert 0 < seen.mean() < 1
    for name in ("embeddings", "uncertainty"):
        finite = np.isfinite(embedded[name].values)
        np.testing.assert_array_equal(finite, np.broadcast_to(seen[:, None], finite.shape))
    np.testing.assert_array_equal(embedded.quality.values <= Quality.WATER, seen)
    assert (embedded.uncertainty.values[np.isfinite(embedded.uncertainty.values)] > 0).all()


def test_quality_gives_the_reason(embedded: xr.Dataset, cube: Cube) -> None:
    state = cube.reference.read(cube.whole).quality
    never = ~(state <= Quality.WATER).any(0)
    assert never[:3, :3].all()
    assert (embedded.quality.values[:, never] == Quality.NEVER_OBSERVED).all()
    np.testing.assert_array_equal(embedded.quality.values[:, ~never], state[cube.eligible()][:, ~never])


def test_context_dates_are_counted_over_all_sensors(embedded: xr.Dataset, cube: Cube) -> None:
    seen = {name: series.read(cube.whole).valid for name, series in cube.series.items()}
    for index, date in enumerate(embedded.time.values):
        expected = np.zeros((32, 32), int)
        for name, series in cube.series.items():
            for other, valid in zip(series.dates, seen[name], strict=True):
                if abs(other - date) <= CONTEXT_DAYS * DAY:
                    expected += valid
        np.testing.assert_array_equal(embedded.valid_context_dates.values[index], expected)


def test_gaps_are_signed_days_to_the_nearest_valid_acquisition(
    datasets: dict[str, xr.Dataset], model: EarthModel
) -> None:
    radar = datasets["sentinel-1"].copy(deep=True)
    missing = radar["VV"].attrs["_FillValue"]
    radar["VV"][5:, 10:20, :] = missing
    radar["VV"][:, 25:, 25:] = missing
    cube = Cube.open({"sentinel-2": datasets["sentinel-2"], "sentinel-1": radar})
    gaps = embed(cube, model)["gap_sentinel-1"].values
    dates = cube.series["sentinel-1"].dates
    valid = cube.series["sentinel-1"].read(cube.whole).valid
    for index, date in enumerate(cube.reference.dates[cube.eligible()]):
        away = (dates - date) / DAY
        for row, column in [(0, 0), (12, 4), (19, 31), (20, 10), (30, 30), (31, 2)]:
            here = away[valid[:, row, column]]
            if len(here):
                nearest = here[np.abs(here).argmin()]
                assert gaps[index, row, column] == pytest.approx(nearest, abs=2e-3)
            else:
                assert np.isnan(gaps[index, row, column])
    assert (gaps[np.isfinite(gaps)] < 0).any()
    assert (gaps[np.isfinite(gaps)] > 0).any()
    assert np.isnan(gaps[:, 25:, 25:]).all()


def test_the_gap_of_an_absent_sensor_is_nan(datasets: dict[str, xr.Dataset], model: EarthModel) -> None:
    alone = embed(datasets["sentinel-2"], model)
    assert np.isnan(alone["gap_sentinel-1"].values).all()
    usable = alone.quality.values <= Quality.WATER
    assert np.isfinite(alone.embeddings.values[np.broadcast_to(usable[:, None], alone.embeddings.shape)]).all()


def test_a_sensor_unknown_to_the_model_changes_nothing(
    landscape: object, datasets: dict[str, xr.Dataset], model: EarthModel, embedded: xr.Dataset
) -> None:
    three = embed(Cube.open({**datasets, "landsat-8": landscape.landsat8}), model)
    np.testing.assert_array_equal(three.embeddings.values, embedded.embeddings.values)
    assert "gap_landsat-8" not in three


def test_values_under_clouds_change_nothing(
    datasets: dict[str, xr.Dataset], model: EarthModel, embedded: xr.Dataset
) -> None:
    changed = datasets["sentinel-2"].copy(deep=True)
    clouded = ~np.isin(changed["SCL"].values, (4, 5, 6, 7))
    for band in ("B02", "B08", "B12"):
        changed[band].values[clouded] = 9000
    again = embed(Cube.open({**datasets, "sentinel-2": changed}), model)
    np.testing.assert_array_equal(again.embeddings.values, embedded.embeddings.values)


def test_the_preview_shows_the_reference_sensor(embedded: xr.Dataset, cube: Cube) -> None:
    assert embedded.picture.attrs["bands"] == ["B04", "B03", "B02"]
    red = cube.reference.read(cube.whole).values[cube.eligible()][:, 2]
    expected = np.rint(255 * np.sqrt(np.clip(np.nan_to_num(red / 0.3), 0, 1)))
    np.testing.assert_allclose(embedded.picture.values[:, 0], expected, atol=1)


def test_the_preview_without_visible_bands_shows_others(datasets: dict[str, xr.Dataset], model: EarthModel) -> None:
    lacking = datasets["sentinel-2"].drop_vars(["B02", "B03", "B04", "B08"])
    assert Job(Cube.open(lacking), model).preview_bands == ("B12", "B8A", "B05")
    only = datasets["sentinel-2"][["B11", "SCL"]].assign_attrs(sensor="sentinel-2")
    assert Job(Cube.open(only), model).preview_bands == ("B11", "B11", "B11")


def test_progress_counts_pixel_dates_and_skips_finished_blocks(cube: Cube, model: EarthModel) -> None:
    calls: list[tuple[int, int]] = []
    done = [
        index for index, _ in embed_blocks(Job(cube, model, block=16), lambda *at: calls.append(at), frozenset({1}))
    ]
    total = 32 * 32 * len(cube.eligible())
    assert done == [0, 2, 3]
    assert calls == [(total * part // 4, total) for part in (1, 2, 3, 4)]


def test_a_block_is_as_large_as_its_window(cube: Cube, model: EarthModel, embedded: xr.Dataset) -> None:
    found = embed_block(Job(cube, model), Window(4, 6, 5, 3))
    assert found.embeddings.shape == (len(cube.eligible()), 7, 5, 3)
    np.testing.assert_allclose(found.embeddings, embedded.embeddings.values[..., 4:9, 6:9], atol=1e-5)


def test_a_path_or_a_dataset_is_embedded(
    cube_folder: object, datasets: dict[str, xr.Dataset], model: EarthModel, embedded: xr.Dataset
) -> None:
    np.testing.assert_array_equal(embed(cube_folder, model).embeddings.values, embedded.embeddings.values)
    one = embed(datasets["sentinel-2"], model).embeddings.values
    np.testing.assert_array_equal(one, embed(Cube.open(datasets["sentinel-2"]), model).embeddings.values)


def test_a_job_that_cannot_be_computed_is_invalid(cube: Cube, model: EarthModel) -> None:
    with pytest.raises(UsageError, match="size 8: expected 7 or 32"):
        Job(cube, model, size=8)
    radar = replace(cube, series={"sentinel-1": cube.series["sentinel-1"]})
    with pytest.raises(UsageError, match=r"no sensor that sets the dates \(has sentinel-1, .*add Sentinel-2"):
        Job(radar, model)
