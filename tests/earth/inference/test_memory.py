"""Memory plans: parsing of sizes, and plans within their budget."""

import pytest

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.memory import PROCESS_BYTES, block_bytes, parse_size, plan_memory, total_bytes
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4e9), ("512MB", 512e6), ("1.5 GiB", 1.5 * 2**30), ("700000", 7e5), ("2g", 2e9), ("3tb", 3e12)],
)
def test_sizes_are_parsed(text: str, size: float) -> None:
    assert parse_size(text) == int(size)


@pytest.mark.parametrize("text", ["", "much", "4 apples", "-1GB", "1,5GB"])
def test_other_texts_are_invalid(text: str) -> None:
    with pytest.raises(UsageError, match="expected a size such as 4GB or 512MB"):
        parse_size(text)


def test_a_plan_keeps_within_its_budget(cube: Cube, model: EarthModel) -> None:
    job = Job(cube, model, size=32)
    roomy = plan_memory(job, 100 * 2**30, workers=2)
    assert (roomy.job, roomy.workers) == (job, 2)
    assert roomy.bytes == total_bytes(job, 2) == 3 * PROCESS_BYTES + 2 * block_bytes(job)
    one = plan_memory(job, roomy.bytes - 1, workers=2)
    assert (one.job, one.workers) == (job, 1)
    smaller = plan_memory(job, one.bytes - 1, workers=2)
    assert smaller.bytes < one.bytes
    assert block_bytes(smaller.job) < block_bytes(job)
    assert smaller.job.block <= job.block


def test_smaller_blocks_and_fewer_dates_need_less_memory(cube: Cube, model: EarthModel) -> None:
    sizes = [block_bytes(Job(cube, model, block=side)) for side in (64, 48, 32, 16)]
    assert sizes == sorted(sizes, reverse=True)
    dates = [block_bytes(Job(cube, model, dates_at_once=count)) for count in (16, 8, 4)]
    assert dates == sorted(dates, reverse=True)


def test_a_budget_that_is_too_small_raises_one_line_error(cube: Cube, model: EarthModel) -> None:
    with pytest.raises(
        UsageError, match=r"memory 100 MB: too little, this cube needs \d+ MB at least: raise"
    ) as caught:
        plan_memory(Job(cube, model), 100_000_000, workers=1)
    assert "\n" not in str(caught.value)
