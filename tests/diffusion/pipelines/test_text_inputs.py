"""Warnings of parts of a text that a model does not see: unknown words, cut words, other programs' syntax."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_parts import LENGTH
from pipelines import build, generator
from thalweg.diffusion import DiffusionGenerator, miniature
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.miniature.renderer import draw_attributes
from thalweg.diffusion.pipelines.text_inputs import TextInput
from thalweg.errors import NotFiniteError, PromptCut, PromptSyntax, UnknownWords, UsageError

Say = Callable[[str], object]


@pytest.fixture(scope="module")
def small() -> DiffusionGenerator:
    return miniature.load(steps=2)


def said(say: Say, text: str) -> dict[type[Warning], str]:
    """The warnings of a text by class, at most one of each."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        say(text)
    found = {one.category: str(one.message) for one in seen}
    assert len(found) == len(seen)
    return found


def test_the_miniature_names_what_it_was_never_trained_on(small: DiffusionGenerator) -> None:
    for say in (small.embed, miniature.load_scorer().embed_text):
        message = said(say, "a red dragon in the Snow, without a ball's 3 gray 红球 🎈")[UnknownWords]
        assert message.startswith("the miniature does not know: dragon, Snow, without, 3, gray, 红球, 🎈;")
    assert said(lambda text: small.embed("a ball", negative=text), "a cat") == {
        UnknownWords: "the miniature does not know: cat; use other words or another model"
    }
    placed = said(lambda text: small.embed_with(text, "<mine>", small.token_vector("red")), "a <mine> fox")
    assert "know: fox;" in placed[UnknownWords]


def test_words_of_captions_are_known(small: DiffusionGenerator) -> None:
    random = torch.Generator().manual_seed(0)
    tokenizer = small.adapter.pipeline.tokenizer
    seen = TextInput(tokenizer, captions.TOKENS)
    for attributes in draw_attributes(200, random):
        assert seen.unknown(captions.caption(attributes, random).capitalize() + ".") == []
    assert seen.unknown("The ball and the cube, with light from above") == []
    # Words of captions are whole tokens, which is what the tokenizer was made for.
    for word in captions.caption_words():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1
        assert captions.is_known(word)


def test_only_the_captions_tokenizer_is_the_miniatures(small: DiffusionGenerator) -> None:
    assert captions.is_own_tokenizer(small.adapter.pipeline.tokenizer)
    assert not captions.is_own_tokenizer(generator("sd").adapter.pipeline.tokenizer)
    assert not captions.is_own_tokenizer(generator("flux").adapter.pipeline.tokenizer_2)


@pytest.mark.parametrize("builder", ["sd", "sdxl", "sd3", "flux"])
def test_words_without_tokens_are_named(builder: str) -> None:
    model = generator(builder)
    assert said(model.embed, "a red e") == {}
    message = said(model.embed, "红 e 蓝")[UnknownWords]
    assert message.startswith("a text encoder of the model does not know: 红, 蓝;")


@pytest.mark.parametrize("builder", ["sd", "sdxl"])
def test_a_cut_is_counted_after_learned_words_are_expanded(builder: str, tmp_path: Path) -> None:
    pipeline = build(builder)
    vectors = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    pipeline.load_textual_inversion(
        {"turn": vectors}, token="turn", text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer
    )
    if builder == "sdxl":
        pipeline.load_textual_inversion(
            {"turn": vectors}, token="turn", text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2
        )
    model = DiffusionGenerator(pipeline, "tiny", steps=2, height=16, width=16)
    fits, cut = "turn a e", "turn red a e e"
    assert len(pipeline.tokenizer(cut).input_ids) < LENGTH
    assert said(model.embed, fits) == {}
    message = said(model.embed, cut)[PromptCut]
    assert message.endswith(f"not seen are: beyond {LENGTH} tokens 'e e'")
    # What is said not to be seen is not seen, and what is said to be seen is.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.embed(cut).hash == model.embed(cut + " a a").hash != model.embed("turn red e").hash


def test_a_learned_word_is_expanded_next_to_a_placeholder() -> None:
    pipeline = build("sd")
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    pipeline.load_textual_inversion({"turn": vectors}, token="turn")
    model = DiffusionGenerator(pipeline, "tiny", steps=2, height=16, width=16)
    own = model.embed_with("turn <mine> e", "<mine>", model.token_vector("red"))
    torch.testing.assert_close(own.tensors["prompt"], model.embed("turn red e").tensors["prompt"])
    cut = said(lambda text: model.embed_with(text, "<mine>", model.token_vector("red")), "<mine> turn a a a e")
    assert "tokens" in cut[PromptCut]


def test_a_scorers_text_is_checked_like_a_prompt() -> None:
    scorer = miniature.load_scorer()
    message = said(scorer.embed_text, "a red ball " * 12 + "teal")[PromptCut]
    assert "beyond 32 tokens" in message and "teal" in message
    with pytest.raises(UsageError, match="whole characters"):
        scorer.embed_text("a caf\udce9")


def test_a_long_cut_is_shortened(tiny: DiffusionGenerator) -> None:
    message = said(tiny.embed, "red " * 2000)[PromptCut]
    assert len(message) < 300 and message.endswith("...'")


def test_weights_are_named_and_adapters_refused(tiny: DiffusionGenerator) -> None:
    found = said(tiny.embed, "a (red:1.6) e")
    assert found[PromptSyntax].startswith("the prompt is read as plain text, weights and other syntax do nothing")
    for arguments in ({"prompt": "a <lora:e:0.8>"}, {"prompt": "a", "negative": "<lora:e:0.8>"}):
        with pytest.raises(UsageError, match="adapters are not loaded from a prompt"):
            tiny.embed(**arguments)


def test_an_encoder_that_is_not_finite_raises_one_line_error(
    tiny: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(prompt: str, negative: str, clip_skip: int) -> dict[str, Any]:
        return {"prompt": torch.full((1, LENGTH, 16), torch.inf), "negative": torch.zeros(1, LENGTH, 16)}

    monkeypatch.setattr(tiny.adapter, "encode", overflowing)
    with pytest.raises(NotFiniteError, match="finite values in the embedding, tensor prompt"):
        tiny.embed("a red e")
