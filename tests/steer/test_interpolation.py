from itertools import pairwise

import pytest
import torch

from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import UsageError
from thalweg.steer.image_features import image_features, pooled_features
from thalweg.steer.interpolation import PathConfig, between, equal_image_steps, lerp, path, slerp, transport

ROWS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
GOALS = torch.tensor([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0], [1.0, 0.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
"""A right angle, parallel, from zero, opposite, to zero."""


def embedding(rows: torch.Tensor, model: str = "0", **more: torch.Tensor) -> Embedding:
    return Embedding({"prompt": rows, **more}, Lineage(ModelIdentity("toy", model * 64), "a prompt"))


def test_lerp_is_a_line_and_extrapolates():
    assert torch.allclose(lerp(ROWS, GOALS, 0.25), 0.75 * ROWS + 0.25 * GOALS)
    assert torch.allclose(lerp(ROWS, GOALS, 1.5), -0.5 * ROWS + 1.5 * GOALS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_slerp_begins_and_ends_exactly_and_keeps_the_type(dtype):
    start, end = ROWS.to(dtype), GOALS.to(dtype)
    assert torch.equal(slerp(start, end, 0), start)
    assert torch.equal(slerp(start, end, 1), end)
    assert slerp(start, end, 0.3).dtype == dtype


def test_slerp_turns_equal_angles_and_changes_lengths_linearly():
    middle = slerp(ROWS[:1], GOALS[:1], 1 / 3)
    assert torch.atan2(middle[0, 1], middle[0, 0]).item() == pytest.approx(torch.pi / 6, abs=1e-6)
    assert middle.norm().item() == pytest.approx(3 + (1 - 3) / 3, abs=1e-6)


def test_slerp_of_parallel_and_zero_rows_is_a_line():
    moved = slerp(ROWS, GOALS, 0.5)
    for row in (1, 2, 4):
        assert torch.allclose(moved[row], (ROWS[row] + GOALS[row]) / 2)


def test_slerp_of_opposite_rows_keeps_their_length():
    for weight in (0.1, 0.5, 0.9):
        moved = slerp(ROWS[3:4], GOALS[3:4], weight)
        assert moved.norm().item() == pytest.approx(2**0.5, rel=1e-6)
        cosine = torch.cosine_similarity(moved, ROWS[3:4]).item()
        assert cosine == pytest.approx(torch.cos(torch.tensor(torch.pi * weight)).item(), abs=1e-5)


def test_slerp_about_a_centre_is_slerp_of_the_differences_from_it():
    centre = torch.tensor([[0.5, -1.0, 2.0]]).expand_as(ROWS)
    about = slerp(ROWS, GOALS, 0.4, centre)
    assert torch.allclose(about, centre + slerp(ROWS - centre, GOALS - centre, 0.4), atol=1e-6)
    assert not torch.allclose(about, slerp(ROWS, GOALS, 0.4), atol=1e-2)


def test_slerp_is_continuous_near_parallel_and_opposite_rows():
    start = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    for angle in (1e-8, 1e-6, 1e-4, torch.pi - 1e-4):
        end = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
        end[0, 0], end[0, 1] = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        moved = slerp(start, end, 0.5)
        assert torch.isfinite(moved).all()
        assert moved.norm().item() == pytest.approx(1, abs=1e-6)


def test_slerp_is_differentiable_at_its_edge_cases():
    start = ROWS.clone().requires_grad_()
    slerp(start, GOALS, 0.5).sum().backward()
    assert start.grad is not None
    assert torch.isfinite(start.grad).all()


def test_transport_finds_rows_that_were_exchanged():
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    near = rows + 0.01 * torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(transport(rows, near[order]), near)
    assert torch.equal(transport(rows[0], rows[1]), rows[1])


def test_a_path_by_transport_is_shorter():
    start = embedding(torch.eye(6))
    end = embedding(torch.eye(6).roll(1, 0))
    by_row = between(start, end, 0.5)["prompt"]
    by_transport = between(start, end, 0.5, "transport")["prompt"]
    assert torch.equal(by_transport, torch.eye(6))
    assert not torch.allclose(by_row, torch.eye(6))


def test_path_records_its_provenance():
    start, end, centre = embedding(ROWS), embedding(GOALS), embedding(ROWS * 0)
    frames = path(start, end, 5, "slerp", centre)
    assert torch.equal(frames[0].tensors["prompt"], ROWS)
    assert torch.equal(frames[-1].tensors["prompt"], GOALS)
    middle = frames[2].lineage
    assert middle.operation == "path"
    assert middle.parameters == {"method": "slerp", "weight": 0.5, "centre": centre.hash}
    assert middle.parents == (start.hash, end.hash)


def test_a_path_keeps_masks():
    mask = torch.ones(5, dtype=torch.bool)
    start, end = embedding(ROWS, mask=mask), embedding(GOALS, mask=mask)
    assert torch.equal(path(start, end, 3)[1].tensors["mask"], mask)
    with pytest.raises(UsageError, match="mask"):
        path(start, end, 3, "transport")


def test_paths_refuse_invalid_arguments():
    start, end = embedding(ROWS), embedding(GOALS)
    with pytest.raises(UsageError, match="a whole number from 2 to 1,000, got"):
        path(start, end, 1)
    with pytest.raises(UsageError, match="'lerp', 'slerp', 'transport'"):
        path(start, end, 3, "spline")
    with pytest.raises(UsageError, match=r"expected an embedding of toy \(0+\), got one of toy \(1+\)"):
        path(start, embedding(GOALS, model="1"), 3)
    with pytest.raises(UsageError, match="one layout"):
        path(start, embedding(GOALS[:3]), 3)
    for weight in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"the weight on a path to be a number from -100 to 100, got {weight}"):
            between(start, end, weight)


def steps_between(toy, frames, seeds):
    features = [image_features(toy.render(frame, seeds), pooled_features) for frame in frames]
    return torch.stack([(after - before).norm() for before, after in pairwise(features)])


@pytest.mark.parametrize("method", ["lerp", "slerp"])
def test_equal_image_steps_are_equal(toy, method):
    start, end = toy.embed("red ball"), toy.embed("a green cube on the left")
    plain = steps_between(toy, path(start, end, 6, method), (1, 2))
    frames = equal_image_steps(toy, start, end, (1, 2), PathConfig(6, method))
    spaced = steps_between(toy, frames, (1, 2))
    assert torch.equal(frames[0].tensors["prompt"], start.tensors["prompt"])
    assert spaced.max() / spaced.min() < 1.15
    assert spaced.max() / spaced.min() < 0.8 * plain.max() / plain.min()


def test_equal_image_steps_refuses_invalid_arguments(toy):
    start, end = toy.embed("red ball"), toy.embed("blue cube")
    with pytest.raises(UsageError, match="renders to space a path to be a whole number from 3"):
        PathConfig(4, renders=2)
    with pytest.raises(UsageError, match="distinct seeds"):
        equal_image_steps(toy, start, end, (0, 0), PathConfig(4))


def test_equal_image_steps_between_equal_embeddings(toy):
    start = toy.embed("red ball")
    assert len(equal_image_steps(toy, start, start, (0,), PathConfig(4))) == 4


def test_pooled_features_are_equal_for_equal_images_and_differ_more_for_larger_differences():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    near, far = (image_features(images * factor, pooled_features) for factor in (0.9, 0.5))
    here = image_features(images, pooled_features)
    assert (here - image_features(images.clone(), pooled_features)).norm() == 0
    assert 0 < (here - near).norm() < (here - far).norm() < 1
