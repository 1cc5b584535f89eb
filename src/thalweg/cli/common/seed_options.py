"""Options that name seeds: `--seed` and `--seeds` mean the same; a command that takes one seed refuses several."""

from typing import Annotated

import typer

from thalweg.limits import MAX_SEEDS, check_count
from thalweg.seeds import read_seeds

SEED_FLAGS = ("--seed", "--seeds")

Seeds = Annotated[str, typer.Option("--seeds", "--seed", help="seeds of the images such as 3 or 0,4,7 or 0-7")]


def seeds_or_count(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as "0,4,7" or "0-2"; of a number alone, so many seeds from 0.

    Raises:
        UsageError: as `read_seeds`, or the number is 0.
    """
    seeds = read_seeds(text)
    if len(seeds) > 1 or "," in text or "-" in text:
        return seeds
    return tuple(range(check_count("the number of runs", seeds[0], 1, MAX_SEEDS)))
