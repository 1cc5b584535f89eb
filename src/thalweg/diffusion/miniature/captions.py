"""Captions of the miniature's world: any subset of the attributes, varied wording; and the tokenizer of these words."""

import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch

from thalweg.diffusion.miniature.world import ATTRIBUTES

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
TOKENS = 32
"""Rows of a prompt embedding: start token, words, end and padding."""


def caption(attributes: Mapping[str, str], random: torch.Generator) -> str:
    """Return a caption that names exactly `attributes` (attribute to value), in a wording drawn at random."""

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
    """Return the subset of `attributes` that a caption names; its size is drawn first: short ones are common."""
    count = int(torch.randint(len(attributes) + 1, (1,), generator=random))
    kept = torch.randperm(len(attributes), generator=random)[:count].tolist()
    names = list(attributes)
    return {names[index]: attributes[names[index]] for index in sorted(kept)}


def write_tokenizer(folder: Path) -> None:
    """Write a CLIP tokenizer's vocabulary and merges: every word of the captions is whole, others fall into pieces."""
    words: set[str] = {"single", "colour", ",", *NOUNS}
    for choices in WORDS.values():
        for alternatives in choices.values():
            words.update(" ".join(alternatives).split())
    for text in (*OPENINGS, *BACKDROPS):
        words.update(text.replace("{}", "").split())
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    merges = _learn_merges(words)
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = dict.fromkeys([*entries, "<|startoftext|>", "<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")


def _learn_merges(words: set[str]) -> list[tuple[str, str]]:
    """Byte pair encoding until every word is whole; ties go to the alphabet, so that it is reproducible."""
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
