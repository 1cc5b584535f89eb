"""Embedding jobs: blocks found from their index, dates, and metadata of the store."""

from pathlib import Path

import numpy as np
import pytest

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.windows import Window, window_at, window_count
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import finish_block
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.writer import create_store


@pytest.mark.parametrize("block", [8, 12, 32, 64])
def test_windows_from_indices_cover_the_grid_row_by_row(block: int, cube: Cube, model: EarthModel) -> None:
    job = Job(cube, model, block=block)
    expected = [
        Window(top, left, min(block, 32 - top), min(block, 32 - left))
        for top in range(0, 32, block)
        for left in range(0, 32, block)
    ]
    assert [job.window(index) for index in range(job.block_count)] == expected
    assert list(cube.windows(block)) == expected


@pytest.mark.parametrize("index", [-1, 9])
def test_an_index_beyond_the_blocks_is_invalid(index: int, cube: Cube, model: EarthModel) -> None:
    with pytest.raises(IndexError, match=f"window {index} of 9"):
        Job(cube, model, block=12).window(index)


def test_the_last_window_of_a_country_is_found_at_once() -> None:
    shape = (64_000, 63_990)
    assert window_count(shape, 64) == 1_000_000
    assert window_at(shape, 64, 999_999) == Window(63_936, 63_936, 64, 54)
    assert window_at(shape, 64, 1_000) == Window(64, 0, 64, 64)


def test_a_block_is_finished_without_listing_the_others(
    cube: Cube, model: EarthModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(cube, model, block=12)
    create_store(job.schema(), tmp_path / "out.zarr")
    found: list[int] = []
    window = Job.window

    def counted(self: Job, index: int) -> Window:
        found.append(index)
        return window(self, index)

    monkeypatch.setattr(Job, "window", counted)
    monkeypatch.setattr(Cube, "windows", None)
    assert finish_block(job, tmp_path / "out.zarr", 4).failed is None
    assert found == [4]


def test_dates_are_the_eligible_dates_of_the_reference(cube: Cube, model: EarthModel) -> None:
    job = Job(cube, model)
    np.testing.assert_array_equal(job.dates(), cube.reference.dates[cube.eligible()])
    assert job.pixel_dates() == 32 * 32 * len(job.dates())


def test_the_schema_describes_the_job(cube: Cube, model: EarthModel) -> None:
    schema = Job(cube, model, size=32, quantize=8).schema()
    assert (schema.dimensions, schema.block, schema.quantize) == (32, 64, 8)
    assert schema.auxiliary_sensors == ("sentinel-1",)
    assert schema.interval_factors[0.68] == 1
    assert schema.attributes()["geoemb:data_type"] == "int8"
