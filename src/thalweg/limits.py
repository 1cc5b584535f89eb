"""Limits on all user input, and checks against them: counts, numbers, texts and choices."""

import math
import numbers
from collections.abc import Collection
from typing import Any

from thalweg.errors import UsageError

MAX_SEEDS = 4096
"""Number of seeds of one command or run."""
MAX_SEED = 2**64 - 1
"""Largest seed that a torch generator takes."""
MAX_CANDIDATES = 64
"""Number of candidates per round of a navigation."""
MAX_RENDERS = 1000
"""Number of renderings per candidate, and of rendered candidates per candidate shown."""
MAX_DIRECTIONS = 64
"""Number of principal directions of a store that are decoded."""
MAX_FRAMES = 1000
"""Number of embeddings on a path."""
MAX_STEPS = 100_000
"""Number of steps of an optimization or an imprint, and of denoising steps of an image."""
MIN_STRENGTH, MAX_STRENGTH = 1e-6, 100.0
"""Weight on the path to a candidate; 1 is the candidate itself."""
MAX_IMAGES = 10_000_000
"""Number of images and batches of a miniature's training, and of images of its evaluation."""
MIN_RATE, MAX_RATE = 1e-9, 1e3
"""Learning rate of an optimizer."""
MIN_RADIUS, MAX_RADIUS = 1e-6, 1e6
"""Radius of a trust region, in units of the start's spread."""
MAX_LANDSCAPE, MAX_YEARS = 4096, 100
"""Pixels per side and years of a simulated landscape."""
MAX_STRIDE = 3660
"""Number of days between two windows of a daily table."""
MAX_WORKERS = 1024
"""Number of processes of one command."""
MAX_WEIGHT = 1e6
"""Absolute weight of a metric or of a loss's term."""
MAX_TEXT = 10_000
"""Number of characters of a text: a prompt, a metric, a name."""
MAX_SHOWN = 60
"""Number of characters of a refused value that a message repeats."""


def check_count(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number within a range; 5.0 is a whole number, 2.5, True and "5" are not.

    Args:
        name: name of the value in the message.
        value: the value.
        least: smallest number allowed.
        most: largest number allowed.

    Raises:
        UsageError: any other value; the message gives the range.
    """
    whole = _is_number(value) and (isinstance(value, numbers.Integral) or (math.isfinite(value) and value % 1 == 0))
    if not whole or not least <= value <= most:
        raise UsageError(f"expected {name} to be a whole number from {least:,} to {most:,}, got {shown(value)}")
    return int(value)


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """Return a number within a range as a float; NaN and True are no numbers.

    Args:
        name: name of the value in the message.
        value: the value.
        least: smallest number allowed.
        most: largest number allowed.

    Raises:
        UsageError: any other value; the message gives the range.
    """
    if not _is_number(value) or not least <= value <= most:
        raise UsageError(f"expected {name} to be a number from {least:g} to {most:g}, got {shown(value)}")
    return float(value)


def check_text(name: str, value: Any, most: int = MAX_TEXT) -> str:
    """Return a text of at most `most` characters.

    Raises:
        UsageError: the value is no text, is longer, or holds characters that no file can hold.
    """
    if not isinstance(value, str):
        raise UsageError(f"expected {name} to be a text, got {shown(value)}")
    if len(value) > most:
        raise UsageError(f"expected {name} of at most {most:,} characters, got {len(value):,}")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"expected {name} to be a text of whole characters, got {shown(value)}")
    return value


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return one of `choices`.

    Raises:
        UsageError: any other value; the message gives the choices.
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"expected {name} to be one of {listed}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Return a refused value as a message shows it: on one line, shortened to `MAX_SHOWN` characters."""
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list within itself
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
