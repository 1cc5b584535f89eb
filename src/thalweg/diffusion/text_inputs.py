"""What text encoders do not see of a text: words beyond their length, unknown words, other programs' syntax."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.diffusion.miniature import captions
from thalweg.errors import PromptCut, UnknownWords
from thalweg.notices import warn
from thalweg.prompts import warn_of_syntax, words_of

MAX_QUOTED = 120
"""Characters of what was cut off that a warning repeats."""
MAX_WORDS = 12
"""Unknown words that a warning names."""


@dataclass(frozen=True)
class TextInput:
    """How one of a model's text encoders takes a text.

    Attributes:
        tokenizer: a transformers tokenizer.
        limit: tokens that its encoder takes, start and end included.
        convert: what a pipeline does to a text first: learned words become their several tokens.
    """

    tokenizer: Any
    limit: int
    convert: Callable[[str, Any], str] | None = None

    def converted(self, text: str) -> str:
        """Return the text as it is tokenized."""
        return text if self.convert is None else self.convert(text, self.tokenizer)

    def cut(self, text: str) -> str:
        """Return the part of a text that is beyond the encoder's length, empty where there is none."""
        ids = self.tokenizer(self.converted(text)).input_ids
        return self.tokenizer.decode(ids[self.limit - 1 : -1]).strip() if len(ids) > self.limit else ""

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that the encoder was never trained on: its tokenizer has no tokens for them.

        The miniature's tokenizer spells such words, with letters that its text encoder has hardly seen.
        """
        for learned in sorted(self.tokenizer.added_tokens_encoder, key=len, reverse=True):
            text = text.replace(learned, " ")
        if captions.is_own_tokenizer(self.tokenizer):
            return [word for word in words_of(text) if not captions.is_known(word)]
        return [word for word in words_of(text) if self._lacks(word)]

    def _lacks(self, word: str) -> bool:
        ids = self.tokenizer(word, add_special_tokens=False).input_ids
        return not ids or (self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids)


def warn_of_text(text: str, inputs: Sequence[TextInput], stacklevel: int) -> None:
    """Warn of what of `text` is not seen as it is written: PromptSyntax, PromptCut, UnknownWords, one line each.

    Args:
        text: a prompt.
        inputs: the encoders that see it.
        stacklevel: of the caller that is named, as `warnings.warn` counts it.
    """
    warn_of_syntax(text, stacklevel + 1)
    cut = {each.limit: lost for each in inputs if (lost := each.cut(text))}
    if cut:
        parts = "; ".join(f"beyond {limit} tokens {_short(lost)!r}" for limit, lost in cut.items())
        warn(PromptCut(f"the prompt is longer than its encoder takes, not seen are: {parts}"), stacklevel + 1)
    unknown = list(dict.fromkeys(word for each in inputs for word in each.unknown(text)))
    if unknown:
        own = any(captions.is_own_tokenizer(each.tokenizer) for each in inputs)
        reader = "the miniature" if own else "a text encoder of the model"
        words = ", ".join(unknown[:MAX_WORDS]) + (f" and {len(unknown) - MAX_WORDS} more" * (len(unknown) > MAX_WORDS))
        warn(UnknownWords(f"{reader} does not know: {_short(words)}; use other words or another model"), stacklevel + 1)


def _short(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
