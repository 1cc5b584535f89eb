"""Sessions: a stopped job ends within one image, runs belong to their users, a damaged run is one line."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from thalweg import threads
from thalweg.app.jobs import JobQueue
from thalweg.app.steering import views
from thalweg.app.steering.imprint_session import ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import NavigateSession
from thalweg.app.steering.optimize_session import BEFORE_AFTER, OptimizeSession
from thalweg.app.steering.session import Session, SteeringContext
from thalweg.app.workspace import Workspace
from thalweg.diffusion import generator as generator_module
from thalweg.diffusion.config import ModelConfig
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.image_files import png, read_image
from thalweg.limits import MAX_SEEDS
from thalweg.steer.navigation.history import TREE
from thalweg.steer.runs import RECORD, TRACE
from waiting import HANG_SECONDS, wait_until

ANNA, BEN, CARL = "a" * 32, "b" * 32, "c" * 32
MANY = f"0-{MAX_SEEDS - 1}"
CALLS_AFTER_STOP = 64
"""Images in denoiser calls after a stop: batches have 8 images, images 2 steps; all seeds take thousands of calls."""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteeringContext]:
    config = ModelConfig(steps=2, gradient="full")
    queue = JobQueue()
    yield SteeringContext(
        Workspace(tmp_path_factory.mktemp("workspace")), queue, config, config.load(), config.load_scorer
    )
    queue.close()


def use_cores(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Let the model take this machine for one of `cores` cores."""
    for module in (threads, generator_module):
        monkeypatch.setattr(module, "available_cores", lambda: cores)


def wait(session: Session, until: Callable[[], object]) -> None:
    def condition() -> bool:
        assert session.job is None or session.job.status != "failed", session.job.reason
        return bool(until())

    wait_until(condition)


def done(session: Session) -> None:
    wait(session, lambda: session.job is not None and not session.job.active)
    assert session.job is not None and session.job.status == "done"


def end_soon(session: Session) -> None:
    """Stop the active job, and show that it ends within a few denoiser calls."""
    generator: Any = session.context.generator
    session.stop()
    calls = generator.calls
    wait(session, lambda: session.job is not None and not session.job.active)
    assert generator.calls - calls <= CALLS_AFTER_STOP


def stops(session: Session) -> None:
    """Let the active job render for some denoiser calls, then stop it."""
    generator: Any = session.context.generator
    calls = generator.calls
    wait(session, lambda: session.job is not None and session.job.status == "running")
    wait(session, lambda: generator.calls > calls + 4)
    assert session.job is not None and session.job.status == "running"
    end_soon(session)
    assert session.job.status == "stopped"


