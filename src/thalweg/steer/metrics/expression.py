"""Metric expressions such as `0.5*sharpness + text: a red ball`: their grammar, checked without any model or file."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.limits import MAX_WEIGHT, check_number, check_text

PLAIN_METRICS = ("sharpness", "blur", "colourfulness", "contrast", "symmetry")
"""Metrics without an argument."""
FILE_METRICS = ("image", "aesthetics", "dino", "lpips", "dreamsim")
"""Metrics whose argument is a file."""
MODEL_METRICS = {
    "dino": "a DINOv2 model",
    "lpips": "the weights of LPIPS",
    "image_reward": "the model ImageReward",
    "dreamsim": "the model DreamSim",
}
"""Metrics that need a model of their own, and what it is."""
SCORER_METRICS = ("text", "image", "aesthetics")
"""Metrics that need a scorer of texts and images."""
NAMES = (*PLAIN_METRICS, "colour", "palette", *SCORER_METRICS, *MODEL_METRICS)
DESCRIPTIONS = {
    "sharpness": "the variance of the Laplacian of the grey image, more is better",
    "blur": "the same, less is better",
    "colourfulness": "Hasler and Suesstrunk's M3, 0 (grey) to about 110, more is better",
    "contrast": "the standard deviation of the grey image, more is better",
    "symmetry": "the correlation with the left-right mirror image, more is better",
    "colour: #ff0000": "the distance of the mean colour from this one, less is better",
    "palette: #ff0000 #ffffff": "the distance from these colours, less is better",
    "text: a red ball": "the similarity to a text by the CLIP or SigLIP model, more is better",
    "image: FILE": "the similarity to an image by the CLIP or SigLIP model, more is better",
    "aesthetics: FILE": "a head of weights on the CLIP model's features, more is better",
    "dino: FILE": "the similarity to an image by the DINOv2 model, more is better",
    "lpips: FILE": "the LPIPS distance from an image, 0 for the same, less is better",
    "image_reward: a red ball": "ImageReward's score for a text, about -2 to 2, more is better",
    "dreamsim: FILE": "the similarity to an image by DreamSim, 1 for the same, more is better",
}
"""Meaning and better direction of each metric, by an example of how it is written."""
EXAMPLES = tuple(DESCRIPTIONS)
"""Every metric as a user writes it."""
SPELLINGS = {"color": "colour", "colorfulness": "colourfulness"}
"""Other spellings of a name."""

_FACTOR = re.compile(
    r"""\s* (?P<operator>[-+*])? \s*
    (?: (?P<number>\d+\.?\d*|\.\d+)
      | (?P<name>[A-Za-z_]+) (?:\s*:\s*(?P<argument>"[^"]*"|'[^']*'|.*?(?=\s+[-+*]\s|\s*$)))? ) \s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Factor:
    """One metric of a product.

    Attributes:
        name: one of `NAMES`.
        argument: a colour, colours, a text or a file; empty for metrics without an argument.
    """

    name: str
    argument: str = ""


@dataclass(frozen=True)
class Term:
    """One term of a sum: a weighted product of metrics.

    Attributes:
        sign: 1 or -1.
        weight: the product of the term's numbers.
        factors: the term's metrics, at least one.
    """

    sign: int
    weight: float
    factors: tuple[Factor, ...]


def read_expression(text: str) -> tuple[Term, ...]:
    """Return the terms of a metric as a user writes it: `sharpness`, `0.5*sharpness + colourfulness`, `text: a ball`.

    Terms are joined by + and -, factors by *. An argument ends at the next of these operators between spaces, or it is
    quoted.

    Raises:
        UsageError: the text is no metric (the message lists those known and the most similar name), a weight is out of
            range, or a colour is none.
    """
    check_text("a metric", text)
    terms: list[Term] = []
    position = 0
    while position < len(text) or not terms:
        found = _FACTOR.match(text, position)
        if found is None or (found["operator"] == "*" if not terms else found["operator"] is None):
            raise _unknown(text)
        if found["operator"] != "*":
            terms.append(Term(-1 if found["operator"] == "-" else 1, 1.0, ()))
        last = terms[-1]
        if found["number"]:
            weight = check_number("a metric's weight", last.weight * float(found["number"]), -MAX_WEIGHT, MAX_WEIGHT)
            terms[-1] = Term(last.sign, weight, last.factors)
        else:
            factor = _factor(found["name"].lower(), (found["argument"] or "").strip("\"' "), text)
            terms[-1] = Term(last.sign, last.weight, (*last.factors, factor))
        position = found.end()
    if not all(term.factors for term in terms):
        raise _unknown(text)
    return tuple(terms)


def read_colour(value: str) -> tuple[float, ...]:
    """Return the RGB values in 0..1 of a colour such as "#ff0000" or a CSS name.

    Raises:
        UsageError: the value is no colour.
    """
    from PIL import ImageColor

    try:
        return tuple(channel / 255 for channel in ImageColor.getrgb(value)[:3])
    except ValueError as error:
        raise UsageError(f"expected a colour like '#ff0000' or 'red', got {value!r}") from error


def with_absolute_files(text: str) -> str:
    """Return a metric's text with absolute paths of the files it names, so that it means the same in any folder."""

    def absolute(found: re.Match[str]) -> str:
        argument = found["argument"]
        if (found["name"] or "").lower() not in FILE_METRICS or not argument:
            return found[0]
        path = str(Path(argument.strip("\"' ")).absolute())
        quote = "'" if '"' in path else '"'
        start, end = (index - found.start() for index in found.span("argument"))
        return f"{found[0][:start]}{quote}{path}{quote}{found[0][end:]}"

    return _FACTOR.sub(absolute, text)


def files_of(text: str) -> tuple[Path, ...]:
    """Return the files that a metric's text names, in its order.

    Raises:
        UsageError: as `read_expression`.
    """
    factors = [factor for term in read_expression(text) for factor in term.factors]
    return tuple(Path(factor.argument) for factor in factors if factor.name in FILE_METRICS)


def _factor(name: str, argument: str, text: str) -> Factor:
    """Return a metric and its argument; `text` is the whole expression, for the message."""
    name = SPELLINGS.get(name, name)
    if name not in NAMES:
        raise _unknown(text, name)
    if bool(argument) == (name in PLAIN_METRICS):
        raise _unknown(text)
    for colour in {"colour": [argument], "palette": argument.split()}.get(name, []):
        read_colour(colour)
    return Factor(name, argument)


def _unknown(text: str, name: str = "") -> UsageError:
    similar = difflib.get_close_matches(name, NAMES, n=1) if name else []
    hint = f" (did you mean {similar[0]}?)" if similar else ""
    return UsageError(f"expected a metric, got {text!r}{hint}; known are {', '.join(EXAMPLES)}, joined by +, - and *")
