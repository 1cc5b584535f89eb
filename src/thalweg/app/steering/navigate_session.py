"""Session of the navigate tool: an embedding moves by choices between candidates."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from thalweg.app.jobs import RenderJob
from thalweg.app.steering.session import Session
from thalweg.errors import UsageError
from thalweg.generator import render_points
from thalweg.io.atomic import atomic_write
from thalweg.io.image_files import png
from thalweg.limits import MAX_STRENGTH, MIN_STRENGTH, check_count, check_number, check_text
from thalweg.seeds import read_seeds
from thalweg.steer.navigation.navigation import NavigateConfig, Navigation

MAX_SHOWN_CANDIDATES = 9
"""Candidates of a round: one per number key."""


class NavigateSession(Session):
    """Navigation in which every action is a job, and the run folder has its results.

    Attributes:
        navigation: the open navigation; None where none is open.
        count: number of candidates of a round.
        others: seeds, in addition to the navigation's own, on which the current embedding is shown.
    """

    operation: ClassVar[str] = "navigate"

    navigation: Navigation | None = None
    count: int = 5
    others: tuple[int, ...] = ()

    def load(self, folder: Path) -> None:
        """Open a navigation; a job finds its candidates again."""
        self.context.open_run(folder, self.operation)

        def open_navigation(job: RenderJob) -> None:
            job.check()
            self.navigation, self.others = Navigation.open(folder, self.context.generator), ()
            self.attach(folder)
            self._find(job)

        self.submit(open_navigation)

    def start(self, text: str, seeds: str, count: int) -> None:
        """Begin a navigation at a prompt or an embedding file, each candidate on all `seeds`.

        Raises:
            UsageError: no prompt and no embedding file, invalid seeds, or more candidates than number keys.
        """
        get_start, numbers = self.context.read_start(self.user, text), read_seeds(seeds)
        count = check_count("the number of candidates", count, 1, MAX_SHOWN_CANDIDATES)

        def begin(job: RenderJob) -> None:
            job.check()
            start = get_start()
            folder = self.new_run_folder(start.lineage.prompt)
            settings = NavigateConfig(start.lineage.prompt, numbers, one_by_one=True)
            self.navigation = Navigation(
                self.context.generator, settings, folder, start, loading=asdict(self.context.model_config)
            )
            self.count, self.others = count, ()
            self.attach(folder)
            self._find(job)

        self.submit(begin)

    def choose(self, index: int, strength: float) -> None:
        """Move toward a candidate, counted from 0.

        Args:
            index: the candidate.
            strength: share of the way to it.
        """
        check_count("the candidate", index, 0, MAX_SHOWN_CANDIDATES)
        check_number("the strength", strength, MIN_STRENGTH, MAX_STRENGTH)
        self._step(lambda navigation: navigation.choose(index, strength))

    def none(self) -> None:
        """Reject all candidates."""
        self._step(lambda navigation: navigation.none())

    def undo(self) -> None:
        """Undo the last choice."""
        self._step(lambda navigation: navigation.undo())

    def go(self, number: int) -> None:
        """Return to a node of the tree."""
        check_count("the node", number, 0, len(self.opened.nodes) - 1)
        self._step(lambda navigation: navigation.go(number))

    def fork(self, number: int) -> None:
        """Begin a branch at a node."""
        self._step(lambda navigation: navigation.fork(number))

    def name(self, number: int, name: str) -> None:
        """Name a node."""
        self.opened.name(number, check_text("the name", name)[:60])
        self.changed()

    def show_on(self, seeds: str) -> None:
        """Show the current embedding on other seeds too.

        Raises:
            UsageError: invalid seeds, or no navigation is open.
        """
        numbers, navigation = read_seeds(seeds), self.opened

        def render(job: RenderJob) -> None:
            self.others = ()
            paths = {number: self.file(f"{self.round}/seed-{number}.png") for number in numbers}
            missing = {number: (navigation.current, [number]) for number, path in paths.items() if not path.is_file()}
            rendered = render_points(self.context.generator, list(missing.values()))
            for number, path in paths.items():
                job.check()
                if number in missing:
                    atomic_write(path, png(next(rendered)[0], path.name))
                self.others += (number,)
                self.changed()
            self._find(job)

        self.submit(render)

    @property
    def opened(self) -> Navigation:
        """The open navigation.

        Raises:
            UsageError: none is open.
        """
        if self.navigation is None:
            raise UsageError("expected a navigation: start one with a prompt, or open one")
        return self.navigation

    @property
    def round(self) -> str:
        """Folder of the current round within the run."""
        return f"rounds/{self.opened.node.number:03d}"

    def _step(self, action: Callable[[Navigation], Any]) -> None:
        navigation, shown = self.opened, self.opened.node.number

        def step(job: RenderJob) -> None:
            if navigation.node.number == shown:  # else the click belongs to an earlier round
                action(navigation)
                self.others = ()
            self._find(job)

        self.submit(step)

    def _find(self, job: RenderJob) -> None:
        """Render the current embedding and its candidates, one after the other."""
        navigation = self.opened
        job.check()
        _ = navigation.images
        self.changed()
        for _ in navigation.candidates(self.count):
            self.changed()
            job.check()
