"""Image commands on the shipped miniature: files, exit codes, one line on stderr."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thalweg.embedding import Embedding, Lineage, ModelIdentity

FEW = ("--steps", 4)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def assert_one_line_error(ran: object, code: int, *words: str) -> None:
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran.err  # type: ignore[attr-defined]
    for word in words:
        assert word in ran.err  # type: ignore[attr-defined]


class TestGenerate:
    def test_writes_images_and_an_embedding_that_renders_the_same(self, cli: Callable) -> None:
        assert cli("generate", "a red ball", "first", "--seeds", "0-2", *FEW).code == 0
        assert cli("generate", "first/embedding.safetensors", "second", "--seeds", "1", *FEW).code == 0
        assert {path.name for path in Path("first").glob("*.png")} == {
            "seed-0.png",
            "seed-1.png",
            "seed-2.png",
            "sheet.png",
        }
        assert pixels(Path("first/seed-1.png")).shape == (64, 64, 3)
        assert np.array_equal(pixels(Path("first/seed-1.png")), pixels(Path("second/seed-1.png")))
        assert not np.array_equal(pixels(Path("first/seed-1.png")), pixels(Path("first/seed-2.png")))

    def test_an_interrupted_run_is_resumed(self, cli: Callable) -> None:
        command = ("generate", "a red ball", "out", "--seeds", "0-2", *FEW)
        assert cli(*command).code == 0
        whole = {path.name: path.read_bytes() for path in Path("out").iterdir()}
        for name in ("seed-1.png", "sheet.png"):
            Path("out", name).unlink()
        kept = Path("out/seed-0.png").stat().st_mtime_ns
        assert cli(*command).code == 0
        assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == whole
        assert Path("out/seed-0.png").stat().st_mtime_ns == kept, "what is there is not rendered again"
        assert_one_line_error(cli("generate", "a red ball", "out", "--seeds", "0-3", *FEW), 2, "has seeds [0, 1, 2]")
        assert_one_line_error(cli(*command, "--negative", "blue"), 2, "negative")
        wide = cli("generate", "a red  ball", "out", "--seeds", "0-2", *FEW)
        assert_one_line_error(wide, 2, "'a red ball', asked for is 'a red  ball'")

    def test_changed_files_of_a_run_are_not_mixed_with_it(self, cli: Callable) -> None:
        assert cli("generate", "a ball", "first", *FEW).code == 0
        source = Path("first/embedding.safetensors")
        command = ("generate", source, "out", "--seeds", "0-2", *FEW)
        assert cli(*command).code == 0
        sheet, source_then = Path("out/sheet.png").read_bytes(), source.read_bytes()
        other = Embedding.load(source)
        Embedding({name: 2 * tensor for name, tensor in other.tensors.items()}, other.lineage).save(source)
        assert_one_line_error(cli(*command), 2, "first/embedding.safetensors was changed since the run began")
        source.write_bytes(source_then)
        image = Path("out/seed-1.png")
        Image.new("RGB", (8, 16)).save(image)
        assert_one_line_error(cli(*command), 2, "seed-1.png", "64 x 64", "got 8 x 16", "remove the file")
        image.write_bytes(Path("out/seed-2.png").read_bytes()[:100])
        assert_one_line_error(cli(*command), 2, "seed-1.png", "can't be read", "remove the file")
        image.unlink()
        assert cli(*command).code == 0
        assert Path("out/sheet.png").read_bytes() == sheet

    def test_adapters_sizes_and_a_negative_prompt(self, cli: Callable) -> None:
        import torch
        from safetensors.torch import save_file

        save_file({"zorb": torch.ones(1, 64)}, "narrow.safetensors")
        narrow = cli("generate", "a zorb", "bad", "--inversion", "narrow.safetensors", *FEW)
        assert_one_line_error(narrow, 1, "narrow.safetensors", "of width 64", "of width 128")
        save_file({"zorb": torch.ones(1, 128)}, "zorb.safetensors")
        assert cli("generate", "a zorb", "learned", "--inversion", "zorb.safetensors", *FEW).code == 0
        plain = cli("generate", "a ball", "plain", *FEW)
        guided = cli("generate", "a ball", "guided", "--negative", "a red ball", "--guidance-rescale", 0.5, *FEW)
        assert plain.code == guided.code == 0
        assert not np.array_equal(pixels(Path("plain/seed-0.png")), pixels(Path("guided/seed-0.png")))
        assert cli("generate", "a ball", "wide", "--width", 80, "--height", 48, *FEW).code == 0
        assert pixels(Path("wide/seed-0.png")).shape == (48, 80, 3)
        for option, value, words in (
            ("--lora", "none.safetensors:0.5", ("expected the file of a LoRA", "none.safetensors")),
            ("--inversion", "none.safetensors", ("textual inversion", "none.safetensors")),
            ("--width", 33, ("width", "33")),
            ("--guidance-rescale", 2, ("--guidance-rescale", "2")),
            ("--clip-skip", -1, ("--clip-skip", "-1")),
        ):
            assert_one_line_error(cli("generate", "a ball", "bad", option, value, *FEW), 2, *words)
            assert not Path("bad").exists()

    def test_a_long_prompt_says_what_was_cut(self, cli: Callable) -> None:
        ran = cli("generate", "a red ball " * 12 + "teal", "out", *FEW)
        assert ran.code == 0
        assert "teal" in ran.err and ran.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("a ball", "out", "--seeds", "-3"), ("0 or more", "-3")),
            (("a ball", "out", "--seeds", "1,1"), ("distinct", "1")),
            (("a ball", "out", "--seeds", "few"), ("0-7", "few")),
            (("a ball", "out", "--steps", "0"), ("steps", "0")),
            (("a ball", "out", "--scheduler", "leap"), ("ddim", "leap")),
            (("a ball", "out", "--model", "no-such-model"), ("no-such-model", "owner/model")),
            (("missing.safetensors", "out"), ("missing.safetensors",)),
            (("embedding.pt", "out"), ("pickles",)),
            (("learned/VECTORS.BIN", "out"), ("VECTORS.BIN", "pickles")),
            (("", "out"), ("got nothing",)),
            (("a caf\udce9", "out"), ("whole characters", "udce9")),
            (("a ball <lora:style:0.8>", "out"), ("lora:style", "adapters")),
            (("a ball", "out", "--scheduler", "lcm", "--steps", "60"), ("LCMScheduler", "60", "it takes 50")),
            (("a ball", "out", "--scheduler", "flow_euler"), ("flow_euler", "variance-preserving", "ddim")),
        ],
    )
    def test_invalid_arguments_raise_one_line_error_and_leave_nothing(
        self, cli: Callable, arguments: tuple, words: tuple
    ) -> None:
        assert_one_line_error(cli("generate", *arguments), 2, *words)
        assert not Path("out").exists()

    def test_syntax_and_unknown_words_are_one_warning_each(self, cli: Callable) -> None:
        ran = cli("generate", "a (red:1.4) dragon on snow", "out", "--steps", 2)
        assert ran.code == 0, ran.err
        syntax, unknown = ran.err.splitlines()
        assert syntax.startswith("thalweg: the prompt is read as plain text") and "(red:1.4)" in syntax
        assert unknown.startswith("thalweg: the miniature does not know: dragon, snow;")

    def test_a_run_folder_is_no_prompt_and_an_embedding_file_may_be_in_capitals(self, cli: Callable) -> None:
        assert cli("generate", "a ball", "first", "--steps", 2).code == 0
        assert_one_line_error(cli("generate", "first", "out"), 2, "a run folder", "first/embedding.safetensors")
        assert_one_line_error(cli("generate", "first/embedding", "out"), 2, "first/embedding.safetensors?")
        assert_one_line_error(
            cli("steer", "path", "a ball", "first/sheet.png", "out"), 2, "first/sheet.png", "another file"
        )
        assert not Path("out").exists()
        Path("first/embedding.safetensors").rename("BALL.SAFETENSORS")
        assert cli("generate", "BALL.SAFETENSORS", "out", "--steps", 2).code == 0
        assert np.array_equal(pixels(Path("first/seed-0.png")), pixels(Path("out/seed-0.png")))

    def test_an_embedding_of_another_model_is_refused(self, cli: Callable) -> None:
        import torch

        lineage = Lineage(ModelIdentity("another", "f" * 64))
        Embedding({"prompt": torch.zeros(2, 3)}, lineage).save("other.safetensors")
        assert_one_line_error(cli("generate", "other.safetensors", "out"), 2, "another")

    def test_a_folder_with_something_in_it_is_not_written_to(self, cli: Callable) -> None:
        Path("out").mkdir()
        Path("out/mine.txt").write_text("mine")
        assert_one_line_error(cli("generate", "a ball", "out", *FEW), 2, "empty folder")
        assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]


class TestOptimize:
    ARGUMENTS = ("steer", "optimize", "a ball", "out", "--metric", "contrast", "--seeds", "0,1", "--unseen", "7", *FEW)

    def test_raises_the_metric_and_writes_the_run(self, cli: Callable) -> None:
        ran = cli(*self.ARGUMENTS, "--iterations", 3)
        assert ran.code == 0, ran.err
        rows = list(csv.DictReader(Path("out/trace.csv").read_text().splitlines()))
        assert len(rows) == 4
        assert float(rows[-1]["best"]) > float(rows[0]["score"])
        assert pixels(Path("out/before-after.png")).shape == (2 * 218 - 6, 2 * 198 - 6, 3)
        assert Path("out/trace.png").stat().st_size > 5_000
        assert Embedding.load("out/best.safetensors").lineage.operation == "optimize"

    def test_the_prompts_own_text_score_is_kept_and_the_result_is_in_words(self, cli: Callable) -> None:
        ran = cli(*self.ARGUMENTS, "--iterations", 2)
        assert ran.code == 0, ran.err
        assert json.loads(Path("out/run.json").read_text())["settings"]["keep"] == "prompt"
        words = json.loads(Path("out/report.json").read_text())
        assert [line.split(" ")[0] for line in words] == ["contrast:", "on", "drift:", "lost", "judge,"]
        assert words[3].startswith("lost of text: a ball: ")
        assert all(line in ran.out.splitlines() for line in words)
        again = cli("steer", "resume", "out")
        assert again.code == 0, again.err
        assert all(line in again.out.splitlines() for line in words)

    def test_no_constraint_where_none_is_wanted_or_none_can_be_scored(self, cli: Callable) -> None:
        assert cli(*self.ARGUMENTS, "--iterations", 1, "--keep", "none").code == 0
        assert json.loads(Path("out/run.json").read_text())["settings"]["keep"] is None
        assert "lost: not measured" in Path("out/report.json").read_text()
        arguments = ["out/best.safetensors" if argument == "a ball" else argument for argument in self.ARGUMENTS]
        arguments[3] = "file"
        assert cli(*arguments, "--iterations", 1).code == 0
        assert json.loads(Path("file/run.json").read_text())["settings"]["keep"] is None

    def test_noise_moves_with_the_embedding(self, cli: Callable) -> None:
        ran = cli(*self.ARGUMENTS, "--iterations", 2, "--move", "both", "--restarts", 1, "--gradient", "auto")
        assert ran.code == 0, ran.err
        assert "noise of the seeds: out/noise.safetensors" in ran.out
        assert Path("out/noise.safetensors").is_file()
        assert pixels(Path("out/before-after.png")).shape == (2 * (192 + 20 + 6) - 6, 2 * (192 + 6) - 6, 3)

    def test_a_run_resumes_only_with_its_own_settings(self, cli: Callable) -> None:
        assert cli(*self.ARGUMENTS, "--iterations", 1).code == 0
        changed = tuple("a cube" if argument == "a ball" else argument for argument in self.ARGUMENTS)
        assert_one_line_error(cli(*changed, "--iterations", 1), 2, "a ball", "a cube")

    def test_metrics_are_listed_with_their_true_direction(self, cli: Callable) -> None:
        from thalweg.steer.metrics.expression import MODEL_METRICS, NAMES, SCORER_METRICS
        from thalweg.steer.metrics.parsing import parse

        ran = cli("steer", "metrics")
        assert ran.code == 0
        lines = [line.split("  ", 1) for line in ran.out.splitlines() if line.endswith(" better")]
        assert [example.partition(":")[0] for example, _ in lines] == list(NAMES)
        for example, description in lines:
            if example.partition(":")[0] not in (*SCORER_METRICS, *MODEL_METRICS):
                assert description.endswith("more is better" if parse(example).maximize else "less is better")

    def test_an_unknown_metric_names_those_known(self, cli: Callable) -> None:
        ran = cli("steer", "optimize", "a ball", "out", "--metric", "beauty", *FEW)
        assert_one_line_error(ran, 2, "sharpness", "beauty")
        assert not Path("out").exists()

    def test_a_run_of_another_format_version_is_refused(self, cli: Callable) -> None:
        assert cli(*self.ARGUMENTS, "--iterations", 1).code == 0
        record = json.loads(Path("out/run.json").read_text())
        Path("out/run.json").write_text(json.dumps({**record, "format_version": 99, "thalweg_version": "9.9"}))
        assert_one_line_error(cli(*self.ARGUMENTS, "--iterations", 1), 2, "99", "9.9")


class TestNavigate:
    def test_choices_are_kept_and_the_navigation_resumes(self, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("2\n0\nbanana\nu\nq\n"))
        ran = cli("steer", "navigate", "a ball", "walk", "--candidates", 3, *FEW)
        assert ran.code == 0, ran.err
        assert "got 'banana'" in ran.out
        assert Path("walk/rounds/000/sheet.png").is_file()
        first = Embedding.load("walk/embedding.safetensors").hash
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert cli("steer", "navigate", "a ball", "walk", "--candidates", 3, *FEW).code == 0
        assert Embedding.load("walk/embedding.safetensors").hash == first
        assert cli("steer", "export", "walk", "start.safetensors", "--node", 0).code == 0
        assert cli("steer", "export", "walk", "now.safetensors").code == 0
        assert Embedding.load("now.safetensors").hash == first
        assert Embedding.load("start.safetensors").hash != first
        assert_one_line_error(cli("steer", "export", "walk", "x.safetensors", "--node", 9), 2, "9")


class TestResume:
    def test_resumes_with_the_model_and_settings_of_the_run(
        self, cli: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert cli(*TestOptimize.ARGUMENTS, "--iterations", 2).code == 0
        before = Path("out/best.safetensors").read_bytes()
        trace = Path("out/trace.csv").read_text()
        assert cli("steer", "resume", "out").code == 0
        assert (Path("out/best.safetensors").read_bytes(), Path("out/trace.csv").read_text()) == (before, trace)

        ran = cli("steer", "imprint", "a ball", "put", "--seed", 3, "--keep", "the colour", "--iterations", 1, *FEW)
        assert ran.code == 0, ran.err
        report = Path("put/report.json").read_text()
        assert cli("steer", "resume", "put").code == 0
        assert Path("put/report.json").read_text() == report

        assert cli("generate", "a ball", "start", *FEW).code == 0
        monkeypatch.setattr("sys.stdin", io.StringIO("1\nq\n"))
        assert cli("steer", "navigate", "start/embedding.safetensors", "walk", "--candidates", 2, *FEW).code == 0
        first = Embedding.load("walk/embedding.safetensors").hash
        monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
        assert cli("steer", "resume", "walk", "--candidates", 2).code == 0
        assert Embedding.load("walk/embedding.safetensors").hash == first

    def test_files_of_the_command_are_found_from_elsewhere(
        self, cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Image.new("RGB", (64, 64), "red").save("red.png")
        optimize = ("steer", "optimize", "a ball", tmp_path / "out", "--metric", "image: red.png", "--seeds", 0)
        assert cli(*optimize, "--unseen", 5, "--iterations", 1, *FEW).code == 0
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        ran = cli("steer", "resume", tmp_path / "out")
        assert ran.code == 0, ran.err

    def test_an_imprint_keeps_its_mask(self, cli: Callable) -> None:
        half = Image.new("L", (64, 64), 0)
        half.paste(255, (0, 0, 32, 64))
        half.save("half.png")
        Image.new("L", (64, 64), 255).save("all.png")
        imprint = ("steer", "imprint", "a ball", "out", "--seed", 3, "--iterations", 1, "--unseen", 1, *FEW)
        assert cli(*imprint, "--mask", "half.png").code == 0
        assert json.loads(Path("out/report.json").read_text())["aspect"] == "mask"
        assert_one_line_error(cli(*imprint, "--mask", "all.png"), 2, "mask_hash")
        assert_one_line_error(cli(*imprint), 2, "mask_hash", "None")
        Path("out/mask.png").unlink()  # as a kill right after the run began leaves it
        assert_one_line_error(cli("steer", "resume", "out"), 2, "mask.png is missing or was changed")
        assert cli(*imprint, "--mask", "half.png").code == 0
        assert cli("steer", "resume", "out").code == 0

    def test_a_run_that_cannot_be_resumed_raises_one_line_error(self, cli: Callable) -> None:
        assert cli("generate", "a ball", "start", *FEW).code == 0
        assert_one_line_error(cli("steer", "resume", "start"), 2, "optimize, navigate or imprint", "generate")
        assert_one_line_error(cli("steer", "resume", "nowhere"), 2, "run.json", "nowhere")


class TestPath:
    def test_writes_the_film_strip(self, cli: Callable) -> None:
        ran = cli("steer", "path", "a red ball", "a blue cube", "out", "--count", 3, "--no-even", *FEW)
        assert ran.code == 0, ran.err
        assert pixels(Path("out/strip.png")).shape == (212, 3 * 198 - 6, 3)
        strip = Path("out/strip.png").read_bytes()
        for name in ("strip.png", "frames/001-seed-0.png"):
            Path("out", name).unlink()
        first = Path("out/frames/000-seed-0.png").stat().st_mtime_ns
        assert cli("steer", "path", "a red ball", "a blue cube", "out", "--count", 3, "--no-even", *FEW).code == 0
        assert Path("out/strip.png").read_bytes() == strip
        assert Path("out/frames/000-seed-0.png").stat().st_mtime_ns == first
        other = cli("steer", "path", "a red ball", "a blue cube", "out", "--count", 4, "--no-even", *FEW)
        assert_one_line_error(other, 2, "has count 3")
        assert len(list(Path("out/embeddings").iterdir())) == 3

    def test_changed_ends_are_not_mixed_with_a_run(self, cli: Callable) -> None:
        assert cli("generate", "a ball", "first", *FEW).code == 0
        source = Path("first/embedding.safetensors")
        command = ("steer", "path", "a blue cube", source, "out", "--count", 3, "--no-even", *FEW)
        assert cli(*command).code == 0
        begun = Embedding.load(source)
        Embedding({name: 2 * tensor for name, tensor in begun.tensors.items()}, begun.lineage).save(source)
        assert_one_line_error(cli(*command), 2, "first/embedding.safetensors was changed since the run began")
        begun.save(source)
        begun.save("out/embeddings/001.safetensors")
        assert_one_line_error(cli(*command), 2, "not all of one path", "remove its folder embeddings")

    def test_an_unknown_method_raises_one_line_error(self, cli: Callable) -> None:
        assert_one_line_error(
            cli("steer", "path", "a ball", "a cube", "out", "--method", "teleport"), 2, "slerp", "teleport"
        )


class TestImprint:
    def test_writes_sheet_report_and_embedding(self, cli: Callable) -> None:
        ran = cli(
            "steer", "imprint", "a ball", "out", "--seed", 3, "--keep", "the colour",
            "--iterations", 2, "--unseen", 2, *FEW,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert json.loads(Path("out/report.json").read_text())["target_seed"] == 3
        assert Path("out/sheet.png").is_file() and Path("out/embedding.safetensors").is_file()

    def test_token_mode_writes_a_textual_inversion(self, cli: Callable) -> None:
        ran = cli(
            "steer", "imprint", "a ball", "out", "--seed", 3, "--mode", "token",
            "--iterations", 1, "--unseen", 2, *FEW,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert Path("out/learned_embeds.safetensors").is_file()

    def test_an_unknown_aspect_raises_one_line_error(self, cli: Callable) -> None:
        ran = cli("steer", "imprint", "a ball", "out", "--seed", 3, "--keep", "the mood", *FEW)
        assert_one_line_error(ran, 2, "colour", "mood")
        assert not Path("out").exists()


COMMANDS: dict[str, tuple[object, ...]] = {
    "generate": ("generate", "a ball", "out", "--seeds", "0,1"),
    "path": ("steer", "path", "a ball", "a cube", "out", "--count", 2, "--no-even"),
    "optimize": ("steer", "optimize", "a ball", "out", "--metric", "contrast", "--seeds", "0", "--iterations", 1),
    "navigate": ("steer", "navigate", "a ball", "out", "--candidates", 2),
    "imprint": ("steer", "imprint", "a ball", "out", "--seed", 3, "--iterations", 1, "--unseen", 1),
}


@pytest.mark.parametrize("name", COMMANDS)
class TestNotFinite:
    def test_raises_one_line_error_and_leaves_nothing(
        self, name: str, cli: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        from thalweg.diffusion.pipelines.stable_diffusion import StableDiffusion

        predict = StableDiffusion.predict
        monkeypatch.setattr(StableDiffusion, "predict", lambda *given: predict(*given) * torch.nan)
        assert_one_line_error(cli(*COMMANDS[name], *FEW), 1, "seed", "NaN", "step 1 of 4")
        assert not Path("out").exists()
        Path("out").mkdir()
        assert_one_line_error(cli(*COMMANDS[name], *FEW), 1, "NaN")
        assert list(Path("out").iterdir()) == []

    @pytest.mark.parametrize("guidance", ["nan", "inf"])
    def test_guidance_is_refused(self, name: str, guidance: str, cli: Callable) -> None:
        ran = cli(*COMMANDS[name], *FEW, "--guidance", guidance)
        assert_one_line_error(ran, 2, "guidance_scale", "from 0 to 1000", f"got {float(guidance)}")
        assert not Path("out").exists()


def test_a_mask_that_does_not_fit_leaves_nothing(cli: Callable) -> None:
    Image.new("L", (8, 8), 255).save("mask.png")
    imprint = ("steer", "imprint", "a ball", "out", "--seed", 3, "--iterations", 1, "--unseen", 1, *FEW)
    assert_one_line_error(cli(*imprint, "--mask", "mask.png"), 2, "(64, 64)", "(8, 8)")
    assert not Path("out").exists()
    Path("mask.png").write_text("no picture")
    assert_one_line_error(cli(*imprint, "--mask", "mask.png"), 2, "mask.png", "expected an image file")
    assert_one_line_error(cli(*imprint, "--mask", "none.png"), 2, "none.png", "found none")


REFUSED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("optimize", "a ball", "out", "--metric", "sharpnes"), "did you mean sharpness?"),
    (("optimize", "a ball", "out", "--metric", "text: a ball + contarst"), "did you mean contrast?"),
    (("optimize", "a ball", "out", "--metric", "blur", "--keep", "colorfullness"), "did you mean colourfulness?"),
    (("optimize", "a ball", "out", "--metric", "colour: #ff"), "expected a colour"),
    (("optimize", "a ball", "out", "--metric", "blur", "--seeds", "few"), "expected seeds such as"),
    (("optimize", "a ball", "out", "--metric", "blur", "--unseen", "3"), "got 3 among the seeds too"),
    (("optimize", "a ball", "out", "--metric", "blur", "--search", "newton"), "expected --search to be one of"),
    (("optimize", "a ball", "out", "--metric", "blur", "--recipe", "lion"), "expected --recipe to be one of"),
    (("optimize", "a ball", "out", "--metric", "blur", "--recipe", "paper", "--keep", "blur"), "--recipe paper uses"),
    (("optimize", "a ball", "out", "--metric", "blur", "--move", "seeds"), "expected --move to be one of"),
    (("optimize", "a ball", "out", "--metric", "blur", "--restarts", "0"), "--restarts to be a whole number from 1"),
    (("optimize", "a ball", "out", "--metric", "blur", "--gradient", "half"), "full, last_k, one_step, shortcut"),
    (("optimize", "a ball", "out", "--metric", "blur", "--recipe", "paper", "--move", "both"), "--recipe paper moves"),
    (
        ("optimize", "a ball", "out", "--metric", "blur", "--recipe", "paper", "--gradient", "last_k"),
        "--recipe paper does not use --gradient last_k; leave out one of both",
    ),
    (
        ("optimize", "a ball", "out", "--metric", "blur", "--search", "cma-es", "--gradient", "auto"),
        "--search cma-es does not use --gradient auto; leave out one of both",
    ),
    (("optimize", "a ball", "out", "--metric", "blur", "--clip", __file__), "folder as --clip, got the file"),
    (("optimize", "a ball", "out", "--metric", "blur", "--iterations", "0"), "expected --iterations to be"),
    (("optimize", "none.safetensors", "out", "--metric", "blur"), "none.safetensors"),
    (("optimize", "a ball", "full", "--metric", "blur"), "expected a new or empty folder"),
    (("navigate", "a ball", "out", "--candidates", "0"), "expected --candidates to be"),
    (("navigate", "a ball", "out", "--recipe", "magic"), "expected --recipe to be one of"),
    (("navigate", "a ball", "full"), "expected a new or empty folder"),
    (("path", "a ball", "a cube", "out", "--method", "teleport"), "expected --method to be one of"),
    (("path", "a ball", "a cube", "out", "--count", "1"), "expected --count to be"),
    (("path", "a ball", "none.safetensors", "out"), "none.safetensors"),
    (("imprint", "a ball", "out", "--seed", "3", "--keep", "the mood"), "--keep the mood names no known aspect"),
    (("imprint", "a ball", "out", "--seed", "3", "--mode", "video"), "expected --mode to be one of"),
    (("imprint", "a ball", "out", "--seed", "-1"), "seeds of 0 or more"),
    (("imprint", "a ball", "out", "--seed", "3", "--unseen", "0"), "expected --unseen to be"),
    (("imprint", "a ball", "full", "--seed", "3"), "expected a new or empty folder"),
    (("resume", "full"), "expected a run folder"),
)


def test_invalid_arguments_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    code = """
import contextlib, io, json, sys
from thalweg.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = ["steer", *arguments]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, errors.getvalue(), "torch" in sys.modules]))
"""
    arguments = json.dumps([arguments for arguments, _ in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", code, arguments], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    refusals = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(refusals) == len(REFUSED)
    for (given, words), (status, errors, loaded) in zip(REFUSED, refusals, strict=True):
        assert (status, errors.count("\n")) == (2, 1), (given, errors)
        assert words in errors, given
        assert not loaded, given
    assert not (tmp_path / "out").exists()


def test_a_run_of_other_settings_is_refused_before_a_model_is_loaded(
    cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thalweg.diffusion.config import ModelConfig

    assert cli(*TestOptimize.ARGUMENTS, "--iterations", 1).code == 0
    monkeypatch.delattr(ModelConfig, "load")
    assert_one_line_error(cli(*TestOptimize.ARGUMENTS, "--iterations", 2), 2, "iterations 1", "asked for is 2")
    navigate = ("steer", "navigate", "a ball", "out", *FEW)
    assert_one_line_error(cli(*navigate), 2, "expected a run of navigate, got one of optimize")


def test_the_demo_makes_its_three_pictures(cli: Callable) -> None:
    ran = cli("steer", "demo", "demo", "--iterations", 2, *FEW)
    assert ran.code == 0, ran.err
    for name in ("optimize/before-after.png", "path/strip.png", "imprint/sheet.png"):
        assert Path("demo", name).stat().st_size > 1_000
