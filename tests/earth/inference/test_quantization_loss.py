"""Loss by the quantized encoding, and the order in which blocks are tried."""

import pytest

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.quantization_loss import _from_the_middle, measure_loss
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.quantization import quantizations
from thalweg.errors import UsageError


def test_the_loss_is_small_and_decreases_with_more_bits(cube: Cube, model: EarthModel) -> None:
    eight, sixteen = (measure_loss(Job(cube, model, quantize=bits)) for bits in (8, 16))
    assert abs(eight.probe) < 0.05
    assert abs(sixteen.probe) < abs(eight.probe)
    assert eight.clipped >= sixteen.clipped


def test_the_loss_is_large_if_the_steps_are_too_coarse(
    cube: Cube, model: EarthModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = {name: encoding.model_copy(update={"scale": 1.5}) for name, encoding in quantizations(8).items()}
    monkeypatch.setitem(quantizations.__globals__["_ENCODINGS"], 8, coarse)
    assert measure_loss(Job(cube, model, quantize=8)).probe > 0.05


def test_a_job_without_quantization_is_invalid(cube: Cube, model: EarthModel) -> None:
    with pytest.raises(UsageError, match="this job is not quantized"):
        measure_loss(Job(cube, model))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9])
def test_blocks_are_tried_from_the_middle(count: int) -> None:
    expected = sorted(range(count), key=lambda index: abs(index - count // 2))
    assert list(_from_the_middle(count)) == expected
