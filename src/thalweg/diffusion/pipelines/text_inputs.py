"""Parts of a text that text encoders do not see: tokens beyond their length, unknown words, other programs' syntax."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.errors import PromptCut, UnknownWords
from thalweg.notices import warn
from thalweg.prompts import warn_of_syntax, words_of

MAX_QUOTED = 120
"""Characters of the cut part, or of the unknown words, that a warning repeats."""
MAX_WORDS = 12
"""Unknown words that a warning names."""


@dataclass(frozen=True)
class Vocabulary:
    """Closed set of words on which a model's text encoder was trained.

    Attributes:
        model: name of the model in warnings.
        contains: whether a word is in the set.
    """

    model: str
    contains: Callable[[str], bool]


@dataclass(frozen=True)
class TextInput:
    """Input of one of a model's text encoders.

    Attributes:
        tokenizer: a transformers tokenizer.
        limit: tokens that its encoder takes, start and end included.
        convert: conversion by the pipeline before tokenization, such as of learned words to their several tokens.
        vocabulary: words that the encoder was trained on; None: all words that have tokens.
        ends: tokens after those of the text.
        kept_ends: the number of them that remain where a text is cut.
    """

    tokenizer: Any
    limit: int
    convert: Callable[[str, Any], str] | None = None
    vocabulary: Vocabulary | None = None
    ends: int = 1
    kept_ends: int = 1

    def converted(self, text: str) -> str:
        """Return the text as it is tokenized."""
        return text if self.convert is None else self.convert(text, self.tokenizer)

    def cut(self, text: str) -> str:
        """Return the part of a text beyond the encoder's length; empty where there is none."""
        ids = self.tokenizer(self.converted(text)).input_ids
        if len(ids) <= self.limit:
            return ""
        return self.tokenizer.decode(ids[self.limit - self.kept_ends : len(ids) - self.ends]).strip()

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text on which the encoder was not trained.

        They are outside its vocabulary or, where that is open, the tokenizer has no tokens for them.
        """
        for learned in sorted(self.tokenizer.added_tokens_encoder, key=len, reverse=True):
            text = text.replace(learned, " ")
        if self.vocabulary is not None:
            return [word for word in words_of(text) if not self.vocabulary.contains(word)]
        return [word for word in words_of(text) if not self._has_tokens(word)]

    def _has_tokens(self, word: str) -> bool:
        ids = self.tokenizer(self.converted(word), add_special_tokens=False).input_ids
        return bool(ids) and (self.tokenizer.unk_token_id is None or self.tokenizer.unk_token_id not in ids)


def warn_of_text(text: str, inputs: Sequence[TextInput], stacklevel: int, unread: str | None = None) -> None:
    """Warn of parts of `text` that encoders do not see: PromptSyntax, PromptCut, UnknownWords, one line each.

    Args:
        text: a prompt.
        inputs: the encoders that take it.
        stacklevel: stack level of the caller that the warning names, counted as by `warnings.warn`.
        unread: the part of the text that may hold syntax which is read as plain text; None: the whole text.
    """
    warn_of_syntax(text if unread is None else unread, stacklevel + 1)
    cut = {each.limit: lost for each in inputs if (lost := each.cut(text))}
    if cut:
        parts = "; ".join(f"beyond {limit} tokens {_short(lost)!r}" for limit, lost in cut.items())
        warn(PromptCut(f"the prompt is longer than its encoder takes, not seen are: {parts}"), stacklevel + 1)
    unknown = list(dict.fromkeys(word for each in inputs for word in each.unknown(text)))
    if unknown:
        models = [each.vocabulary.model for each in inputs if each.vocabulary is not None]
        model = models[0] if models else "a text encoder of the model"
        words = ", ".join(unknown[:MAX_WORDS]) + (f" and {len(unknown) - MAX_WORDS} more" * (len(unknown) > MAX_WORDS))
        warn(UnknownWords(f"{model} does not know: {_short(words)}; use other words or another model"), stacklevel + 1)


def _short(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
