"""Desks under pressure: Stop ends a job within one image, runs stay their makers', damaged runs are one line."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thalweg.app.jobs import JobQueue
from thalweg.app.steering import views
from thalweg.app.steering.imprint_session import ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import NavigateSession
from thalweg.app.steering.optimize_session import BEFORE_AFTER, OptimizeSession
from thalweg.app.steering.session import Session, Studio
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import MAX_SEEDS
from thalweg.steer.navigation.history import TREE
from thalweg.steer.runs import RECORD, TRACE

ANNA, BEN = "a" * 32, "b" * 32
MANY = f"0-{MAX_SEEDS - 1}"
AN_IMAGE = 3.0
"""Seconds: an image of two denoising steps takes a hundredth of that, all seeds more than ten times as long."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    choice = ModelConfig(steps=2, gradient="full")
    queue = JobQueue()
    yield Studio(Workspace(tmp_path_factory.mktemp("workspace")), queue, choice, choice.load(), choice.load_scorer)
    queue.close()


def wait(desk: Session, until: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert desk.job is None or desk.job.status != "failed", desk.job.reason
        assert time.monotonic() < deadline, f"{desk.status} after {seconds} s"
        time.sleep(0.01)


def done(desk: Session) -> None:
    wait(desk, lambda: desk.job is not None and not desk.job.active)
    assert desk.job is not None and desk.job.status == "done"


def stops(desk: Session) -> None:
    """Stop what is under way, and show that it ends soon."""
    wait(desk, lambda: desk.job is not None and desk.job.status == "running")
    time.sleep(0.3)
    assert desk.job is not None and desk.job.status == "running"
    desk.stop()
    wait(desk, lambda: desk.job is not None and not desk.job.active, AN_IMAGE)
    assert desk.job.status == "stopped"


def test_stop_ends_the_rendering_of_many_seeds(studio: Studio) -> None:
    desk = SeedsSession(studio, ANNA)
    desk.start("a ball", MANY)
    wait(desk, lambda: desk.rendered)
    stops(desk)
    assert 0 < len(desk.rendered) < MAX_SEEDS


def test_stop_ends_a_round_of_many_seeds_which_can_be_found_again(studio: Studio) -> None:
    desk = NavigateSession(studio, ANNA)
    desk.start("a ball", MANY, 2)
    stops(desk)
    desk.start("a ball", "0,1", 3)
    wait(desk, lambda: desk.walk is not None and len(desk.walk.found) > 0)
    desk.stop()
    wait(desk, lambda: desk.job is not None and not desk.job.active, AN_IMAGE)
    desk.show_on("5")
    done(desk)
    assert desk.walk is not None and len(desk.walk.found) == 3
    desk.show_on(MANY)
    stops(desk)


def test_stop_ends_an_optimisation_of_many_seeds_and_shows_what_it_has(studio: Studio) -> None:
    desk = OptimizeSession(studio, ANNA)
    desk.start("a ball", MANY, "sharpness", "", 20)
    stops(desk)
    desk.start("a ball", "0-9", "sharpness", 'text: "a ball"', 50)
    wait(desk, lambda: desk.run is not None and len(desk.run.read_trace()) > 2)
    desk.stop()
    wait(desk, lambda: desk.job is not None and not desk.job.active, AN_IMAGE)
    assert desk.file(BEFORE_AFTER).is_file()
    assert desk.best.hash
    assert "tw-stage" in views.optimize(desk)


def test_stop_ends_an_imprint(studio: Studio) -> None:
    seeds, desk = SeedsSession(studio, ANNA), ImprintSession(studio, ANNA)
    seeds.start("a ball", "3")
    done(seeds)
    seeds.like(3)
    desk.start(seeds, "the colour", 1000, unseen=MAX_SEEDS)
    stops(desk)


def test_a_stop_in_the_middle_of_a_candidate_loses_none(studio: Studio) -> None:
    from thalweg.steer.navigation.navigation import NavigateConfig, Navigation

    class Cut(Exception):  # noqa: N818
        pass

    calls, cut_at = 0, 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == cut_at:
            raise Cut

    generator: Any = studio.choice.load()
    whole = [one.embedding.hash for one in Navigation(generator, NavigateConfig("a ball", one_by_one=True)).propose(3)]
    walk = Navigation(generator.interruptible(check), NavigateConfig("a ball", one_by_one=True))
    found: list[Any] = []
    for cut in (1, 4, 7):
        cut_at = calls + cut
        with pytest.raises(Cut):
            list(walk.candidates(3))
        assert [one.embedding.hash for one in walk.found] == whole[: len(walk.found)]
    found = list(walk.candidates(3))
    assert [one.embedding.hash for one in found] == whole


def test_an_interruptible_model_renders_the_same_images(studio: Studio) -> None:
    import torch

    generator: Any = studio.choice.load()
    called: list[int] = []
    with torch.no_grad():
        embedding = generator.embed("a ball")
        one = generator.interruptible(lambda: called.append(1)).render(embedding, [3, 1, 2])
        torch.testing.assert_close(one, generator.render(embedding, [3, 1, 2]), atol=1e-5, rtol=0)
    assert len(called) >= 3 * 3


@pytest.fixture
def owned(studio: Studio) -> Iterator[SeedsSession]:
    desk = SeedsSession(studio, ANNA)
    desk.start("a ball", "0,1")
    done(desk)
    yield desk
    if desk.folder is not None:
        shutil.rmtree(desk.folder, ignore_errors=True)


def test_nobody_starts_from_or_opens_another_persons_run(studio: Studio, owned: SeedsSession) -> None:
    assert owned.folder is not None
    name = f"{owned.folder.name}/embedding.safetensors"
    studio.start(ANNA, name)
    for kind in (SeedsSession, NavigateSession, OptimizeSession):
        desk = kind(studio, BEN)
        desk.attempt(lambda desk=desk: desk.start(name, "0", *[3] * (kind is NavigateSession)))  # noqa: B023
        assert desk.problem and desk.run is None if isinstance(desk, SeedsSession) else desk.problem
    with pytest.raises(UsageError, match="of yours"):
        studio.start(BEN, name)
    with pytest.raises(UsageError, match="of yours"):
        SeedsSession(studio, BEN).open(owned.folder.name)


@pytest.mark.parametrize("place", ["run", "store.zarr", ".people", ".."])
def test_nothing_is_saved_in_a_run_or_a_store(studio: Studio, owned: SeedsSession, place: str) -> None:
    assert owned.folder is not None
    (studio.workspace.folder / "store.zarr").mkdir(exist_ok=True)
    folder = owned.folder.name if place == "run" else place
    before = sorted(studio.workspace.folder.rglob("*"))
    for name in (f"{folder}/x", f"{folder}/embedding", f"{folder}/nodes/000", f"{folder}\\x"):
        for person in (ANNA, BEN):
            with pytest.raises(UsageError, match="expected a name"):
                SeedsSession(studio, person).export(owned.embedding, name)
    assert sorted(studio.workspace.folder.rglob("*")) == before


DAMAGE = (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"null", b'{"settings": 5}')


@pytest.mark.parametrize("name", [RECORD, "embedding.safetensors"])
def test_a_damaged_run_is_one_line_and_the_desk_goes_on(studio: Studio, owned: SeedsSession, name: str) -> None:
    assert owned.folder is not None
    for damage in DAMAGE:
        (owned.folder / name).write_bytes(damage)
        desk = SeedsSession(studio, ANNA)  # opens what was open
        desk.attempt(lambda desk=desk: (desk.open(owned.folder.name), desk.embedding))  # type: ignore[misc, union-attr]
        assert desk.problem and "\n" not in desk.problem
        assert str(studio.workspace.folder) not in desk.problem
        assert "tw-problem" in views.seeds(desk)
    desk.start("a cube", "0")
    done(desk)


@pytest.mark.parametrize("seeds", [None, 5, "0-3", [1.5], ["1"], [], [-1], [1, 1], list(range(5000)), [10**30]])
def test_a_run_whose_seeds_are_none_is_one_line(studio: Studio, owned: SeedsSession, seeds: Any) -> None:
    assert owned.folder is not None
    record = json.loads((owned.folder / RECORD).read_text())
    del record["hash"]
    record["settings"]["seeds"] = seeds
    (owned.folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="its seeds can't be read"):
        SeedsSession(studio, BEN).load(owned.folder)


def test_damaged_figures_of_a_run_are_one_line(studio: Studio) -> None:
    desk = OptimizeSession(studio, ANNA)
    desk.start("a ball", "0", "sharpness", "", 1)
    done(desk)
    assert "On unseen seeds" in views.optimize(desk)
    for name in (TRACE, "unseen.json"):
        content = desk.file(name).read_bytes()
        damage = (
            DAMAGE[1:-1] if name != TRACE else (b"step,score\n1,x\n", b"step,score,best\n1\n", b"\xff", b"a\0b\n1\n")
        )
        for damaged in damage:
            desk.file(name).write_bytes(damaged)
            with pytest.raises(ThalwegError, match=r"can't be read|expected") as refusal:
                views.optimize(desk)
            assert "\n" not in str(refusal.value)
        desk.file(name).write_bytes(content)
    assert "On unseen seeds" in views.optimize(desk)


def test_a_damaged_walk_is_one_line(studio: Studio) -> None:
    desk = NavigateSession(studio, ANNA)
    desk.start("a ball", "0", 1)
    done(desk)
    folder = desk.folder
    assert folder is not None
    for damage in DAMAGE:
        (folder / TREE).write_bytes(damage)
        other = NavigateSession(studio, ANNA)
        other.attempt(lambda other=other: other.open(folder.name))
        wait_for_end(other)
        reason = other.problem or (other.job.reason if other.job is not None else "")
        assert f"{folder.name}: its {TREE} can't be read" in reason
        assert str(studio.workspace.folder) not in reason


def wait_for_end(desk: Session) -> None:
    deadline = time.monotonic() + 30
    while desk.job is not None and desk.job.active:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_wish_that_fails_in_any_way_leaves_the_desk_usable(studio: Studio) -> None:
    desk = SeedsSession(studio, ANNA)
    for error in (KeyError("x"), RecursionError(), OSError(f"{Path.home()}/x/y: full"), ValueError("a\nb")):
        desk.attempt(lambda error=error: (_ for _ in ()).throw(error))
        assert desk.problem and "\n" not in desk.problem and str(Path.home() / "x") not in desk.problem
    desk.start("a ball", "0")
    done(desk)
    assert threading.active_count() < 100


def test_words_that_the_model_does_not_know_are_said_on_the_page(studio: Studio) -> None:
    desk = SeedsSession(studio, ANNA)
    desk.start("a red dragon", "1")
    done(desk)
    assert desk.status == "The miniature does not know: dragon; use other words or another model."
    assert desk.status in views.seeds(desk)
    desk.start("a red ball", "1")
    done(desk)
    assert desk.status == ""


@pytest.mark.parametrize(
    "text", ["vectors.npy", "BALL.PTH", "/etc/passwd", "../other", "a <lora:x:1> ball", "a caf\udce9"]
)
def test_what_is_no_prompt_is_refused_on_every_tab(studio: Studio, text: str) -> None:
    for begin in (
        lambda: SeedsSession(studio, ANNA).start(text, "1"),
        lambda: NavigateSession(studio, ANNA).start(text, "1", 2),
        lambda: OptimizeSession(studio, ANNA).start(text, "1", "sharpness", "", 1),
    ):
        with pytest.raises(UsageError, match="expected a prompt") as raised:
            begin()
        assert str(studio.workspace.folder) not in str(raised.value)
