"""Progress of a command on the terminal: one line per step before the work, one bar during it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """Callback of a progress bar."""

    def __call__(self, done: int, total: int, stage: str = "") -> None:
        """Show `done` of `total` units, with the name of the stage in front."""
        ...


def announce(step: str) -> None:
    """Print the step that begins, such as "loading the model", to stderr; nothing where that is no terminal."""
    if sys.stderr.isatty():
        print(f"{step} ...", file=sys.stderr, flush=True)


def rate_text(speed: float | None, unit: str) -> str:
    """Return a rate in words: units per second, or seconds per unit where one takes longer; "" where unknown."""
    if not speed:
        return ""
    return f"{speed:,.0f} {unit}/s" if speed >= 1 else f"{1 / speed:,.0f} s per {unit.removesuffix('s')}"


@contextmanager
def progress(unit: str) -> Iterator[Show]:
    """Yield a callback that shows a bar with a rate and an estimate; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", rate="", total=None)

        def show(done: int, total: int, stage: str = "") -> None:
            bar.update(task, completed=done, total=total, description=stage)
            speed = bar.tasks[task].speed
            bar.update(task, rate=rate_text(speed, unit))

        yield show