@pytest.mark.parametrize("cores", [1, 3])
def test_stop_ends_the_rendering_of_many_seeds_and_others_go_on(
    context: SteeringContext, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    use_cores(monkeypatch, cores)
    session, other = SeedsSession(context, ANNA), SeedsSession(context, CARL)
    before = session.folder
    session.start("a ball", MANY)
    other.start("a cube", "0-3")
    wait(session, lambda: session.folder != before and session.rendered)
    stops(session)
    assert 0 < len(session.rendered) < MAX_SEEDS
    done(other)
    assert other.rendered == [0, 1, 2, 3]
    assert session.folder is not None
    images = {f"seed-{seed}.png" for seed in session.rendered}
    assert {path.name for path in session.folder.glob("*seed*")} == images, "no file is left half-written"
    for name in images:
        assert read_image(session.folder / name).shape == (3, 64, 64)


def renderings(monkeypatch: pytest.MonkeyPatch, finished: Callable[[], int]) -> list[tuple[int, int]]:
    """Let three renderings wait for each other; return the list of each one's number of seeds and images before it."""
    meeting, render, seen = threading.Barrier(3, timeout=HANG_SECONDS), DiffusionGenerator.render, []

    def meet(generator: DiffusionGenerator, embedding: Any, seeds: Any) -> Any:
        seen.append((len(seeds), finished()))
        meeting.wait()
        return render(generator, embedding, seeds)

    use_cores(monkeypatch, 3)
    monkeypatch.setattr(DiffusionGenerator, "render", meet)
    return seen


def test_seeds_are_rendered_side_by_side_in_groups_and_are_the_same_to_the_last_bit(
    context: SteeringContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SeedsSession(context, ANNA)
    with monkeypatch.context() as patched:
        seen = renderings(patched, lambda: len(session.rendered))
        session.start("a ball", "0-5")
        done(session)
    assert seen == [(1, 0)] * 3 + [(1, 3)] * 3, "the images of a group appear before the next group begins"
    use_cores(monkeypatch, 1)
    for seed in range(6):
        with torch.no_grad():
            alone = context.generator.render(session.embedding, [seed])[0]
        assert session.file(f"seed-{seed}.png").read_bytes() == png(alone)


def test_a_choice_is_shown_on_other_seeds_side_by_side(
    context: SteeringContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = NavigateSession(context, ANNA)
    session.start("a ball", "0", 1)
    done(session)
    session.show_on("11")
    done(session)
    first = session.file(f"{session.round}/seed-11.png").read_bytes()
    with monkeypatch.context() as patched:
        seen = renderings(patched, lambda: len(session.others))
        session.show_on("10-16")
        done(session)
    assert seen == [(1, 0)] * 3 + [(1, 4)] * 3, "seed 11 is rendered already"
    assert session.others == tuple(range(10, 17))
    use_cores(monkeypatch, 1)
    for seed in session.others:
        with torch.no_grad():
            alone = png(context.generator.render(session.opened.current, [seed])[0])
        assert session.file(f"{session.round}/seed-{seed}.png").read_bytes() == alone
    assert session.file(f"{session.round}/seed-11.png").read_bytes() == first


def test_stop_ends_a_round_of_many_seeds_which_can_be_found_again(context: SteeringContext) -> None:
    session = NavigateSession(context, ANNA)
    session.start("a ball", MANY, 2)
    stops(session)
    session.start("a ball", "0,1", 3)
    wait(session, lambda: session.navigation is not None and len(session.navigation.found) > 0)
    end_soon(session)
    session.show_on("5")
    done(session)
    assert session.navigation is not None and len(session.navigation.found) == 3
    session.show_on(MANY)
    stops(session)


def test_stop_ends_an_optimization_of_many_seeds_and_shows_its_images(
    context: SteeringContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = OptimizeSession(context, ANNA)
    session.start("a ball", MANY, "sharpness", "", 20)
    stops(session)
    session.start("a ball", "0-9", "sharpness", 'text: "a ball"', 50)
    wait(session, lambda: session.run is not None and len(session.run.read_trace()) > 2)
    end_soon(session)
    assert session.file(BEFORE_AFTER).is_file()
    assert session.best.hash
    drawn = views.optimize(session)
    assert "tw-stage" in drawn
    for time in (f"step {len(session.run.read_trace()) - 1}", "before", "after"):  # type: ignore[union-attr]
        assert [f'aria-label="{time}, seed {seed}"' in drawn for seed in range(11)] == [True] * 10 + [False]
    monkeypatch.setattr(views, "MAX_SHOWN_SEEDS", 4)
    assert views.optimize(session).count("<image ") == 3 * 4
    assert "the first 4 of 10 seeds" in views.optimize(session)


def test_stop_ends_an_imprint(context: SteeringContext) -> None:
    seeds, session = SeedsSession(context, ANNA), ImprintSession(context, ANNA)
    seeds.start("a ball", "3")
    done(seeds)
    seeds.select(3)
    session.start(seeds, "the colour", 1000, unseen=MAX_SEEDS)
    stops(session)


def test_a_stop_in_the_middle_of_a_candidate_loses_none(context: SteeringContext) -> None:
    from thalweg.steer.navigation.navigation import NavigateConfig, Navigation

    class Cut(Exception):  # noqa: N818
        pass

    calls, cut_at = 0, 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == cut_at:
            raise Cut

    generator: Any = context.model_config.load()
    whole = [one.embedding.hash for one in Navigation(generator, NavigateConfig("a ball", one_by_one=True)).propose(3)]
    navigation = Navigation(generator.interruptible(check), NavigateConfig("a ball", one_by_one=True))
    found: list[Any] = []
    for cut in (1, 4, 7):
        cut_at = calls + cut
        with pytest.raises(Cut):
            list(navigation.candidates(3))
        assert [one.embedding.hash for one in navigation.found] == whole[: len(navigation.found)]
    found = list(navigation.candidates(3))
    assert [one.embedding.hash for one in found] == whole


def test_an_interruptible_model_renders_the_same_images(context: SteeringContext) -> None:
    generator: Any = context.model_config.load()
    called: list[int] = []
    with torch.no_grad():
        embedding = generator.embed("a ball")
        one = generator.interruptible(lambda: called.append(1)).render(embedding, [3, 1, 2])
        torch.testing.assert_close(one, generator.render(embedding, [3, 1, 2]), atol=1e-5, rtol=0)
    assert len(called) > generator.steps


@pytest.fixture
def owned(context: SteeringContext) -> Iterator[SeedsSession]:
    session = SeedsSession(context, ANNA)
    session.start("a ball", "0,1")
    done(session)
    yield session
    if session.folder is not None:
        shutil.rmtree(session.folder, ignore_errors=True)


def test_no_user_starts_from_or_opens_another_users_run(context: SteeringContext, owned: SeedsSession) -> None:
    assert owned.folder is not None
    name = f"{owned.folder.name}/embedding.safetensors"
    context.read_start(ANNA, name)
    for kind in (SeedsSession, NavigateSession, OptimizeSession):
        session = kind(context, BEN)
        session.attempt(lambda session=session: session.start(name, "0", *[3] * (kind is NavigateSession)))  # noqa: B023
        assert session.problem and session.run is None if isinstance(session, SeedsSession) else session.problem
    with pytest.raises(UsageError, match="of yours"):
        context.read_start(BEN, name)
    with pytest.raises(UsageError, match="of yours"):
        SeedsSession(context, BEN).open(owned.folder.name)


@pytest.mark.parametrize("place", ["run", "store.zarr", ".people", ".."])
def test_nothing_is_saved_in_a_run_or_a_store(context: SteeringContext, owned: SeedsSession, place: str) -> None:
    assert owned.folder is not None
    (context.workspace.folder / "store.zarr").mkdir(exist_ok=True)
    folder = owned.folder.name if place == "run" else place
    before = sorted(context.workspace.folder.rglob("*"))
    for name in (f"{folder}/x", f"{folder}/embedding", f"{folder}/nodes/000", f"{folder}\\x"):
        for user in (ANNA, BEN):
            with pytest.raises(UsageError, match="expected a name"):
                SeedsSession(context, user).export(owned.embedding, name)
    assert sorted(context.workspace.folder.rglob("*")) == before


DAMAGE = (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"[]", b"null", b'{"settings": 5}')


@pytest.mark.parametrize("name", [RECORD, "embedding.safetensors"])
def test_a_damaged_run_raises_one_line_error_and_the_session_works_on(
    context: SteeringContext, owned: SeedsSession, name: str
) -> None:
    assert owned.folder is not None
    for damage in DAMAGE:
        (owned.folder / name).write_bytes(damage)
        session = SeedsSession(context, ANNA)  # opens what was open
        session.attempt(lambda session=session: (session.open(owned.folder.name), session.embedding))  # type: ignore[misc, union-attr]
        assert session.problem and "\n" not in session.problem
        assert str(context.workspace.folder) not in session.problem
        assert "tw-problem" in views.seeds(session)
    session.start("a cube", "0")
    done(session)


@pytest.mark.parametrize("seeds", [None, 5, "0-3", [1.5], ["1"], [], [-1], [1, 1], list(range(5000)), [10**30]])
def test_a_run_with_invalid_seeds_raises_one_line_error(
    context: SteeringContext, owned: SeedsSession, seeds: Any
) -> None:
    assert owned.folder is not None
    record = json.loads((owned.folder / RECORD).read_text())
    del record["hash"]
    record["settings"]["seeds"] = seeds
    (owned.folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="its seeds can't be read"):
        SeedsSession(context, BEN).load(owned.folder)


def test_damaged_figures_of_a_run_raise_one_line_error(context: SteeringContext) -> None:
    session = OptimizeSession(context, ANNA)
    session.start("a ball", "0", "sharpness", "text: a ball", 1)
    done(session)
    assert "On unseen seeds" in views.optimize(session)
    assert session.config is not None and session.config.keep == "text: a ball"
    assert "<p>lost of text: a ball: " in views.optimize(session)
    for name in (TRACE, "unseen.json", "report.json", BEFORE_AFTER):
        content = session.file(name).read_bytes()
        damage = (
            DAMAGE[1:-1] if name != TRACE else (b"step,score\n1,x\n", b"step,score,best\n1\n", b"\xff", b"a\0b\n1\n")
        )
        for damaged in damage:
            session.file(name).write_bytes(damaged)
            with pytest.raises(ThalwegError, match=r"can't be read|expected") as refusal:
                views.optimize(session)
            assert "\n" not in str(refusal.value)
        session.file(name).write_bytes(content)
    assert "On unseen seeds" in views.optimize(session)


def test_a_damaged_navigation_raises_one_line_error(context: SteeringContext) -> None:
    session = NavigateSession(context, ANNA)
    session.start("a ball", "0", 1)
    done(session)
    folder = session.folder
    assert folder is not None
    for damage in DAMAGE:
        (folder / TREE).write_bytes(damage)
        other = NavigateSession(context, ANNA)
        other.attempt(lambda other=other: other.open(folder.name))
        wait_for_end(other)
        reason = other.problem or (other.job.reason if other.job is not None else "")
        assert f"{folder.name}: its {TREE} can't be read" in reason
        assert str(context.workspace.folder) not in reason


def wait_for_end(session: Session) -> None:
    wait_until(lambda: session.job is None or not session.job.active)


def test_an_action_that_fails_in_any_way_leaves_the_session_usable(context: SteeringContext) -> None:
    session = SeedsSession(context, ANNA)
    for error in (KeyError("x"), RecursionError(), OSError(f"{Path.home()}/x/y: full"), ValueError("a\nb")):
        session.attempt(lambda error=error: (_ for _ in ()).throw(error))
        assert session.problem and "\n" not in session.problem and str(Path.home() / "x") not in session.problem
    session.start("a ball", "0")
    done(session)
    assert threading.active_count() < 100


def test_unknown_words_are_named_on_the_page(context: SteeringContext) -> None:
    session = SeedsSession(context, ANNA)
    session.start("a red dragon", "1")
    done(session)
    assert session.status == "The miniature does not know: dragon; use other words or another model."
    assert session.status in views.seeds(session)
    session.start("a red ball", "1")
    done(session)
    assert session.status == ""


@pytest.mark.parametrize(
    "text", ["vectors.npy", "BALL.PTH", "/etc/passwd", "../other", "a <lora:x:1> ball", "a caf\udce9"]
)
def test_an_invalid_prompt_is_refused_on_every_tab(context: SteeringContext, text: str) -> None:
    for begin in (
        lambda: SeedsSession(context, ANNA).start(text, "1"),
        lambda: NavigateSession(context, ANNA).start(text, "1", 2),
        lambda: OptimizeSession(context, ANNA).start(text, "1", "sharpness", "", 1),
    ):
        with pytest.raises(UsageError, match="expected a prompt") as raised:
            begin()
        assert str(context.workspace.folder) not in str(raised.value)
