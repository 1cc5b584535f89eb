"""Groups of seeds: the images and gradients of one chain, whatever the number of cores."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg import threads
from thalweg.diffusion import generator as generator_module
from thalweg.diffusion import miniature
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.embedding import Embedding

SEEDS = (5, 0, 9, 2, 7, 1)


@pytest.fixture(scope="module")
def model() -> Iterator[DiffusionGenerator]:
    yield miniature.load(steps=3)


def moved(embedding: Embedding) -> tuple[Embedding, dict[str, Tensor]]:
    """Return an embedding whose tensors take gradients, and these."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in embedding.tensors.items()}
    return Embedding(leaves, embedding.lineage), leaves


def images_and_gradient(model: DiffusionGenerator) -> tuple[Tensor, dict[str, Tensor]]:
    embedding, leaves = moved(model.embed("a red ball"))
    images = model.render(embedding, SEEDS)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((images * weights).sum(), list(leaves.values()))
    return images.detach(), dict(zip(leaves, found, strict=True))


def test_images_and_gradients_do_not_depend_on_the_cores(
    model: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cores in (1, 2, 4):
        monkeypatch.setattr(threads, "available_cores", lambda cores=cores: cores)
        found.append(images_and_gradient(model))
        with torch.no_grad():
            assert torch.equal(model.render(model.embed("a red ball"), SEEDS), found[-1][0])
    for images, gradients in found[1:]:
        assert torch.equal(images, found[0][0])
        assert all(torch.equal(gradient, found[0][1][name]) for name, gradient in gradients.items())


def test_groups_are_the_whole_chain_to_rounding(model: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    images, gradients = images_and_gradient(model)
    monkeypatch.setattr(generator_module, "GROUP", len(SEEDS))
    whole, expected = images_and_gradient(model)
    assert torch.allclose(images, whole, atol=2e-6)
    for name, gradient in gradients.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm())
    embedding = model.embed("a red ball")
    latents = model.latents(embedding, model.noise(SEEDS))
    assert torch.allclose(model.decode(latents).detach(), images, atol=2e-6)


def test_points_rendered_side_by_side_are_the_same_bit_for_bit(model: DiffusionGenerator) -> None:
    red, blue = model.embed("a red ball"), model.embed("a blue cube")
    points = [(red, [3]), (blue, [3]), (red, [4, 8])]
    for point, images in zip(points, model.render_each(points), strict=True):
        with torch.no_grad():
            assert torch.equal(images, model.render(*point))


def test_the_gradient_may_be_taken_twice_and_calls_are_counted(model: DiffusionGenerator) -> None:
    embedding, leaves = moved(model.embed("a red ball"))
    before = model.calls
    images = model.render(embedding, SEEDS)
    assert model.calls - before == 3 * len(SEEDS)
    first, second = (torch.autograd.grad(images.sum(), leaves["prompt"], retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert model.calls - before == 9 * len(SEEDS)


def test_a_small_model_computes_with_one_thread_forward_and_backward(
    model: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    predict = model.adapter.predict

    def counted(*arguments: Any) -> Tensor:
        seen.append(torch.get_num_threads())
        return predict(*arguments)

    monkeypatch.setattr(model.adapter, "predict", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        images_and_gradient(model)
        embedding, _ = moved(model.embed("a red ball"))
        model.latents(embedding, model.noise([1])).sum().backward()
        assert set(seen) == {1} and torch.get_num_threads() == 3
        seen.clear()
        monkeypatch.setattr(generator_module, "SMALL_DENOISER", 0)
        large = DiffusionGenerator(model.adapter.pipeline, "large", steps=1)
        monkeypatch.setattr(large.adapter, "predict", counted)
        large.render(large.embed("a red ball"), [0])
        assert set(seen) == {3}
    finally:
        torch.set_num_threads(before)
