"""Captions of the synthetic images, which name any subset of the attributes, and the tokenizer of their words."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from thalweg.diffusion.miniature.renderer import ATTRIBUTES
from thalweg.diffusion.pipelines.text_inputs import Vocabulary

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": {
        "ball": ("ball", "ball", "sphere"),
        "cube": ("cube", "cube", "box"),
        "cone": ("cone",),
        "ring": ("ring", "ring", "torus"),
        "cylinder": ("cylinder", "cylinder", "drum"),
    },
    "colour": {colour: (colour,) for colour in ATTRIBUTES["colour"]},
    "material": {
        "matte": ("matte", "dull"),
        "glossy": ("glossy", "shiny"),
        "striped": ("striped",),
    },
    "size": {"small": ("small", "tiny"), "medium": ("medium", "medium sized"), "large": ("large", "big")},
    "position": {
        "left": ("on the left", "at the left side"),
        "right": ("on the right", "at the right side"),
        "top": ("at the top", "high up"),
        "bottom": ("at the bottom", "low down"),
        "centre": ("in the centre", "in the middle"),
    },
    "background": {name: (name,) for name in ATTRIBUTES["background"]},
    "light": {
        "left": ("lit from the left", "light from the left"),
        "right": ("lit from the right", "light from the right"),
        "above": ("lit from above", "light from above"),
        "front": ("lit from the front", "light from the front"),
    },
    "focus": {
        "sharp": ("sharp", "in focus"),
        "soft": ("soft focus", "slightly soft"),
        "blurred": ("blurred", "out of focus"),
    },
}
OPENINGS = ("", "", "a", "a picture of a", "a photo of a", "an image of a")
NOUNS = ("object", "thing", "shape")
BACKDROPS = ("on a {} background", "on {}", "in front of a {} background", "{} background")
FUNCTION_WORDS = frozenset(
    {"the", "an", "and", "or", "is", "are", "be", "of", "to", "by", "for", "with", "it", "its", "this", "that", "as"}
)
"""Words that link other words; captions do without most of them, and a prompt may hold them."""
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
TOKENS = 32
"""Number of rows of a prompt embedding: start token, words, end token and padding."""


def caption(attributes: Mapping[str, str], random: torch.Generator) -> str:
    """Return a caption that names exactly `attributes` (attribute to value), its phrases drawn at random."""

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(torch.randint(len(choices), (1,), generator=random))]

    def word(attribute: str) -> str:
        return pick(WORDS[attribute][attributes[attribute]])

    adjectives = [word(name) for name in ("size", "material") if name in attributes]
    if "colour" in attributes:
        adjectives.append(word("colour"))
    elif pick(("plain", "single")) == "single":
        adjectives.insert(0, "single colour")
    noun = word("shape") if "shape" in attributes else pick(NOUNS)
    phrases = [word(name) for name in ("position", "light", "focus") if name in attributes]
    if "background" in attributes:
        phrases.append(pick(BACKDROPS).format(word("background")))
    order = torch.randperm(len(phrases), generator=random).tolist()
    joint = pick((" ", " ", ", "))
    described = " ".join([pick(OPENINGS), *adjectives, noun]).strip()
    return joint.join([described, *(phrases[index] for index in order)])


def draw_named(attributes: Mapping[str, str], random: torch.Generator) -> dict[str, str]:
    """Draw the subset of `attributes` that a caption names; all sizes of it are equally probable."""
    count = int(torch.randint(len(attributes) + 1, (1,), generator=random))
    kept = torch.randperm(len(attributes), generator=random)[:count].tolist()
    names = list(attributes)
    return {names[index]: attributes[names[index]] for index in sorted(kept)}


def write_tokenizer(folder: Path) -> None:
    """Write a CLIP tokenizer's vocabulary and merges; words of captions are one token, other words several."""
    vocabulary, merges = _tokens()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")


def is_own_tokenizer(tokenizer: Any) -> bool:
    """Return whether a tokenizer has the vocabulary of the captions, apart from tokens added to it."""
    added = set(tokenizer.added_tokens_encoder)
    return len(tokenizer) <= len(_tokens()[0]) + len(added) and set(tokenizer.get_vocab()) - added == set(
        _tokens()[0]
    ) - {START_TOKEN, END_TOKEN}


def is_known(word: str) -> bool:
    """Return whether a word, in lower case, is a word of captions or a function word."""
    return word.lower() in caption_words() or word.lower() in FUNCTION_WORDS


VOCABULARY = Vocabulary("the miniature", is_known)
"""Words of the miniature's text encoder, for warnings about unknown words."""


@cache
def caption_words() -> frozenset[str]:
    """Return the words of all captions."""
    words: set[str] = {"single", "colour", ",", *NOUNS}
    for choices in WORDS.values():
        for alternatives in choices.values():
            words.update(" ".join(alternatives).split())
    for text in (*OPENINGS, *BACKDROPS):
        words.update(text.replace("{}", "").split())
    return frozenset(words)


@cache
def _tokens() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the tokenizer's vocabulary, in the order of its ids, and its merges."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    merges = _learn_merges(caption_words())
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    return tuple(dict.fromkeys([*entries, START_TOKEN, END_TOKEN])), tuple(merges)


def _learn_merges(words: Collection[str]) -> list[tuple[str, str]]:
    """Return byte pair merges until every word is one token; ties in alphabetical order, for reproducibility."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in sorted(words)]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in split:
            for index in range(len(parts) - 1, 0, -1):
                if (parts[index - 1], parts[index]) == best:
                    parts[index - 1 : index + 1] = ["".join(best)]
    return merges
