"""Numbers out of range and damaged run folders on the command line: one line, exit code 2, no files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="diffusers is not installed")

FEW = ("--steps", 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "a ball", "out", "--seeds", "0-1000000000"), "at most 4,096 seeds, got 1,000,000,001"),
        (("generate", "a ball", "out", "--seeds", "7-0"), "from the lower to the higher"),
        (("generate", "a ball", "out", "--seeds", "9" * 5000), "seeds up to 18446744073709551615"),
        (
            ("steer", "navigate", "a ball", "out", "--candidates", 10**9),
            "--candidates to be a whole number from 1 to 64",
        ),
        (("steer", "navigate", "a ball", "out", "--seed", -1), "seeds of 0 or more, got '-1'"),
        (("steer", "resume", "out", "--candidates", 0), "--candidates to be a whole number from 1 to 64"),
        (
            ("steer", "path", "a ball", "a cube", "out", "--count", 10**9),
            "--count to be a whole number from 2 to 1,000",
        ),
        (("steer", "imprint", "a ball", "out", "--seed", 2**64), "seeds up to 18446744073709551615"),
        (("steer", "imprint", "a ball", "out", "--seed", 0, "--unseen", 10**9), "from 1 to 4,096, got 1000000000"),
        (
            ("steer", "imprint", "a ball", "out", "--seed", 0, "--iterations", 10**9),
            "from 1 to 100,000, got 1000000000",
        ),
        (("steer", "imprint", "a ball", "out", "--seed", 0, "--radius", "nan"), "--radius to be a number from"),
        (("steer", "optimize", "a ball", "out", "--metric", "blur", "--iterations", 0), "from 1 to 100,000, got 0"),
        (
            ("steer", "optimize", "a ball", "out", "--metric", "blur", "--radius", "inf"),
            "--radius to be a number from",
        ),
        (("steer", "optimize", "a ball", "out", "--metric", "blur", "--unseen", "0-99999"), "at most 4,096 seeds"),
        (("miniature", "train", "out", "--images", 0), "--images to be a whole number from 1"),
        (("miniature", "evaluate", "--images", 10**12), "--images to be a whole number from 1"),
        (("earth", "simulate", "out", "--size", 10**9), "--size to be a whole number from 16 to 4,096"),
        (("earth", "simulate", "out", "--years", 10**9), "--years to be a whole number from 1 to 100"),
    ],
)
def test_a_number_out_of_range_raises_one_line_error(cli: Callable, arguments: tuple, words: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert words in ran.err
    assert not Path("out").exists()


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from thalweg.diffusion.config import ModelConfig
    from thalweg.steer.optimization.optimize import optimize
    from thalweg.steer.optimization.optimize_config import OptimizeConfig
    from thalweg.steer.tool_config import start_of

    folder = tmp_path_factory.mktemp("runs") / "run"
    model_config = ModelConfig(steps=2, gradient="full")
    config = OptimizeConfig("blur", (0,), prompt="a ball", unseen=(5,), iterations=2)
    generator = model_config.load()
    run = config.begin_run(folder, generator, vars(model_config))
    optimize(generator, start_of(run, generator), config, run=run)
    return folder


@pytest.mark.parametrize("name", ["run.json", "state.safetensors", "trace.csv", "start.safetensors"])
@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe\0", b"[" * 100_000], ids=["cut", "no text", "deep"])
def test_resuming_a_damaged_run_raises_one_line_error(cli: Callable, optimized: Path, name: str, damage: bytes) -> None:
    shutil.copytree(optimized, "run")
    (Path("run") / name).write_bytes(damage)
    before = sorted(Path("run").rglob("*"))
    ran = cli("steer", "resume", "run")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert "run" in ran.err and "Traceback" not in ran.err
    assert sorted(Path("run").rglob("*")) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loading", 5),
        ("loading", {"model": 5}),
        ("loading", {"colour": "red"}),
        ("settings", {}),
        ("operation", "cook"),
    ],
)
def test_a_run_with_changed_values_raises_one_line_error(
    cli: Callable, optimized: Path, field: str, value: object
) -> None:
    shutil.copytree(optimized, "run")
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**record, field: value}))
    ran = cli("steer", "resume", "run")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "it was changed since the tool wrote it" in ran.err
    del record["hash"]  # as runs of before the hash
    Path("run/run.json").write_text(json.dumps({**record, field: value}))
    ran = cli("steer", "resume", "run")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err


def test_exporting_from_a_damaged_run_writes_nothing(cli: Callable, optimized: Path) -> None:
    shutil.copytree(optimized, "run")
    for name in ("best.safetensors", "run.json"):
        content = (Path("run") / name).read_bytes()
        for damage in (b"", content[:40], content[:-3] + b"xyz"):
            (Path("run") / name).write_bytes(damage)
            ran = cli("steer", "export", "run", "best.safetensors")
            assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
            assert not Path("best.safetensors").exists()
        (Path("run") / name).write_bytes(content)
    assert cli("steer", "export", "run", "best.safetensors").code == 0
