"""Embeddings on the days of a calendar: in memory, in stores, by several processes, and their readers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.export.geoparquet import write_geoparquet
from thalweg.earth.export.raster import write_cogs
from thalweg.earth.export.stac import write_catalogue
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.dask_backend import local_workers
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.memory import block_bytes
from thalweg.earth.inference.quantization_loss import measure_loss
from thalweg.earth.inference.runner import Outcome, embed_to_zarr, run_in_process
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import PixelIndex
from thalweg.earth.sensors import Quality
from thalweg.earth.store.lookup import embedding_at
from thalweg.earth.store.reader import open_store
from thalweg.earth.store.subsample import clear_fractions, sample_vectors
from thalweg.errors import ThalwegError, UsageError

BLOCK = 16
DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def default(cube: Cube, model: EarthModel) -> xr.Dataset:
    return embed(cube, model)


@pytest.fixture(scope="module")
def days(cube: Cube) -> list[np.datetime64]:
    """Two eligible overpasses, the days half-way between overpasses around them, and an overpass under clouds."""
    dates, eligible = cube.reference.dates, cube.eligible()
    chosen = eligible[[1, 3]]
    between = [dates[index] + (dates[index + 1] - dates[index]) / 2 for index in chosen]
    clouded = np.setdiff1d(np.arange(len(dates)), eligible)
    return sorted(date.astype("datetime64[D]") for date in [*dates[chosen], *between, *dates[clouded[:1]]])


@pytest.fixture(scope="module")
def embedded(cube: Cube, model: EarthModel, days: list[np.datetime64]) -> xr.Dataset:
    return embed(cube, model, calendar=days)


@pytest.fixture(scope="module")
def store(
    cube: Cube, model: EarthModel, days: list[np.datetime64], tmp_path_factory: pytest.TempPathFactory
) -> xr.Dataset:
    job = Job(cube, model, block=BLOCK, calendar=days)
    return open_store(embed_to_zarr(job, tmp_path_factory.mktemp("calendar") / "calendar.zarr"))


def test_the_default_dates_are_all_observed(default: xr.Dataset) -> None:
    assert default.observed.dims == ("time",)
    assert default.observed.dtype == np.uint8
    assert (default.observed.values == 1).all()
    assert (default.quality.values != Quality.NO_OVERPASS).all()


def test_a_day_with_an_overpass_is_that_overpass(
    embedded: xr.Dataset, default: xr.Dataset, cube: Cube, days: list[np.datetime64]
) -> None:
    by_day = {date.astype("datetime64[D]"): date for date in cube.reference.dates}
    expected = [by_day.get(day, day.astype("datetime64[ns]")) for day in days]
    np.testing.assert_array_equal(embedded.time.values, expected)
    np.testing.assert_array_equal(embedded.observed.values, [day in by_day for day in days])
    assert 0 < embedded.observed.values.sum() < len(days)
    both = np.intersect1d(embedded.time.values, default.time.values)
    assert len(both) == 2
    ours, theirs = embedded.sel(time=both), default.sel(time=both)
    for name in ("quality", "picture", "valid_context_dates", "gap_sentinel-1"):
        np.testing.assert_array_equal(ours[name].values, theirs[name].values)
    seen = np.isfinite(theirs.embeddings.values)
    for name in ("embeddings", "uncertainty"):
        np.testing.assert_array_equal(ours[name].values[seen], theirs[name].values[seen])


def test_every_pixel_that_was_seen_at_some_time_has_an_embedding(embedded: xr.Dataset, cube: Cube) -> None:
    ever = cube.reference.read(cube.whole).valid.any(0)
    expected = ever & (embedded.valid_context_dates.values > 0)
    assert expected.any()
    assert not expected.all()
    for name in ("embeddings", "uncertainty"):
        np.testing.assert_array_equal(np.isfinite(embedded[name].values).all(1), expected)
    unobserved = embedded.observed.values == 0
    assert (embedded.quality.values[unobserved][:, ever] == Quality.NO_OVERPASS).all()
    assert (embedded.quality.values[:, ~ever] == Quality.NEVER_OBSERVED).all()
    assert (embedded.picture.values[unobserved] == 0).all()
    np.testing.assert_array_equal(clear_fractions(embedded)[unobserved], 0)


def test_the_spread_of_a_day_without_an_overpass_is_positive(embedded: xr.Dataset) -> None:
    spread = embedded.uncertainty.values[embedded.observed.values == 0]
    assert (spread[np.isfinite(spread)] > 0).all()


def test_a_store_equals_the_dataset_in_memory(store: xr.Dataset, embedded: xr.Dataset) -> None:
    assert set(store.variables) == set(embedded.variables)
    for name, variable in embedded.variables.items():
        if variable.dtype == np.float32:
            np.testing.assert_allclose(store[name].values, variable.values, atol=1e-5)
        else:
            np.testing.assert_array_equal(store[name].values, variable.values)
    assert store.observed.attrs == embedded.observed.attrs
    assert store.observed.attrs["flag_meanings"] == "no_overpass overpass"


def test_two_processes_write_the_same_store(
    store: xr.Dataset, cube: Cube, model: EarthModel, days: list[np.datetime64], tmp_path: Path
) -> None:
    with local_workers(2) as executor:
        job = Job(cube, model, block=BLOCK, calendar=days)
        out = embed_to_zarr(job, tmp_path / "out.zarr", executor=executor)
    xr.testing.assert_identical(open_store(out).compute(), store.compute())


def test_an_unfinished_store_of_another_calendar_is_not_resumed(
    cube: Cube, model: EarthModel, days: list[np.datetime64], tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"

    def last_fails(job: Job, folder: Path, indices: Any) -> Any:
        yield from run_in_process(job, folder, indices[:-1])
        yield Outcome(indices[-1], failed="a lost disk")

    asked: list[list[int]] = []

    def noted(job: Job, folder: Path, indices: Any) -> Any:
        asked.append(list(indices))
        yield from last_fails(job, folder, indices)

    for calendar in (days, days, days[:-1], None):
        with pytest.raises(ThalwegError, match=r"1 of 4 blocks failed|a lost disk"):
            embed_to_zarr(Job(cube, model, block=BLOCK, calendar=calendar), out, executor=noted)
        if calendar is days and len(asked) == 2:
            assert asked == [[0, 1, 2, 3], [3]]
    assert asked[2:] == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_days_beyond_the_reach_of_the_cube_are_refused(cube: Cube, model: EarthModel) -> None:
    last = max(series.dates.max() for series in cube.series.values()).astype("datetime64[D]")
    assert len(Job(cube, model, calendar=[last + 120 * DAY]).dates()) == 1
    with pytest.raises(
        UsageError, match=r"calendar: 1 of 2 day\(s\), the first .* are more than 120 days from any date"
    ):
        Job(cube, model, calendar=[last, last + 121 * DAY])
    with pytest.raises(UsageError, match="expected start/end/period"):
        embed(cube, model, calendar="weekly")


def test_the_memory_of_a_job_grows_with_its_calendar(cube: Cube, model: EarthModel) -> None:
    first = cube.reference.dates[0].astype("datetime64[D]")
    daily = Job(cube, model, calendar=f"{first}/{first + 300 * DAY}/P1D")
    assert len(daily.dates()) == 301
    assert daily.pixel_dates() == 301 * 32 * 32
    assert block_bytes(daily) > block_bytes(Job(cube, model, calendar=f"{first}/{first + 300 * DAY}/P30D"))


def test_exports_hold_the_days_of_a_calendar(
    store: xr.Dataset, model_folder: Path, tmp_path: Path, days: list[np.datetime64]
) -> None:
    import geopandas
    import rasterio

    names = [str(day) for day in days]
    unobserved = int(np.flatnonzero(store.observed.values == 0)[0])
    cogs = write_cogs(store, tmp_path / "cogs")
    assert sorted(file.stem for file in cogs.glob("*.tif") if "_" not in file.stem) == names
    with rasterio.open(cogs / f"{names[unobserved]}.tif") as file:
        np.testing.assert_array_equal(file.read(), store.embeddings.values[unobserved])
    tables = write_geoparquet(store, tmp_path / "tables")
    table = geopandas.read_parquet(tables / f"{names[unobserved]}.parquet")
    assert len(table) == np.isfinite(store.embeddings.values[unobserved]).all(0).sum() > 0
    assert set(table.quality) == {Quality.NO_OVERPASS}
    catalogue = write_catalogue(store, tmp_path / "stac", model_folder)
    import pystac

    collection = pystac.Collection.from_file(str(catalogue / "collection.json"))
    items = {item.id: item for item in collection.get_items()}
    assert [items[name].properties["thalweg:observed"] for name in names] == store.observed.values.astype(bool).tolist()
    assert "emb:temporal_resolution" not in collection.extra_fields


def test_readers_take_the_days_of_a_calendar(store: xr.Dataset) -> None:
    unobserved = int(np.flatnonzero(store.observed.values == 0)[0])
    day = np.datetime_as_string(store.time.values[unobserved], "D")
    found = embedding_at(store, PixelIndex(16, 16), day)
    np.testing.assert_array_equal(found.vector, store.embeddings.values[unobserved, :, 16, 16])
    count = int(np.isfinite(store.embeddings.values[unobserved]).all(0).sum())
    assert len(sample_vectors(store, range(unobserved, unobserved + 1), count)) == count
    assert np.isfinite(store.thalweg.similar(PixelIndex(16, 16)).values).any()
    assert store.isel(time=store.observed == 1).sizes["time"] == store.observed.values.sum()


def test_the_loss_by_quantization_is_measured_on_overpasses(
    cube: Cube, model: EarthModel, days: list[np.datetime64]
) -> None:
    overpasses = {date.astype("datetime64[D]") for date in cube.reference.dates}
    free = [day for day in days if day not in overpasses]
    loss = measure_loss(Job(cube, model, quantize=8, calendar=free))
    assert np.isnan(loss.probe)
    assert 0 <= loss.clipped < 1


def test_the_command_embeds_the_days_of_a_calendar(
    cli: Callable[..., Any], cube_folder: Path, model_folder: Path, cube: Cube, tmp_path: Path
) -> None:
    first = cube.reference.dates[2].astype("datetime64[D]")
    dates, out = f"{first}/{first + 20 * DAY}/P10D", tmp_path / "out.zarr"
    ran = cli("earth", "embed", cube_folder, out, "--dates", dates, "--model", model_folder)
    assert ran.code == 0, ran.err
    found = open_store(out).time.values.astype("datetime64[D]")
    np.testing.assert_array_equal(found, first + 10 * DAY * np.arange(3))
    for wrong, message in (
        ("weekly", "expected start/end/period"),
        ("2001-01-01/2001-02-01/P1W", "more than 120 days"),
    ):
        ran = cli("earth", "embed", cube_folder, tmp_path / "none.zarr", "--dates", wrong, "--model", model_folder)
        assert ran.code == 2
        assert message in ran.err
        assert len(ran.err.strip().splitlines()[-1]) > 0
        assert not (tmp_path / "none.zarr").exists()
