"""Weights and long prompts on the command line: provenance, resumed runs, and one line for what is refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.embedding import Embedding

FEW = ("--steps", 2)
LONG = "a glossy red ball on the left on a white background and " * 4


def test_weights_are_read_on_request(cli: Callable) -> None:
    assert cli("generate", "a (red:1.5) ball", "out", "--prompt-syntax", "a1111", *FEW).code == 0
    embedding = Embedding.load("out/embedding.safetensors")
    assert embedding.lineage.prompt == "a (red:1.5) ball"
    assert embedding.lineage.parameters == {"prompt_syntax": "a1111"}
    assert json.loads(Path("out/run.json").read_text())["loading"]["prompt_syntax"] == "a1111"
    ran = cli("generate", "a (red:1.5) ball", "out", *FEW)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "prompt_syntax" in ran.err
    plain = cli("generate", "a (red:1.5) ball", "plain", *FEW)
    assert plain.code == 0 and "or set --prompt-syntax to a1111 or compel for weights" in plain.err


def test_bad_weights_leave_nothing(cli: Callable) -> None:
    for prompt, syntax, words in (
        ("a (red ball", "a1111", "expected brackets in pairs"),
        ("a red BREAK ball", "a1111", "set --long-prompts chunks for prompts of several"),
        ("a (red)99 ball", "compel", "weights from 0 to 10"),
        ("a red ball", "comfy", "expected --prompt-syntax to be one of 'a1111', 'compel', got 'comfy'"),
    ):
        ran = cli("generate", prompt, "out", "--prompt-syntax", syntax, *FEW)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert words in ran.err
        assert not Path("out").exists()


def test_a_path_between_a_short_and_a_long_prompt(cli: Callable) -> None:
    chunks = ("--long-prompts", "chunks", *FEW)
    ran = cli("steer", "path", "a red ball", LONG, "strip", "--count", 2, "--around-empty", *chunks)
    assert ran.code == 0, ran.err
    cut = cli("steer", "path", "a red ball", LONG, "cut", "--count", 2, *FEW)
    assert cut.code == 0 and "not seen are" in cut.err


def test_a_navigation_of_a_long_prompt(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("generate", LONG, "long", "--long-prompts", "chunks", *FEW).code == 0
    rows = Embedding.load("long/embedding.safetensors").tensors["prompt"]
    assert len(rows) > 32
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nq\n"))
    ran = cli("steer", "navigate", "long/embedding.safetensors", "walk", "--candidates", 2, *FEW)
    assert ran.code == 0, ran.err
    walked = Embedding.load("walk/embedding.safetensors").tensors["prompt"]
    assert walked.shape == rows.shape and not walked.equal(rows)
