"""Seeds of images: checked, and read from a text such as `0-7`."""

from collections.abc import Sequence

from thalweg.errors import UsageError
from thalweg.limits import MAX_SEED, MAX_SEEDS, shown


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds as a tuple of whole numbers.

    Args:
        seeds: whole numbers from 0 to `MAX_SEED`, distinct, at least one and at most `MAX_SEEDS`.

    Raises:
        UsageError: no seeds, too many, a repeated one, or one that no torch generator takes.
    """
    if not len(seeds):
        raise UsageError("expected at least one seed, got none")
    _check_seed_count(len(seeds))
    checked: dict[int, None] = {}
    for seed in seeds:
        if not hasattr(seed, "__index__") or isinstance(seed, bool):
            raise UsageError(f"expected seeds to be whole numbers, got {shown(seed)}")
        whole = int(seed)
        if whole < 0:
            raise UsageError(f"expected seeds of 0 or more, got {shown(whole)}")
        if whole > MAX_SEED:
            raise UsageError(f"expected seeds up to {MAX_SEED}, got {shown(whole)}")
        if whole in checked:
            raise UsageError(f"expected distinct seeds, got {whole} more than once")
        checked[whole] = None
    return tuple(checked)


def read_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as "3", "0,4,7" or "0-7".

    Raises:
        UsageError: the text holds no seeds, too many of them, or negative, too large or repeated ones.
    """
    if len(text) > MAX_SEEDS * (len(str(MAX_SEED)) + 2):  # digits, a comma and a space each
        raise UsageError(f"expected at most {MAX_SEEDS:,} seeds, got a text of {len(text):,} characters")
    ranges: list[range] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first and dash:
            raise UsageError(f"expected seeds of 0 or more, got {shown(part.strip())}")
        if not _is_decimal(first) or (dash and not _is_decimal(last)):
            raise UsageError(f"expected seeds such as 3 or 0,4,7 or 0-7, got {shown(text)}")
        for digits in (first, last):
            if len(digits.lstrip("0")) > len(str(MAX_SEED)) or int(digits or 0) > MAX_SEED:
                raise UsageError(f"expected seeds up to {MAX_SEED}, got {shown(digits)}")
        start, end = int(first), int(last if dash else first)
        if end < start:
            raise UsageError(f"expected a range of seeds from the lower to the higher, got {start}-{end}")
        ranges.append(range(start, end + 1))
    # A range of 2**63 numbers or more has no len().
    _check_seed_count(sum(seeds.stop - seeds.start for seeds in ranges))
    return check_seeds([seed for seeds in ranges for seed in seeds])


def read_seed(text: str) -> int:
    """Return the only seed in a text such as "3".

    Raises:
        UsageError: as `read_seeds`, or the text holds several seeds.
    """
    seeds = read_seeds(text)
    if len(seeds) > 1:
        raise UsageError(f"expected one seed here, such as 3, got {shown(text)}")
    return seeds[0]


def _check_seed_count(count: int) -> None:
    if count > MAX_SEEDS:
        raise UsageError(f"expected at most {MAX_SEEDS:,} seeds, got {count:,}: render them in parts")


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal()
