"""Limits on everything that can be typed, and the checks that name them: counts, numbers, texts and choices."""

import math
import numbers
from collections.abc import Collection
from typing import Any

from thalweg.errors import UsageError

MAX_SEEDS = 4096
"""Seeds of one command or one run."""
MAX_SEED = 2**64 - 1
"""Largest seed that a torch generator takes."""
MAX_CANDIDATES = 64
"""Candidates of one round of a navigation."""
MAX_RENDERS = 1000
"""How often a tool may render to find one candidate, and how many it may choose one from."""
MAX_DIRECTIONS = 64
"""Principal directions of a store that are decoded."""
MAX_FRAMES = 1000
"""Embeddings on a path."""
MAX_STEPS = 100_000
"""Steps of an optimisation or an imprint, and denoising steps of an image."""
MIN_STRENGTH, MAX_STRENGTH = 1e-6, 100.0
"""How far toward a candidate a choice may lead, 1 being the candidate itself."""
MAX_IMAGES = 10_000_000
"""Images and batches of a miniature's training, and images that it is measured on."""
MIN_RATE, MAX_RATE = 1e-9, 1e3
"""Learning rate of an optimiser."""
MAX_WEIGHT = 1e9
"""Weight of a metric or of a loss's term, plus or minus."""
MIN_RADIUS, MAX_RADIUS = 1e-6, 1e6
"""Drift that a tool may be allowed, in units of the start's own spread."""
MAX_LANDSCAPE, MAX_YEARS = 4096, 100
"""Pixels each way and years of a simulated landscape."""
MAX_STRIDE = 3660
"""Days between two windows of a daily table."""
MAX_WORKERS = 1024
"""Processes of one command."""
MAX_WEIGHT = 1e6
"""Weight of a metric among others."""
MAX_TEXT = 10_000
"""Characters of one text: a prompt, a metric, a name."""
MAX_SHOWN = 60
"""Characters of a refused value that a message repeats."""


def check_count(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number from `least` to `most`; 5.0 is one, 2.5, True and "5" are not.

    Raises:
        UsageError: anything else, with the range.
    """
    whole = _is_number(value) and (isinstance(value, numbers.Integral) or (math.isfinite(value) and value % 1 == 0))
    if not whole or not least <= value <= most:
        raise UsageError(f"expected {name} to be a whole number from {least:,} to {most:,}, got {shown(value)}")
    return int(value)


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """Return a finite number from `least` to `most`.

    Raises:
        UsageError: anything else, with the range.
    """
    if not _is_number(value) or not least <= value <= most:
        raise UsageError(f"expected {name} to be a number from {least:g} to {most:g}, got {shown(value)}")
    return float(value)


def check_text(name: str, value: Any, most: int = MAX_TEXT) -> str:
    """Return a text of at most `most` characters.

    Raises:
        UsageError: no text, or a longer one, or one that no file can hold.
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
        UsageError: anything else, with the choices.
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise UsageError(f"expected {name} to be one of {listed}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Return how a message names a refused value: in one line, short however long it is."""
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list within itself
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
