from .prompt_syntax import SYNTAXES, Fragment, SyntaxName, parse_prompt, unread_syntax
from .token_chunks import TokenChunk, chunk_tokens
from .weighted_rows import weighted_rows

__all__ = [
    "SYNTAXES",
    "Fragment",
    "SyntaxName",
    "TokenChunk",
    "chunk_tokens",
    "parse_prompt",
    "unread_syntax",
    "weighted_rows",
]
