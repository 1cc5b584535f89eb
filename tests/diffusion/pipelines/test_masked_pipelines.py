"""Pipelines with one text encoder and guidance: their own gradients, sizes, schedulers, and what they refuse."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from own_calls import MASKED, SEEDS, DoublePrecision, leaves, own_arguments, reference
from pipelines import build, generator, size
from thalweg.diffusion import DiffusionGenerator
from thalweg.diffusion.pipelines.latent_rows import to_latents, to_rows
from thalweg.embedding import Embedding
from thalweg.errors import PromptCut, UsageError

FAMILIES = (*MASKED, "klein")


def prompt_arguments(builder: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A pipeline's arguments for an embedding's tensors, for two images."""
    found: dict[str, Any] = {}
    for side, name, mask_name in (("", "prompt", "mask"), ("negative_", "negative", "negative_mask")):
        rows, mask = tensors[name], tensors.get(mask_name)
        if builder in ("qwen", "zimage") and mask is not None:
            rows, mask = rows[mask.bool()], mask[mask.bool()]
        found[f"{side}prompt_embeds"] = [rows, rows] if builder == "zimage" else rows[None].expand(2, -1, -1)
        if mask is not None and builder != "zimage":
            masks = mask[None].expand(2, -1)
            key = "prompt_embeds_mask" if builder == "qwen" else "prompt_attention_mask"
            found[f"{side}{key}"] = masks.double() if builder == "chroma" else masks
    return found


@pytest.mark.parametrize("builder", FAMILIES)
def test_the_pipelines_own_gradient(builder: str) -> None:
    model = DiffusionGenerator(build(builder).to(torch.float64), f"tiny-{builder}", steps=3, **size(builder))
    embedding = leaves(model.embed("a red ball", negative="cone"))
    model.render(embedding, SEEDS).square().mean().backward()
    own = leaves(Embedding({name: value.detach() for name, value in embedding.tensors.items()}, embedding.lineage))
    pipeline, noise = model.adapter.pipeline, model.noise(SEEDS)
    step = pipeline.scheduler.step

    def precise_step(*given: Any, **more: Any) -> Any:
        with DoublePrecision():
            return step(*given, **more)

    if builder != "zimage":  # which expects steps in float32
        pipeline.scheduler.step = precise_step
    arguments = own_arguments(model) | prompt_arguments(builder, own.tensors)
    if builder != "klein":  # which takes no negative prompt
        arguments["negative_prompt"] = None
    recorded: Any = type(pipeline).__call__
    images = recorded.__wrapped__(
        pipeline,
        latents=to_rows(noise) if builder in ("chroma", "qwen") else noise,
        num_inference_steps=3,
        output_type="pt",
        **size(builder),
        **arguments,
    ).images
    images.square().mean().backward()
    for name, value in own.floating.items():
        found = embedding.tensors[name].grad
        assert found is not None and value.grad is not None and value.grad.norm() > 0
        assert (found - value.grad).norm() <= 1e-6 * value.grad.norm()


@pytest.mark.parametrize("builder", FAMILIES)
def test_an_image_that_is_not_square(builder: str) -> None:
    side = size(builder)["height"]
    model = generator(builder).with_settings(height=2 * side, width=side)
    images = model.render(model.embed("a red ball"), SEEDS)
    assert images.shape == (2, 3, 2 * side, side)
    torch.testing.assert_close(images, reference(model, "a red ball"), rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match=r"^expected a height in multiples of \d+ px, got 33$"):
        model.with_settings(height=33)


@pytest.mark.parametrize("builder", FAMILIES)
def test_without_guidance(builder: str) -> None:
    scale = 0.0 if builder == "zimage" else 1.0
    plain = generator(builder).with_settings(guidance_scale=scale)
    images = plain.render(plain.embed("a red ball"), SEEDS)
    torch.testing.assert_close(images, reference(plain, "a red ball"), rtol=0, atol=1e-5)
    other = plain.embed("a red ball", negative="cone")
    assert torch.equal(images, plain.render(other, SEEDS))


@pytest.mark.parametrize("builder", FAMILIES)
def test_a_scheduler_of_another_noise_is_refused(builder: str) -> None:
    with pytest.raises(UsageError, match=r"^expected a scheduler for this model, one of [^\n]*flow_euler[^\n]*'ddim'"):
        generator(builder).with_settings(scheduler="ddim")


@pytest.mark.parametrize("scheduler", ["flow_euler", "flow_heun", "unipc"])
def test_sana_with_other_schedulers(scheduler: str) -> None:
    model = DiffusionGenerator(build("sana"), "tiny-sana", steps=3, **size("sana")).with_settings(scheduler=scheduler)
    images = model.render(model.embed("a red ball"), SEEDS)
    model.adapter.pipeline.scheduler = model.schedule.scheduler
    torch.testing.assert_close(images, reference(model, "a red ball"), rtol=0, atol=1e-5)


def test_a_distilled_klein_is_sampled_without_guidance() -> None:
    model = DiffusionGenerator(build("klein-distilled"), "tiny-klein", steps=3, **size("klein"))
    embedding = model.embed("a red ball")
    assert set(embedding.tensors) == {"prompt"}
    torch.testing.assert_close(model.render(embedding, SEEDS), reference(model, "a red ball"), rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="expected no negative prompt for tiny-klein: it is sampled without guidance"):
        model.embed("a red ball", negative="cone")
    with pytest.raises(UsageError, match="no guidance_scale above 1 for tiny-klein, which is sampled without"):
        model.with_settings(guidance_scale=9)


def test_a_negative_prompt_of_klein() -> None:
    model = generator("klein")
    embedding = model.embed("a red ball", negative="cone")
    rows = model.adapter.pipeline.encode_prompt("cone")[0].expand(2, -1, -1)
    expected = reference(model, ["a red ball"] * 2, negative_prompt_embeds=rows, num_images_per_prompt=1)
    torch.testing.assert_close(model.render(embedding, SEEDS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("builder", FAMILIES)
def test_a_prompt_that_is_cut(builder: str) -> None:
    adapter = generator(builder).adapter
    text = "a " * adapter.tokens + "zzz"
    (text_input,) = adapter.text_inputs()
    assert text_input.cut(text).endswith("a zzz")
    assert len(text_input.cut(text)) < len(text)
    assert text_input.cut("a red ball") == ""
    with pytest.warns(PromptCut, match=rf"not seen are: beyond {text_input.limit} tokens 'a a "):
        generator(builder).embed(text)


def test_rows_of_latent_pixels() -> None:
    latents = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    rows = to_rows(latents)
    assert rows.shape == (2, 6, 12)
    assert torch.equal(rows[0, 0], latents[0, :, :2, :2].flatten())
    assert torch.equal(to_latents(rows, latents), latents)
