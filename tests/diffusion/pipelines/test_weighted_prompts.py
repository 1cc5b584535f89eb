"""Weights and long prompts on pipelines: against the library's encoders, refusals, provenance and gradients."""

import warnings
from pathlib import Path

import pytest
import torch

from own_calls import SEEDS, leaves
from pipeline_parts import LENGTH
from pipelines import build, generator
from thalweg.diffusion import DiffusionGenerator, SamplingConfig
from thalweg.diffusion.prompting.prompt_syntax import SyntaxName
from thalweg.embedding import Embedding
from thalweg.errors import PromptCut, PromptSyntax, UsageError

WEIGHED = ("sd", "sdxl")
LONG = "a red e a red e red e b c d e red"


@pytest.fixture(params=WEIGHED)
def model(request: pytest.FixtureRequest) -> DiffusionGenerator:
    """A tiny pipeline whose rows have a mean, as those of trained encoders have."""
    pipeline = build(request.param)
    encoder = pipeline.text_encoder
    torch.nn.init.constant_(getattr(encoder, "text_model", encoder).final_layer_norm.bias, 0.5)
    return DiffusionGenerator(pipeline, f"tiny-{request.param}", steps=3, height=16, width=16)


@pytest.mark.parametrize(
    "settings", [{"prompt_syntax": "a1111"}, {"prompt_syntax": "compel"}, {"long_prompts": "chunks"}]
)
@pytest.mark.parametrize("clip_skip", [None, 1])
def test_without_weights_the_embedding_is_the_plain_one(
    model: DiffusionGenerator, settings: dict[str, str], clip_skip: int | None
) -> None:
    plain = model.with_settings(clip_skip=clip_skip)
    for negative in ("", "cone"):
        found = plain.with_settings(**settings).embed("a red e", negative)
        for name, tensor in plain.embed("a red e", negative).tensors.items():
            torch.testing.assert_close(found.tensors[name], tensor, rtol=0, atol=1e-6)
        assert found.lineage.parameters.items() >= settings.items()


def test_a1111_on_every_encoder(model: DiffusionGenerator) -> None:
    plain = model.embed("a red e")
    weighted = model.with_settings(prompt_syntax="a1111").embed("a (red:1.5) e")
    for columns in (slice(0, 16), slice(16, 32)):
        rows = plain.tensors["prompt"][:, columns].clone()
        if not rows.numel():
            continue
        before = rows.mean()
        rows[2] *= 1.5
        torch.testing.assert_close(
            weighted.tensors["prompt"][:, columns], rows * before / rows.mean(), rtol=1e-4, atol=1e-5
        )
    for name in set(plain.tensors) - {"prompt"}:
        torch.testing.assert_close(weighted.tensors[name], plain.tensors[name], rtol=0, atol=1e-6)
    assert weighted.lineage.prompt == "a (red:1.5) e"
    assert (model.render(weighted, SEEDS) - model.render(plain, SEEDS)).abs().max() > 1e-4


