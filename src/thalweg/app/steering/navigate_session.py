"""Tool 2 at a desk: a walk by choices."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch

from thalweg.app.jobs import RenderJob
from thalweg.app.steering.session import Session
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.image_files import png
from thalweg.limits import MAX_STRENGTH, MIN_STRENGTH, check_count, check_number, check_text
from thalweg.seeds import read_seeds
from thalweg.steer.navigation.navigation import NavigateConfig, Navigation

MOST = 9
"""Candidates of a round: as many as there are number keys."""


class NavigateSession(Session):
    """A navigation: every wish is a job, and what it led to lies in the run folder.

    Attributes:
        walk: the navigation; None where none is open.
        count: candidates of a round.
        others: seeds beside the walk's own on which the current embedding is shown.
    """

    operation: ClassVar[str] = "navigate"

    walk: Navigation | None = None
    count: int = 5
    others: tuple[int, ...] = ()

    def load(self, folder: Path) -> None:
        """Take up a navigation; its candidates are found again."""
        self.studio.open(folder, self.operation)

        def take_up(job: RenderJob) -> None:
            job.check()
            self.walk, self.others = Navigation.open(folder, self.studio.generator), ()
            self.sit_at(folder)
            self._find(job)

        self.submit(take_up)

    def start(self, text: str, seeds: str, count: int) -> None:
        """Begin a walk at a prompt or an embedding file, each image on all `seeds`.

        Raises:
            UsageError: nothing to start from, seeds at fault, or more candidates than number keys.
        """
        make_start, numbers = self.studio.start(self.person, text), read_seeds(seeds)
        count = check_count("the number of candidates", count, 1, MOST)

        def begin(job: RenderJob) -> None:
            job.check()
            start = make_start()
            folder = self.atomic_folder(start.lineage.prompt)
            settings = NavigateConfig(start.lineage.prompt, numbers, one_by_one=True)
            self.walk = Navigation(self.studio.generator, settings, folder, start, loading=asdict(self.studio.choice))
            self.count, self.others = count, ()
            self.sit_at(folder)
            self._find(job)

        self.submit(begin)

    def choose(self, index: int, strength: float) -> None:
        """Go toward a candidate (from 0)."""
        check_count("the candidate", index, 0, MOST)
        check_number("the strength", strength, MIN_STRENGTH, MAX_STRENGTH)
        self._step(lambda walk: walk.choose(index, strength))

    def none(self) -> None:
        """Say that no candidate is better."""
        self._step(lambda walk: walk.none())

    def undo(self) -> None:
        """Take the last choice back."""
        self._step(lambda walk: walk.undo())

    def go(self, number: int) -> None:
        """Return to a node of the tree."""
        check_count("the node", number, 0, len(self.opened.nodes) - 1)
        self._step(lambda walk: walk.go(number))

    def fork(self, number: int) -> None:
        """Begin a branch at a node."""
        self._step(lambda walk: walk.fork(number))

    def name(self, number: int, name: str) -> None:
        """Name a node."""
        self.opened.name(number, check_text("the name", name)[:60])
        self.changed()

    def show_on(self, seeds: str) -> None:
        """Show the current embedding on other seeds too.

        Raises:
            UsageError: seeds at fault, or no walk is open.
        """
        numbers, walk = read_seeds(seeds), self.opened

        def render(job: RenderJob) -> None:
            self.others = ()
            for number in numbers:
                job.check()
                path = self.file(f"{self.round}/seed-{number}.png")
                if not path.is_file():
                    with torch.no_grad():
                        atomic_write(path, png(self.studio.generator.render(walk.current, [number])[0], path.name))
                self.others += (number,)
                self.changed()
            self._find(job)

        self.submit(render)

    @property
    def opened(self) -> Navigation:
        """The walk; `UsageError` where none is open."""
        if self.walk is None:
            raise UsageError("expected a walk: start one with a prompt, or open one")
        return self.walk

    @property
    def round(self) -> str:
        """The folder of the current round within the run."""
        return f"rounds/{self.opened.node.number:03d}"

    def _step(self, wish: Callable[[Navigation], Any]) -> None:
        walk, shown = self.opened, self.opened.node.number

        def take(job: RenderJob) -> None:
            if walk.node.number == shown:  # else the click was meant for a round that is over
                wish(walk)
                self.others = ()
            self._find(job)

        self.submit(take)

    def _find(self, job: RenderJob) -> None:
        """Render the current embedding and its candidates, one after the other."""
        walk = self.opened
        job.check()
        _ = walk.images
        self.changed()
        for _ in walk.candidates(self.count):
            self.changed()
            job.check()
