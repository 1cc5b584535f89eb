"""Simulate varied landscapes for training, one folder per landscape.

usage: python scripts/training_landscapes.py OUT [--count 240] [--size 48] [--years 1] [--workers 2]

The six climates take turns, and seeds run upwards from 2000. Soils, plants, farming, atmosphere, sensors and the first
month differ between landscapes (`variety` of `thalweg.simulate.simulate`). A folder is written whole or not at all;
folders that exist already are kept, so that a killed run resumes.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from thalweg.simulate import Climate, simulate

FIRST_SEED = 2000
FIRST_YEAR, LAST_YEAR = 2017, 2021


def make_landscapes(out: Path, count: int = 240, size: int = 48, years: int = 1, workers: int = 2) -> list[Path]:
    """Simulate landscapes that do not exist yet.

    Args:
        out: Folder of the landscapes; created if missing.
        count: Number of landscapes, those that exist already included.
        size: Pixels of 10 m along each side.
        years: Length of the series in years.
        workers: Number of processes; 1 simulates in this process.

    Returns:
        The folders of all landscapes, in the order of their seeds.

    Raises:
        UsageError: The size or the number of years is invalid.
    """
    climates: tuple[Climate, ...] = get_args(Climate)
    landscapes = [(climates[index % len(climates)], FIRST_SEED + index) for index in range(count)]
    folders = [out / f"{climate}-{seed}" for climate, seed in landscapes]
    missing = [job for job in zip(landscapes, folders, strict=True) if not job[1].exists()]
    make = partial(_make_landscape, size=size, years=years)
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        for done, folder in enumerate((pool.map if pool else map)(make, missing), start=1):
            print(f"{done} of {len(missing)}: {folder}", flush=True)
    return folders


def _make_landscape(job: tuple[tuple[Climate, int], Path], size: int, years: int) -> Path:
    """Simulate a landscape whose series starts with a month that is drawn from its seed."""
    (climate, seed), folder = job
    rng = np.random.default_rng(seed)
    start = f"{rng.integers(FIRST_YEAR, LAST_YEAR + 1)}-{rng.integers(1, 13):02d}-01"
    return simulate(seed, size, years, climate, start, variety=1.0).write(folder)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Simulate varied landscapes for training.")
    parser.add_argument("out", type=Path, help="folder of the landscapes")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--size", type=int, default=48, help="pixels of 10 m along each side")
    parser.add_argument("--years", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    make_landscapes(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
