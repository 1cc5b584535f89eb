import pytest
import torch

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.trust_region import TrustRegion


@pytest.fixture
def region(toy):
    return TrustRegion(toy, toy.embed("a red ball"), 0.5)


def offsets(region, seed=0):
    return torch.randn(region.size, generator=torch.Generator().manual_seed(seed))


def test_zero_is_the_start_and_the_start_token_never_moves(region):
    start = region.start.tensors
    still = region.tensors(torch.zeros(region.size))
    moved = region.tensors(offsets(region))
    for name in ("prompt", "negative"):
        assert torch.equal(still[name], start[name])
        assert torch.equal(moved[name][0], start[name][0])
        assert (moved[name][1:] != start[name][1:]).all()


def test_a_drift_of_one_moves_by_the_spread(region):
    values = region.start.tensors["prompt"][1:]
    moved = region.tensors(torch.ones(region.size))["prompt"][1:]
    assert torch.allclose(moved - values, values.std(correction=0).expand_as(values), atol=1e-6)
    assert region.drift(torch.ones(region.size)) == pytest.approx(1)


def test_a_tensor_without_spread_takes_that_of_its_like(region):
    negative = region.tensors(torch.ones(region.size))["negative"][1:]
    assert torch.allclose(negative, region.start.tensors["prompt"][1:].std(correction=0).expand_as(negative))


def test_projection_is_the_nearest_place_within(region):
    far = 3 * offsets(region)
    near = region.project(far)
    assert region.drifts(near) == pytest.approx([0.5, 0.5])
    assert torch.allclose(region.project(near), near)
    inside = 0.1 * offsets(region)
    assert torch.equal(region.project(inside), inside)
    one = torch.cat([far[: region.size // 2], inside[region.size // 2 :]])
    assert torch.equal(region.project(one)[region.size // 2 :], inside[region.size // 2 :])


def test_start_moments_are_set_back(region):
    start = region.start.tensors["prompt"][1:]
    moved = region.tensors(region.with_start_moments(offsets(region)))["prompt"][1:]
    assert float(moved.mean()) == pytest.approx(float(start.mean()), abs=1e-5)
    assert float(moved.std()) == pytest.approx(float(start.std()), rel=1e-4)
    assert not torch.allclose(moved, start, atol=0.1)


def test_half_precision_moves_in_full(toy):
    start = toy.embed("a red ball")
    half = Embedding({name: tensor.half() for name, tensor in start.tensors.items()}, start.lineage)
    region = TrustRegion(toy, half, 0.5)
    place = offsets(region).requires_grad_()
    tensors = region.tensors(place)
    assert tensors["prompt"].dtype == torch.float16
    sum(tensor.float().sum() for tensor in tensors.values()).backward()
    assert place.grad.dtype == torch.float32


def test_flatten_takes_what_tensors_gives(region):
    start, moved = region.start.tensors, region.tensors(offsets(region))
    difference = region.flatten(moved) - region.flatten(start)
    assert torch.allclose(difference / region.spread, offsets(region), atol=1e-5)
    with pytest.raises(UsageError, match=r"expected a tensor negative \(5, 6\), got none"):
        region.flatten({"prompt": start["prompt"]})


def test_invalid_starts(toy):
    start = toy.embed("a red ball")
    with pytest.raises(UsageError, match=r"`radius` to be a number from 1e-06 to 1e[+]06, got 0"):
        TrustRegion(toy, start, 0)
    broken = start.derive({"prompt": torch.full((5, 6), torch.nan)}, "path")
    with pytest.raises(ThalwegError, match="tensor prompt holds NaN"):
        TrustRegion(toy, broken, 1)


def test_rows_have_spreads_of_their_own(toy):
    start = toy.embed("a red ball")
    tensors = {**start.tensors, "prompt": start.tensors["prompt"] * torch.tensor([1.0, 1.0, 10.0, 0.0, 1.0])[:, None]}
    scaled = start.derive(tensors, "move")
    by_row, by_tensor = (TrustRegion(toy, scaled, 1.0, scale) for scale in ("row", "tensor"))
    prompt, negative = (part.reshape(toy.tokens - 1, toy.width) for part in by_row.split(by_row.spread))
    assert torch.allclose(prompt, prompt[:, :1].expand(prompt.shape))
    rows = tensors["prompt"][1:]
    assert torch.allclose(prompt[:2, 0], rows[:2].std(1, correction=0))
    # Rows without a spread, and tensors without one, take the tensor's.
    whole = by_tensor.spread[0]
    assert torch.allclose(prompt[2, 0], whole) and torch.allclose(negative, whole)
    assert torch.allclose(by_tensor.spread, whole)
