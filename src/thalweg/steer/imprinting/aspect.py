"""Aspect of an image: the part of its content that an imprint copies, and the vocabularies of the named aspects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.errors import UsageError


@dataclass(frozen=True)
class Aspect:
    """A part of an image's content, as features.

    Attributes:
        name: the aspect's name in reports.
        kept: images (S, 3, H, W) to features (S, d) of the aspect, which other seeds take from the target.
        rest: images to features (S, e) of everything else, in which each seed stays as it was; None: nothing has to
            stay.
        read: images to the name of the aspect's value in each of them; None: the values have no names.
        parts: widths of consecutive parts of `kept` that weigh the same, however far seeds differ in them; empty: one
            part.
    """

    name: str
    kept: Callable[[Any], Any]
    rest: Callable[[Any], Any] | None = None
    read: Callable[[Any], Sequence[str]] | None = None
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class AspectVocabulary:
    """Words that differ in one aspect only, and the sentence that contains them."""

    sentence: str
    words: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """One sentence per word."""
        return [self.sentence.format(word) for word in self.words]


VOCABULARIES = {
    "colour": AspectVocabulary(
        "a {} object", ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
    ),
    "background": AspectVocabulary(
        "an object on a {} background",
        ("white", "grey", "black", "beige", "navy", "teal", "maroon", "lavender", "gradient"),
    ),
    "shape": AspectVocabulary("a {}", ("ball", "cube", "cone", "ring", "cylinder")),
    "material": AspectVocabulary("a {} object", ("matte", "glossy", "striped")),
    "size": AspectVocabulary("a {} object", ("small", "medium", "large")),
    "position": AspectVocabulary(
        "an object {}", ("on the left", "on the right", "at the top", "at the bottom", "in the centre")
    ),
    "light": AspectVocabulary("an object lit from {}", ("the left", "the right", "above", "the front")),
    "focus": AspectVocabulary("a {} object", ("sharp", "soft focus", "blurred")),
}
"""Vocabularies of the named aspects, for `keep="the colour"`."""


def vocabulary(keep: str) -> AspectVocabulary:
    """Return the vocabulary of the aspect that `keep` names: "colour", "keep the colour".

    Raises:
        UsageError: `keep` names no aspect, or more than one.
    """
    words = keep.lower().replace("color", "colour").split()
    named = [name for name in VOCABULARIES if name in words]
    if len(named) == 1:
        return VOCABULARIES[named[0]]
    raise UsageError(
        f"`keep={keep}` names {' and '.join(named) or 'no known aspect'}; expected one of {', '.join(VOCABULARIES)}, "
        "or texts of your own that differ only in the aspect"
    )


def check_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts that differ in an aspect, each once.

    Raises:
        UsageError: fewer than two distinct texts.
    """
    distinct = tuple(dict.fromkeys(texts))
    if len(distinct) < 2:
        raise UsageError(f"expected two or more texts that differ in the aspect to keep, got {list(distinct)}")
    return distinct
