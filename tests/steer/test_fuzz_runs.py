"""Damaged run folders: a one-line error or the same values as before; never a traceback, never other values."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.state import STATE
from thalweg.steer.imprinting.imprint import imprint
from thalweg.steer.imprinting.imprint_config import ImprintConfig
from thalweg.steer.navigation.history import TREE
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.navigation import Navigation
from thalweg.steer.navigation.prompt_edits import WordGroup
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.runs import RECORD, TRACE, Run
from thalweg.steer.tool_config import START, start_of

SEED = 20_260_101
HOSTILE = (None, True, -1, 2.5, 1e308, float("nan"), 10**30, "", "x" * 300, "../../etc", [], {}, [[]], {"a": 1})
TEXT_DAMAGE = (
    b"",
    b"\0",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 5_000,
    b"null",
    b'"x"',
    b"[]",
    b"{}",
)
Consumer = Callable[[Path, Any], object]


def plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def opened(folder: Path, toy: Any) -> str:
    run = Run.open_any(folder)
    assert toy.model.name
    return plain([run.operation, asdict(run.model), run.settings, asdict(ModelConfig.read(run.loading, str(folder)))])


def navigated(folder: Path, toy: Any) -> str:
    navigation = Navigation.open(folder, toy)
    nodes = [
        [node.number, node.parent, asdict(node.choice), node.seed, node.embedding.hash, node.words, node.point]
        + ([] if node.round is None else [asdict(node.round)])
        for node in navigation.nodes.values()
    ]
    return plain([asdict(navigation.config), nodes, navigation.node.number, dict(navigation.names)])


def optimized(folder: Path, toy: Any) -> str:
    run = Run.open(folder, "optimize", toy.model)
    config = OptimizeConfig.read(run)
    start = Embedding.load(folder / START, toy.model)
    result = optimize(toy, start, config, run=run)
    return plain([config.record(), result.score, result.embedding.hash, [asdict(row) for row in result.trace]])


def imprinted(folder: Path, toy: Any) -> str:
    run = Run.open(folder, "imprint", toy.model)
    config = ImprintConfig.read(run)
    result = imprint(toy, start_of(run, toy), config, run=run)
    return plain([config.record(), result.embedding.hash, result.trace])


def traced(folder: Path, toy: Any) -> str:
    run = Run.open(folder, "optimize", toy.model)
    return plain(run.read_numbers(("step", "score", "drift")))


def asked(folder: Path, toy: Any) -> str:
    run = Run.open_any(folder)
    return plain({"optimize": OptimizeConfig, "imprint": ImprintConfig}[run.operation].read(run).record())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, toy_class: type) -> dict[str, Path]:
    toy: Any = toy_class()
    at = tmp_path_factory.mktemp("runs")
    loading = vars(ModelConfig(steps=4))
    words = (WordGroup("colour", ("red", "green")), WordGroup("size", ("small", "large")))
    navigation = Navigation(toy, NavigateConfig("a ball", (0, 1), groups=words), at / "navigate", loading=loading)
    for choice in (lambda: navigation.choose(0, 0.7), navigation.none, navigation.fork):
        navigation.propose(2)
        choice()
    navigation.name(1, "good")
    config = OptimizeConfig("contrast", prompt="a ball", seeds=(0, 1), unseen=(5, 6), iterations=3)
    run = config.begin_run(at / "optimize", toy, loading)

    def cut_off(step: Any, images: Any) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(toy, start_of(run, toy), config, run=run, progress=cut_off)
    imprinting = ImprintConfig(3, prompt="a ball", unseen=2, iterations=5)
    run = imprinting.begin_run(at / "imprint", toy, loading)

    def cut_off_later(row: Any) -> None:
        if row["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imprint(toy, start_of(run, toy), imprinting, run=run, progress=cut_off_later)
    Run.create(at / "generate", "generate", toy.model, {"prompt": "a ball", "seeds": [0]}, loading)
    Run.create(at / "path", "path", toy.model, {"start": "a", "end": "b", "method": "slerp"}, loading)
    return {folder.name: folder for folder in at.iterdir()}


CASES: tuple[tuple[str, str, Consumer, int], ...] = (
    ("generate", RECORD, opened, 20),
    ("path", RECORD, opened, 20),
    ("navigate", RECORD, opened, 20),
    ("navigate", RECORD, navigated, 20),
    ("navigate", TREE, navigated, 40),
    ("navigate", "nodes/001.safetensors", navigated, 20),
    ("optimize", RECORD, asked, 30),
    ("optimize", TRACE, traced, 0),
    ("optimize", TRACE, optimized, 20),
    ("optimize", STATE, optimized, 20),
    ("optimize", START, optimized, 10),
    ("imprint", RECORD, asked, 30),
    ("imprint", STATE, imprinted, 10),
)
"""Kind of run, the file that is damaged, what reads it, and how many bytes are flipped, one at a time."""


def bytewise(content: bytes, flips: int, draws: random.Random) -> Iterator[bytes]:
    yield from (content[: round(len(content) * share / 6)] for share in range(6))
    yield from TEXT_DAMAGE
    for _ in range(flips):
        at = draws.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << draws.randrange(8))]) + content[at + 1 :]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*path, name))


def swapped(record: Any, count: int, draws: random.Random) -> Iterator[Any]:
    every = list(places(record))
    for _ in range(count):
        path, other = draws.choice(every[1:]), draws.choice(HOSTILE)
        changed = json.loads(json.dumps(record))
        at = changed
        for name in path[:-1]:
            at = at[name]
        if draws.random() < 0.2:
            del at[path[-1]]
        else:
            at[path[-1]] = other
        yield changed


def read(consumer: Consumer, folder: Path, toy: Any) -> object:
    """Return a consumer's result; None if it raises a one-line error."""
    try:
        return consumer(folder, toy)
    except ThalwegError as refusal:
        assert str(refusal) and "\n" not in str(refusal), repr(refusal)
        assert len(str(refusal).replace(str(folder), "")) < 600, str(refusal)
        return None