def test_compel_moves_from_the_empty_prompt(model: DiffusionGenerator) -> None:
    plain, empty = model.embed("a red e").tensors["prompt"], model.embed("").tensors["prompt"]
    found = model.with_settings(prompt_syntax="compel").embed("a red++ e").tensors["prompt"]
    expected = plain.clone()
    expected[2] = empty[2] + 1.21 * (plain[2] - empty[2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_compel_hides_a_fragment_of_weight_zero(model: DiffusionGenerator) -> None:
    compel = model.with_settings(prompt_syntax="compel")
    rows = [compel.embed(f"a ({word})0 e").tensors["prompt"][3:] for word in ("red", "b")]
    torch.testing.assert_close(*rows, rtol=1e-3, atol=1e-3)
    plain = [model.embed(f"a {word} e").tensors["prompt"][3:] for word in ("red", "b")]
    assert (plain[0] - plain[1]).abs().max() > 0.05


def test_weights_in_the_negative_prompt(model: DiffusionGenerator) -> None:
    weighted = model.with_settings(prompt_syntax="a1111", negative="(red:1.5)")
    found = weighted.embed("a").tensors["negative"]
    assert torch.equal(found, weighted.embed("(red:1.5)", "").tensors["prompt"])


def test_long_prompts_in_chunks(model: DiffusionGenerator) -> None:
    chunks = model.with_settings(long_prompts="chunks")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = chunks.embed(LONG, "cone")
    tokens = "a red e a red e", "red e b c d e", "red"
    rows = torch.cat([model.embed(part).tensors["prompt"] for part in tokens])
    torch.testing.assert_close(found.tensors["prompt"], rows, rtol=0, atol=1e-6)
    padded = torch.cat([model.embed(part, part).tensors["negative"] for part in ("cone", "")][:1])
    torch.testing.assert_close(found.tensors["negative"][:LENGTH], padded, rtol=0, atol=1e-6)
    assert found.tensors["negative"].shape == found.tensors["prompt"].shape == (3 * LENGTH, rows.shape[1])
    if "pooled" in found.tensors:
        torch.testing.assert_close(found.tensors["pooled"], model.embed(tokens[0]).tensors["pooled"], rtol=0, atol=1e-6)
    images = chunks.render(found, SEEDS)
    torch.testing.assert_close(images[1:], chunks.render(found, SEEDS[1:]), rtol=0, atol=1e-5)
    with pytest.warns(PromptCut):
        cut = model.embed(LONG)
    assert cut.tensors["prompt"].shape == (LENGTH, rows.shape[1])
    assert torch.equal(model.render(found, SEEDS), images), "rows of chunks render without the setting"


def test_padding_chunks_are_empty_prompts(model: DiffusionGenerator) -> None:
    chunks = model.with_settings(long_prompts="chunks")
    found = chunks.embed("cone", LONG).tensors["prompt"]
    empty = chunks.with_settings(prompt_syntax="a1111").embed("").tensors["prompt"]
    for first in (LENGTH, 2 * LENGTH):
        torch.testing.assert_close(found[first : first + LENGTH], empty, rtol=0, atol=1e-6)


def test_break_begins_a_chunk(model: DiffusionGenerator) -> None:
    chunks = model.with_settings(long_prompts="chunks", prompt_syntax="a1111")
    rows = chunks.embed("a red BREAK e").tensors["prompt"]
    parts = torch.cat([model.embed(part).tensors["prompt"] for part in ("a red", "e")])
    torch.testing.assert_close(rows, parts, rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match="expected a prompt of one chunk, got BREAK in it: set `long_prompts=chunks`"):
        model.with_settings(prompt_syntax="a1111").embed("a red BREAK e")


def test_too_many_chunks(model: DiffusionGenerator) -> None:
    chunks = model.with_settings(long_prompts="chunks", prompt_syntax="a1111")
    for prompt in ("a " * 4000, "BREAK " * 1600):
        with pytest.raises(UsageError, match=r"expected prompts of at most 64 chunks, got one of \d+: shorten it"):
            chunks.embed(prompt)


def test_start_tokens_of_all_chunks_are_frozen(model: DiffusionGenerator) -> None:
    embedding = model.with_settings(long_prompts="chunks").embed(LONG)
    frozen = ~model.trainable_masks(embedding)["prompt"][:, 0]
    assert frozen.nonzero().flatten().tolist() == [0, LENGTH, 2 * LENGTH]


def test_an_embedding_of_as_many_chunks(model: DiffusionGenerator) -> None:
    chunks = model.with_settings(long_prompts="chunks")
    long, short = chunks.embed(LONG), chunks.embed("cone")
    like = chunks.embed_like("cone", long)
    assert {name: tensor.shape for name, tensor in like.tensors.items()} == {
        name: tensor.shape for name, tensor in long.tensors.items()
    }
    torch.testing.assert_close(like.tensors["prompt"][:LENGTH], short.tensors["prompt"])
    with pytest.warns(PromptCut, match=r"beyond 14 tokens 'red'"):
        model.embed_like(LONG, chunks.embed("a a a a a a a"))
    assert torch.equal(model.embed_like("cone", short).tensors["prompt"], model.embed("cone").tensors["prompt"])


def test_gradients_of_weighted_chunks(model: DiffusionGenerator) -> None:
    name = "sdxl" if "pooled" in model.adapter.conditions else "sd"
    settings = {"long_prompts": "chunks", "prompt_syntax": "a1111"}
    double = DiffusionGenerator(build(name).to(torch.float64), "double", steps=2, height=16, width=16, **settings)
    start = double.embed("(red:1.4) e a b c d e a b")
    value = leaves(start).tensors["prompt"]
    moved = Embedding({**start.tensors, "prompt": value}, start.lineage)
    (slope,) = torch.autograd.grad(double.render(moved, (5,)).square().mean(), value)
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sides = [
        double.render(start.derive({"prompt": value.detach() + sign * 1e-5 * direction}, "move"), (5,)).square().mean()
        for sign in (1, -1)
    ]
    torch.testing.assert_close((slope * direction).sum(), (sides[0] - sides[1]) / 2e-5, rtol=1e-5, atol=0)


@pytest.mark.parametrize("builder", ["sd3", "flux", "sana", "zimage"])
@pytest.mark.parametrize("settings", [{"prompt_syntax": "a1111"}, {"long_prompts": "chunks"}])
def test_other_families_refuse(builder: str, settings: dict[str, str]) -> None:
    (name,) = settings
    with pytest.raises(
        UsageError, match=f"expected no `{name}` for tiny-{builder}: a .*Pipeline has none; got"
    ) as raised:
        generator(builder).with_settings(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("syntax", ["a1111", "compel"])
def test_only_what_the_syntax_reads_goes_without_notice(tiny: DiffusionGenerator, syntax: SyntaxName) -> None:
    own = {"a1111": r"(red:1.2) \(e\)", "compel": r"(red)1.2 \(e\)"}[syntax]
    other = {"a1111": "a red++", "compel": "a [red]"}[syntax]
    weighted = tiny.with_settings(prompt_syntax=syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighted.embed(own)
    with pytest.warns(PromptSyntax, match="read as plain text") as seen:
        weighted.embed(other)
    assert Path(seen[0].filename).name == "test_weighted_prompts.py"
    if syntax == "compel":
        with pytest.warns(PromptSyntax, match=r"'\(red:1.2\)'"):
            weighted.embed(r"a \(e\) (red:1.2)")
    with pytest.warns(PromptSyntax, match="or set `prompt_syntax` to a1111 or compel for weights"):
        tiny.embed("((red))")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_syntax": "A1111"}, "expected `prompt_syntax` to be one of 'a1111', 'compel', got 'A1111'"),
        ({"long_prompts": "yes"}, "expected `long_prompts` to be one of 'chunks', got 'yes'"),
        ({"prompt_syntax": "a1111", "negative": "(red"}, "expected brackets in pairs"),
        ({"prompt_syntax": "a1111", "negative": "red BREAK e"}, "expected a prompt of one chunk"),
    ],
)
def test_bad_settings(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SamplingConfig().changed(**settings)


def test_a_vector_in_a_prompt_takes_neither(tiny: DiffusionGenerator) -> None:
    for settings in ({"prompt_syntax": "a1111"}, {"long_prompts": "chunks"}):
        with pytest.raises(UsageError, match=r"expected no `\w+` for a prompt with a vector in it"):
            tiny.with_settings(**settings).embed_with("a X", "X", tiny.token_vector("red"))
