"""Prompts as users type them: names of files are recognised, and syntax that no model reads is reported."""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from thalweg.errors import MissingPathError, PromptSyntax, UsageError
from thalweg.io.safetensors_files import SUFFIX
from thalweg.limits import check_text, shown
from thalweg.notices import warn

WEIGHTS_SUFFIXES = (
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".gguf",
    ".onnx",
    ".h5",
    ".npy",
    ".npz",
    ".msgpack",
)
"""Suffixes of files of weights and arrays: pickles, and formats that hold no embedding of this package."""
FILE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"),
    *(".json", ".yaml", ".yml", ".toml", ".csv", ".txt", ".md", ".zip", ".tar", ".gz", ".zarr", ".nc"),
)
"""Suffixes with which a prompt without a space is taken for the name of another file."""
RUN_EMBEDDINGS = ("embedding.safetensors", "best.safetensors", "start.safetensors")
"""Names of the embeddings in a run folder, the result first."""
RUN_RECORD = "run.json"

_ADAPTER = re.compile(r"<\s*(?:lora|lyco|loha|hypernet|hypernetwork|ti)\s*:[^<>]*>", re.IGNORECASE)
_SYNTAX = re.compile(
    r"""
      \\[()\[\]]                                               # A1111: an escaped bracket
    | (?<!\()\(++[^()\n:]*+:\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*\)+  # A1111: (word:1.2)
    | (?<!\()\(++[^()\n]++\)+[-+]*                             # A1111: (word); Compel: (two words)++
    | (?<!\[)\[++[^\[\]\n]++\]+                               # A1111: [word], [from:to:0.5]
    | (?<!\{)\{[^{}\n]*+\}                                     # NovelAI: {word}; choices {a|b}
    | (?<!\w)[^\W\d_]\w*+(?:\+\+?|--+)(?=\s|,|$)               # Compel: word++, word--
    | \.(?:and|blend|swap)\(                                   # Compel
    | \bBREAK\b | (?<=\s)AND(?=\s)                             # A1111: parts of a prompt
    | \bembedding:[\w./-]+                                     # ComfyUI
    | (?<!\w)__[a-zA-Z/-][\w/-]*+(?<=__)                       # wildcards
    """,
    re.VERBOSE,
)


def is_embedding_name(text: str) -> bool:
    """Return whether a text is the name of an embedding file: it has their suffix, in upper or lower case."""
    return Path(text.strip()).suffix.lower() == SUFFIX


def read_prompt(text: str, locate: Callable[[str], Path] = Path) -> Path | str:
    """Return the embedding file that a text names, or the text itself if it is a prompt.

    A text is a file's name if it has the suffix of embedding files, in upper or lower case. A plain word is a prompt
    even if a folder has that name.

    Args:
        text: the text that the user typed.
        locate: returns the path of a name, or raises a `UsageError` for a name that may not be accessed.

    Raises:
        UsageError: the text is empty, or names a file or folder that is no embedding.
    """
    text = check_prompt(text).strip()
    if not text:
        raise UsageError("expected a prompt or an embedding file, got nothing")
    if is_embedding_name(text):
        return locate(text)
    suffix = Path(text).suffix.lower()
    if suffix in WEIGHTS_SUFFIXES:
        raise UsageError(
            f"expected a prompt or an embedding file (*{SUFFIX}), got {shown(text)}: pickles and other "
            "weights are refused; to use it as a prompt, write more words after it"
        )
    _refuse_other_files(text, suffix, locate)
    return text


def check_prompt_or_file(text: str) -> None:
    """Check a prompt or the name of an embedding file; needs no model, so that a command can refuse early.

    Raises:
        UsageError: as `read_prompt`.
        MissingPathError: there is no such file.
    """
    found = read_prompt(text)
    if isinstance(found, Path) and not found.is_file():
        raise MissingPathError(f"expected an embedding file, found none at {found}")


def check_prompt(text: str) -> str:
    """Return a prompt unchanged.

    Raises:
        UsageError: the prompt is too long, is not UTF-8, holds control characters, or names an adapter
            (`<lora:name:0.8>`), which would be ignored.
    """
    check_text("a prompt", text)
    if unreadable := sorted(
        {letter for letter in text if unicodedata.category(letter) == "Cc" and letter not in "\t\n\r"}
    ):
        raise UsageError(f"expected a prompt of printable characters, got {shown(unreadable[0])} in it")
    if adapter := _ADAPTER.search(text):
        raise UsageError(
            f"expected a prompt of words, got {shown(adapter.group())} in it: adapters are not loaded from a prompt; "
            "remove it, or add the adapter to the model's pipeline in Python"
        )
    return text


def warn_of_syntax(text: str, stacklevel: int) -> None:
    """Warn (PromptSyntax) about weights and other syntax of A1111, Compel or ComfyUI, which models read as plain text.

    Args:
        text: the prompt.
        stacklevel: level of the caller that the warning names, as `warnings.warn` counts it.
    """
    found = list(dict.fromkeys(match.group().strip() for match in _SYNTAX.finditer(text)))
    if found:
        parts = ", ".join(shown(part) for part in found[:5]) + (", ..." if len(found) > 5 else "")
        says = (
            f"the prompt is read as plain text, weights and other syntax do nothing: {parts}; leave them out, or set "
            "`prompt_syntax` to a1111 or compel for weights"
        )
        warn(PromptSyntax(says), stacklevel + 1)


def words_of(text: str) -> list[str]:
    """Return the distinct words of a prompt, without punctuation and the weights that `warn_of_syntax` names."""
    plain = re.sub(r":\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*(?=[)\]])", " ", text)
    plain = re.sub(r"['\u2019]s\b", "", plain)
    return list(dict.fromkeys(re.findall(r"[^\s!-/:-@\[-`{-~\u2013\u2014\u2018-\u201f\u2026]+", plain)))


def _refuse_other_files(text: str, suffix: str, locate: Callable[[str], Path]) -> None:
    """Refuse the name of a file or folder that is no embedding."""
    is_one_word = not any(letter.isspace() for letter in text)
    looks_like_path = is_one_word and (text.startswith(("/", "./", "../", "~/", ".\\", "..\\")) or "://" in text)
    looks_like_file = is_one_word and suffix in FILE_SUFFIXES
    path = _existing(text, locate)
    if path is not None and path.is_dir():
        if (path / RUN_RECORD).is_file():
            held = [name for name in RUN_EMBEDDINGS if (path / name).is_file()]
            hint = f"its embedding is {text.rstrip('/')}/{held[0]}" if held else "export its embedding first"
            raise UsageError(f"expected a prompt or an embedding file, got {shown(text)}, a run folder: {hint}")
        if not re.search(r"[/\\.]", text):
            return  # a prompt such as "cat", where there is a folder of that name
        raise UsageError(f"expected a prompt or an embedding file, got {shown(text)}, a folder")
    if path is not None:
        raise UsageError(f"expected a prompt or an embedding file (*{SUFFIX}), got {shown(text)}, another file")
    if is_one_word and (file := _existing(text + SUFFIX, locate)) is not None and file.is_file():
        raise UsageError(f"expected a prompt or an embedding file, got {shown(text)}: is it {text}{SUFFIX}?")
    if looks_like_path or looks_like_file:
        raise UsageError(
            f"expected a prompt or an embedding file (*{SUFFIX}), got {shown(text)}, a file's name; there is "
            "no such file"
        )


def _existing(text: str, locate: Callable[[str], Path]) -> Path | None:
    try:
        path = locate(text)
        return path if path.exists() else None
    except (OSError, ValueError):  # too long for a name, or a name that may not be accessed
        return None
