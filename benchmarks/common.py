"""Arguments, JSON output and the folder of the real sites, common to all benchmarks."""

import argparse
import json
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[2] / "shared" / "earth"
"""Folder of the real sites, next to the repository; not part of it."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the common arguments, for benchmarks that take more."""
    common = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_argument("--json", type=Path, help="also write the JSON object to this file")
    common.add_argument("--data", type=Path, default=SHARED, help="folder of the real sites")
    common.add_argument("--model", type=Path, help="model folder; the shipped weights by default")
    return common


def arguments(description: str | None) -> argparse.Namespace:
    """Parse the common arguments."""
    return parser(description).parse_args()


def report(results: dict[str, Any], path: Path | None) -> None:
    """Print the results as one JSON object on the last line, and write them to `path` if given."""
    rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in results.items()}
    if path is not None:
        path.write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded))