@pytest.mark.parametrize(
    ("kind", "name", "consumer", "flips"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_damaged_bytes_are_refused_or_change_nothing(
    runs: dict[str, Path], toy: Any, tmp_path: Path, kind: str, name: str, consumer: Consumer, flips: int
) -> None:
    draws = random.Random(f"{SEED} {kind} {name}")
    content = (runs[kind] / name).read_bytes()
    expected = consumer(shutil.copytree(runs[kind], tmp_path / "whole"), toy)
    refused = 0
    for number, damaged in enumerate(bytewise(content, flips, draws)):
        folder = shutil.copytree(runs[kind], tmp_path / str(number))
        (folder / name).write_bytes(damaged)
        found = read(consumer, folder, toy)
        if consumer is traced:  # figures that are only shown carry no hash
            continue
        assert found is None or found == expected, (
            f"damage {number} of {kind}/{name}: read another value without an error"
        )
        refused += found is None
    assert consumer is traced or refused > 6


@pytest.mark.parametrize(
    ("kind", "name", "consumer"),
    [(kind, name, consumer) for kind, name, consumer, _ in CASES if name in (RECORD, TREE)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_values_of_another_type_raise_no_other_error_than_a_one_line_one_without_the_hash(
    runs: dict[str, Path], toy: Any, tmp_path: Path, kind: str, name: str, consumer: Consumer
) -> None:
    draws = random.Random(f"{SEED} {kind} {name} types")
    folder = shutil.copytree(runs[kind], tmp_path / "run")
    record = json.loads((folder / name).read_text())
    del record["hash"]
    for changed in swapped(record, 60, draws):
        (folder / name).write_text(json.dumps(changed))
        read(consumer, folder, toy)


@pytest.mark.parametrize(
    ("kind", "name", "consumer"),
    [(kind, name, consumer) for kind, name, consumer, _ in CASES if (name, consumer) != (TRACE, traced)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_file_that_is_missing_or_a_folder_raises_one_line_error(
    runs: dict[str, Path], toy: Any, tmp_path: Path, kind: str, name: str, consumer: Consumer
) -> None:
    expected = consumer(shutil.copytree(runs[kind], tmp_path / "whole"), toy)
    for replaced in (False, True):
        folder = shutil.copytree(runs[kind], tmp_path / f"run-{replaced}")
        (folder / name).unlink()
        if replaced:
            (folder / name).mkdir()
        if name == STATE and not replaced:  # it begins again, with the same result
            assert read(consumer, folder, toy) == expected
        else:
            assert read(consumer, folder, toy) is None


def test_an_embedding_of_another_run_is_refused(runs: dict[str, Path], toy: Any, tmp_path: Path) -> None:
    own = shutil.copytree(runs["navigate"], tmp_path / "own")
    shutil.copytree(runs["navigate"], tmp_path / "other")
    record = json.loads((own / TREE).read_text())
    del record["hash"]
    record["nodes"][1]["embedding"] = "../other/nodes/001.safetensors"
    (own / TREE).write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"expected node 1 in nodes/001\.safetensors"):
        Navigation.open(own, toy)


def test_a_tree_with_a_cycle_is_refused(runs: dict[str, Path], toy: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(runs["navigate"], tmp_path / "run")
    record = json.loads((folder / TREE).read_text())
    del record["hash"]
    record["nodes"][1]["parent"] = 2
    (folder / TREE).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="expected a parent before it"):
        Navigation.open(folder, toy)


def test_runs_of_before_the_hash_are_read(runs: dict[str, Path], toy: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(runs["navigate"], tmp_path / "run")
    expected = navigated(folder, toy)
    for name in (RECORD, TREE):
        record = json.loads((folder / name).read_text())
        del record["hash"]
        (folder / name).write_text(json.dumps(record))
    assert navigated(folder, toy) == expected
