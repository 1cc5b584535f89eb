"""User input where a prompt is expected: prompts, embedding files, other files, other programs' syntax."""

import time
import warnings
from pathlib import Path

import pytest
import torch

from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import MissingPathError, PromptSyntax, UsageError
from thalweg.prompts import check_prompt, check_prompt_or_file, is_embedding_name, read_prompt, warn_of_syntax, words_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "run/embedding.safetensors").write_bytes(b"")
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/run.json").write_text("{}")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/food").mkdir()
    (tmp_path / "notes").write_text("words")
    (tmp_path / "vectors.bin").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "a red ball",
        "a red ball.",
        "cat",
        "v1.5 of a cube",
        "a photo of readme.txt",
        "black/white",
        "a ball (lit from above): red, matte; on the left!",
        "5.5 x 3",
        "ball\n on the left\t",
        "红球",
        "x" * 3000,
    ],
)
def test_a_prompt_is_a_prompt(text: str) -> None:
    assert read_prompt(text) == text.strip()


@pytest.mark.parametrize("name", ["ball.safetensors", "BALL.SAFETENSORS", " run/embedding.Safetensors\n"])
def test_an_embedding_file_is_one_in_any_case(name: str) -> None:
    assert read_prompt(name) == Path(name.strip())


def test_an_embedding_file_in_capitals_is_read(here: Path) -> None:
    made = Embedding({"prompt": torch.ones(2, 3)}, Lineage(ModelIdentity("m", "0" * 64), "a ball"))
    made.save("ball.safetensors").rename("BALL.SAFETENSORS")
    assert Embedding.load("BALL.SAFETENSORS").hash == made.hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vectors.bin", ("vectors.bin", "pickles")),
        ("none/VECTORS.PTH", ("VECTORS.PTH", "pickles")),
        ("my vectors.ckpt", ("my vectors.ckpt",)),
        ("vectors.npy", ("vectors.npy",)),
        ("run", ("a run folder", "run/embedding.safetensors")),
        ("run/", ("a run folder", "run/embedding.safetensors")),
        ("walk", ("a run folder", "export")),
        ("cat/food", ("cat/food", "a folder")),
        (".", ("a folder",)),
        ("notes", ("notes", "another file")),
        ("run/run.json", ("run.json", "another file")),
        ("run/embedding", ("run/embedding.safetensors?",)),
        ("ball.png", ("ball.png", "no such file")),
        ("/nowhere/ball", ("/nowhere/ball", "no such file")),
        ("https://example.org/ball", ("no such file",)),
        ("", ("got nothing",)),
        (" \n", ("got nothing",)),
    ],
)
def test_other_files_raise_one_line_error(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="expected a prompt") as raised:
        read_prompt(text)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a caf\udce9", "whole characters"),
        ("a ball\x00", "whole characters"),
        ("a \x1b[31mred\x1b[0m ball", r"printable characters, got '\\x1b'"),
        ("red " * 4000, "at most 10,000 characters"),
        (None, "to be a text, got None"),
        (b"a ball", "to be a text"),
        ("a ball <lora:style:0.8>", r"got '<lora:style:0\.8>' in it: adapters are not loaded"),
        ("a ball <LyCO:style>", "adapters are not loaded"),
        ("<hypernet:style:1>", "adapters are not loaded"),
    ],
)
def test_invalid_prompts_raise_one_line_error(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        check_prompt(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a (red:1.6) ball", "(red:1.6)"),
        ("a ((red)) ball", "((red))"),
        ("(masterpiece), a ball", "(masterpiece)"),
        ("a [red] ball", "[red]"),
        ("a [red:blue:0.5] ball", "[red:blue:0.5]"),
        ("a {red|blue} ball", "{red|blue}"),
        ("a red++ ball", "red++"),
        ("a (red ball)-- here", "(red ball)--"),
        ('("a ball", "a cube").blend(1, 1)', ".blend("),
        ("a ball BREAK a cube", "BREAK"),
        ("a ball AND a cube", "AND"),
        ("a ball, embedding:EasyNegative", "embedding:EasyNegative"),
        ("a __colour__ ball", "__colour__"),
        (r"a \(red\) ball", r"\\("),
    ],
)
def test_syntax_of_other_programs_is_reported(text: str, part: str) -> None:
    with pytest.warns(PromptSyntax, match="read as plain text") as seen:
        warn_of_syntax(text, stacklevel=1)
    assert len(seen) == 1
    assert part in str(seen[0].message)


@pytest.mark.parametrize(
    "text", ["a red ball, on the left", "a ball :) and a cube", "rock and roll", "", "a <ball> token"]
)
def test_plain_words_are_not_taken_for_syntax(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_syntax(text, stacklevel=1)


@pytest.mark.parametrize(
    "part", ["a", "(", "[", "{", "(a", "[a", "{a", "_", "__a", "a+", "(a:1", "a ", "<lora:", "1:", "\\(", "a-"]
)
def test_syntax_is_searched_in_linear_time(part: str) -> None:
    text = (part * 10_000)[:10_000]
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warn_of_syntax(check_prompt(text), stacklevel=1)
    words_of(text)
    assert time.process_time() - start < 1


def test_the_words_of_a_prompt() -> None:
    assert words_of("a (Red:1.6) ball's colour, red-hot… “ball” 🎈 红球!") == [
        *("a", "Red", "ball", "colour", "red", "hot", "🎈", "红球"),
    ]


def test_a_prompt_or_an_existing_file_needs_no_model(here: Path) -> None:
    check_prompt_or_file("a ball")
    check_prompt_or_file("run/embedding.safetensors")
    with pytest.raises(MissingPathError, match="expected an embedding file, found none at absent"):
        check_prompt_or_file("absent.safetensors")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("mine.safetensors", True), (" folder/MINE.SafeTensors ", True), ("a ball", False), ("safetensors", False)],
)
def test_names_of_embedding_files(text: str, expected: bool) -> None:
    assert is_embedding_name(text) == expected
