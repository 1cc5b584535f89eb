"""Base of the pipeline adapters whose text encoder, Qwen 3, reads a prompt as a user's turn of a chat."""

from typing import Any, ClassVar

from thalweg.diffusion.pipelines.language_models.masked_text import MaskedText
from thalweg.diffusion.pipelines.text_inputs import TextInput


class ChatText(MaskedText):
    """Texts as the tokenizer's chat template writes them, with or without the template's thinking."""

    fixed_rows = 0
    tokens = 512
    thinking: ClassVar[bool]

    def _chat(self, text: str) -> str:
        """Return a text as the pipeline writes it."""
        messages = [{"role": "user", "content": text}]
        return self.pipeline.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=self.thinking
        )

    def text_inputs(self) -> list[TextInput]:
        """Return the encoder's input: a chat with the text."""
        tokenizer, mark = self.pipeline.tokenizer, "mark"

        def chat(text: str, tokenizer: Any) -> str:
            return self._chat(text)

        ends = len(tokenizer(self._chat(mark).rpartition(mark)[2]).input_ids)
        return [TextInput(tokenizer, self.tokens, chat, self.vocabulary, ends=ends, kept_ends=0)]
