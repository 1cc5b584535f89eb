"""Weights in prompts as A1111 and Compel write them, read into fragments; imports no torch."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from thalweg.errors import UsageError
from thalweg.limits import shown

SyntaxName = Literal["a1111", "compel"]
SYNTAXES = ("a1111", "compel")
"""Syntaxes of weights by the name of the program that they come from."""

BRACKET = 1.1
"""Weight of a pair of round brackets in A1111's syntax, and of a plus in Compel's."""
MINUS = 0.9
"""Weight of a minus in Compel's syntax."""
MAX_FRAGMENT_WEIGHT = 10.0
"""Largest weight of a fragment; those in use are 0.3 to 2."""
MAX_LOWERED = 32
"""Most fragments below 1 in Compel's syntax, each of which is one more run of the text encoder."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_A1111 = re.compile(
    rf"\\(?P<escaped>[()\[\]\\])|:\s*(?P<weight>{_NUMBER})\s*(?P<end>[)\]])|(?P<bracket>[()\[\]])|(?P<break>\bBREAK\b)"
)
_A1111_WEIGHTS = re.compile(rf"(?<!\\)\([^()\n:]*:\s*{_NUMBER}\s*\)")
_COMPEL = re.compile(
    r"""
      \\(?P<escaped>[()"+\-.,=\\])
    | (?P<close>\)|")(?P<weight>\++|-+|(?:\d+\.?\d*|\.\d+)(?!\w|\.\d))?
    | (?P<open>\()
    | (?P<word>(?:\\[()"+\-.,=\\]|[^\s()"\\,.=+-]|[+-](?![-+\s()"]|$))+)(?P<sign>\++|-+)(?=[\s()",.=]|$)
    | (?P<plain>[^\s()"\\,.=]+)
    """,
    re.VERBOSE,
)
_ELSEWHERE: dict[SyntaxName, tuple[tuple[re.Pattern[str], str], ...]] = {
    "a1111": (
        (re.compile(r"\[[^\[\]]*:\s*(?:\d+\.?\d*|\.\d+)\s*\]"), "a prompt that changes between steps"),
        (re.compile(r"\[[^\[\]|]*\|[^\[\]]*\]"), "a prompt that alternates between steps"),
        (re.compile(r"(?<!\S)AND(?!\S)"), "a composition of several prompts"),
        (
            re.compile(rf":\s*(?!{_NUMBER}\s*[)\]])[-+]?\.?\d[\d.,e+-]*\s*[)\]]", re.IGNORECASE),
            "which is no weight such as 1.5",
        ),
    ),
    "compel": (
        (re.compile(r"(?<=[)\"])\d+,\d+"), "which is no weight such as 1.5"),
        (re.compile(r"\.(?:and|add|blend|swap|attend)\(|\b(?:with|use)Lora\("), "an operation on prompts"),
    ),
}
"""Parts of a syntax other than weights, which are refused, and what they mean."""
_READ: dict[SyntaxName, str] = {"a1111": r"[()\[\]\\]", "compel": r'[()"\\]'}
"""Characters that a syntax reads, or that are written as they are after a backslash."""


@dataclass(frozen=True)
class Fragment:
    """Part of a prompt with one weight.

    Attributes:
        text: its words, with the spaces around them.
        weight: 1 is the weight of plain text.
    """

    text: str
    weight: float = 1.0


def parse_prompt(text: str, syntax: SyntaxName | None) -> list[list[Fragment]]:
    r"""Return the fragments of a prompt, in parts that begin a new chunk; None reads no syntax and gives one fragment.

    "a1111": `(red)` is 1.1, `[red]` 1 / 1.1, `(red:1.6)` 1.6, `\(` a bracket; weights inside each other multiply, and
    BREAK begins a new chunk. "compel": `red+` is 1.1, `red--` 0.9 x 0.9, `(a b)++` and `(a b)1.4` of several words.

    Raises:
        UsageError: brackets without their counterpart, a weight out of range, or another part of the syntax.
    """
    if syntax is None:
        return [[Fragment(text)]]
    for pattern, meaning in _ELSEWHERE[syntax]:
        if found := pattern.search(text):
            raise UsageError(
                f"expected weights alone in a prompt of the syntax {syntax}, got {shown(found.group())}, {meaning}; "
                "leave it out"
            )
    parts = (_read_a1111 if syntax == "a1111" else _read_compel)(text)
    fragments = [fragment for part in parts for fragment in part]
    for fragment in fragments:
        if not (math.isfinite(fragment.weight) and 0 <= fragment.weight <= MAX_FRAGMENT_WEIGHT):
            raise UsageError(
                f"expected weights from 0 to {MAX_FRAGMENT_WEIGHT:g} in a prompt, got {fragment.weight:g} of "
                f"{shown(fragment.text.strip())}"
            )
    lowered = sum(fragment.weight < 1 for fragment in fragments)
    if syntax == "compel" and lowered > MAX_LOWERED:
        raise UsageError(f"expected at most {MAX_LOWERED} parts of a weight below 1 in a prompt, got {lowered}")
    return parts


def unread_syntax(text: str, plain: str, syntax: SyntaxName | None) -> str:
    """Return what may hold another program's syntax: a plain text without the characters that `syntax` reads.

    Args:
        text: the prompt, of which weights as A1111 writes them are left by Compel's syntax.
        plain: its text without weights.
        syntax: the syntax that is read.
    """
    if syntax is None:
        return plain
    weights = _A1111_WEIGHTS.findall(text) if syntax == "compel" else []
    return " ".join([re.sub(_READ[syntax], " ", plain), *weights])


@dataclass
class _Reader:
    """Fragments read so far, and the brackets that are open.

    Attributes:
        parts: fragments of each part, as [text, weight].
        open: opening brackets with the part and the fragment at which they stand.
    """

    parts: list[list[tuple[str, float]]] = field(default_factory=lambda: [[]])
    open: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, text: str, weight: float = 1.0) -> None:
        if text:
            self.parts[-1].append((text, weight))

    def begin(self, bracket: str) -> None:
        self.open.append((bracket, len(self.parts) - 1, len(self.parts[-1])))

    def end(self, bracket: str, opening: str, weight: float) -> None:
        if not self.open or self.open[-1][0] != opening:
            raise UsageError(_unbalanced(bracket))
        _, part, first = self.open.pop()
        for index in range(part, len(self.parts)):
            begun = first if index == part else 0
            self.parts[index][begun:] = [(text, found * weight) for text, found in self.parts[index][begun:]]

    def result(self) -> list[list[Fragment]]:
        """Return the fragments, neighbours of one weight joined.

        Raises:
            UsageError: a bracket is still open.
        """
        if self.open:
            raise UsageError(_unbalanced(self.open[-1][0]))
        return [list(_joined(part)) for part in self.parts]


def _joined(part: list[tuple[str, float]]) -> Iterator[Fragment]:
    text, weight = "", 1.0
    for more, its_weight in part:
        if text and its_weight != weight:
            yield Fragment(text, weight)
            text = ""
        text, weight = text + more, its_weight
    yield Fragment(text, weight)


def _unbalanced(bracket: str) -> str:
    return (
        f"expected brackets in pairs in a prompt with weights, got {bracket} alone; write \\{bracket} for the character"
    )


def _read_a1111(text: str) -> list[list[Fragment]]:
    reader, read = _Reader(), 0
    for match in _A1111.finditer(text):
        reader.add(text[read : match.start()])
        read = match.end()
        bracket = match["bracket"] or match["end"]
        if match["escaped"]:
            reader.add(match["escaped"])
        elif match["break"]:
            reader.parts.append([])
        elif match["end"] == "]":
            raise UsageError(
                f"expected weights in round brackets in a prompt, got {shown(match.group())}: such a prompt changes "
                "between steps; leave it out"
            )
        elif bracket in ("(", "["):
            reader.begin(bracket)
        else:
            plain = BRACKET if bracket == ")" else 1 / BRACKET
            reader.end(bracket, "(" if bracket == ")" else "[", float(match["weight"]) if match["weight"] else plain)
    reader.add(text[read:])
    return reader.result()


def _read_compel(text: str) -> list[list[Fragment]]:
    reader, read = _Reader(), 0
    for match in _COMPEL.finditer(text):
        reader.add(text[read : match.start()])
        read = match.end()
        if match["escaped"]:
            reader.add(match["escaped"])
        elif match["word"]:
            reader.add(re.sub(r"\\(.)", r"\1", match["word"]), _signs(match["sign"]))
        elif match["plain"]:
            reader.add(match["plain"])
        elif match["open"]:
            reader.begin("(")
        elif match["close"] == '"' and not (reader.open and reader.open[-1][0] == '"'):
            reader.begin('"')
            read = match.end("close")
        else:
            reader.end(match["close"], "(" if match["close"] == ")" else '"', _signs(match["weight"] or ""))
    reader.add(text[read:])
    return reader.result()


def _signs(text: str) -> float:
    """Return the weight that a run of pluses or minuses, or a number, stands for; 1 for nothing."""
    if not text.strip("+-"):
        return (BRACKET if text[:1] == "+" else MINUS) ** len(text)
    return float(text)
