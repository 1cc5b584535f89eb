"""Prompt templates and their edits: near prompts differ from a prompt in one word or two of a word list."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.errors import UsageError


@dataclass(frozen=True)
class WordGroup:
    """Words of the same kind, of which a prompt holds at most one.

    Attributes:
        name: the kind, such as "colour".
        words: adjectives, or phrases with the characters that separate them from the prompt.
        adjective: whether they come before the noun; otherwise they follow the prompt.
    """

    name: str
    words: tuple[str, ...]
    adjective: bool = True


_BACKDROPS = (
    *("white", "grey", "black", "beige", "navy", "teal", "maroon", "lavender"),
    *("red", "green", "blue", "yellow", "pink", "gradient"),
)
GROUPS: tuple[WordGroup, ...] = (
    WordGroup("size", ("small", "medium", "large")),
    WordGroup("surface", ("matte", "glossy", "striped", "wooden", "metal", "glass", "furry")),
    WordGroup(
        "colour",
        (
            *("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white"),
            *("black", "grey", "golden"),
        ),
    ),
    WordGroup(
        "place", (" on the left", " on the right", " at the top", " at the bottom", " in the centre"), adjective=False
    ),
    WordGroup(
        "light",
        (" lit from the left", " lit from the right", " lit from above", " lit from the front", " at night"),
        adjective=False,
    ),
    WordGroup("focus", (" in focus", " soft focus", " out of focus"), adjective=False),
    WordGroup("backdrop", tuple(f" on a {colour} background" for colour in _BACKDROPS), adjective=False),
    WordGroup(
        "style", (", watercolour", ", oil painting", ", pencil drawing", ", photograph", ", pastel"), adjective=False
    ),
)
"""Default word list: plain English for the content of images, in the order of adjectives and phrases."""

STYLE_WORDS = ("colourful", "minimalist", "detailed", "bright", "dark", "soft", "vivid", "abstract", "realistic")
"""Words that the published recipe adds to every prompt."""

_OPENING = re.compile(
    r"^(?P<before>(?:.*\b(?:photo|photograph|picture|image|painting|drawing|portrait) of )?)(?:(?P<article>an?|the) )?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PromptTemplate:
    """Prompt split into a head and the word of each group that it holds.

    Attributes:
        head: the prompt without those words.
        words: group name to word.
        groups: the word list.
    """

    head: str
    words: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[WordGroup, ...] = GROUPS

    @classmethod
    def of(cls, prompt: str, groups: Sequence[WordGroup] = GROUPS) -> "PromptTemplate":
        """Split a prompt; phrases first, since they contain adjectives, too."""
        head, words = prompt, {}
        for group in sorted(groups, key=lambda group: group.adjective):
            for word in sorted(group.words, key=len, reverse=True):
                found = re.search(rf"\b{re.escape(word)} " if group.adjective else rf"{re.escape(word)}\b", head)
                if found is not None:
                    head = head[: found.start()] + head[found.end() :]
                    words[group.name] = word
                    break
        return cls(head, words, tuple(groups))

    def with_words(self, words: Mapping[str, str]) -> "PromptTemplate":
        """Return the same head with exactly these words by group."""
        return PromptTemplate(self.head, words, self.groups)

    def edited(self, words: Mapping[str, str | None]) -> "PromptTemplate":
        """Return the prompt with other words of some groups; None removes a group's word."""
        changed = {**self.words, **words}
        return PromptTemplate(
            self.head, {name: word for name, word in changed.items() if word is not None}, self.groups
        )

    @property
    def text(self) -> str:
        """The prompt's text: adjectives after the article, in the list's order, and phrases after the head."""
        held = [(group, self.words[group.name]) for group in self.groups if group.name in self.words]
        adjectives = "".join(f"{word} " for group, word in held if group.adjective)
        phrases = "".join(word for group, word in held if not group.adjective)
        opening = _OPENING.match(self.head)
        assert opening is not None  # every part of the expression is optional
        noun = adjectives + self.head[opening.end() :]
        article = opening["article"] or ""
        if article.lower() in ("a", "an"):
            article = article[0] + ("n" if noun[:1].lower() in "aeiou" and noun else "")
        return opening["before"] + (f"{article} " if article else "") + noun + phrases

    def variations(self, only: WordGroup | None = None) -> "list[PromptTemplate]":
        """Return the near prompts: one group's word exchanged, added or removed; with `only`, those of one group."""
        near = []
        for group in self.groups if only is None else (only,):
            before = self.words.get(group.name)
            near += [self.edited({group.name: word}) for word in group.words if word != before]
            if before is not None:
                near.append(self.edited({group.name: None}))
        return near


def check_groups(groups: Sequence[WordGroup]) -> tuple[WordGroup, ...]:
    """Return `groups` as a tuple.

    Raises:
        UsageError: a name occurs twice, or a group is empty.
    """
    names = [group.name for group in groups]
    for group in groups:
        if names.count(group.name) > 1 or not group.words:
            raise UsageError(f"expected word groups with distinct names and words, got {group.name} twice or empty")
    return tuple(groups)
