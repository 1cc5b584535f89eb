import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thalweg.embedding import ModelIdentity
from thalweg.errors import MissingPathError, NotFiniteError, ThalwegError, UsageError
from thalweg.io.image_files import png
from thalweg.io.state import STATE, write_state
from thalweg.steer.optimization.optimize_config import METRIC_FILES, OptimizeConfig
from thalweg.steer.runs import RECORD, Run, check_resumable, remove_failed_run

MODEL = ModelIdentity("toy", "ab" * 32)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "a" / "run", "optimize", MODEL, {"seeds": [1, 2], "radius": 0.3})


def test_open_returns_the_created_run(run):
    again = Run.open(run.folder, "optimize", MODEL)
    assert again.settings == {"seeds": [1, 2], "radius": 0.3}
    assert (again.operation, again.model) == ("optimize", MODEL)


def test_create_never_overwrites(run, tmp_path):
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        Run.create(run.folder, "optimize", MODEL, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        Run.create(tmp_path / "file", "optimize", MODEL, {})
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", "optimize", MODEL, {})


def test_open_refuses_other_folders(tmp_path):
    with pytest.raises(UsageError, match=r"expected a run folder, found no run\.json in it"):
        Run.open(tmp_path, "optimize")
    with pytest.raises(MissingPathError, match=r"expected a run folder"):
        Run.open(tmp_path / "none", "optimize")


def test_open_refuses_another_tool_or_model(run):
    with pytest.raises(UsageError, match="expected a run of imprint, got one of optimize"):
        Run.open(run.folder, "imprint")
    with pytest.raises(UsageError, match=r"the run belongs to toy \(abab\w+\), the model loaded is big \(cdcd"):
        Run.open(run.folder, "optimize", ModelIdentity("big", "cd" * 32))


def test_open_refuses_another_version(run):
    record = json.loads((run.folder / RECORD).read_text())
    run.write_json(RECORD, {**record, "format_version": 2, "thalweg_version": "9.0"})
    with pytest.raises(UsageError, match=r"run format version 2, this package reads 1; .* thalweg 9\.0"):
        Run.open(run.folder, "optimize", MODEL)


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1, "thalweg_version": "1"}', "null"])
def test_open_refuses_a_damaged_record(run, content):
    (run.folder / RECORD).write_text(content)
    with pytest.raises(UsageError, match=r"its run\.json can't be read"):
        Run.open(run.folder, "optimize")


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
    run.write_json("value.json", 1)

    def full_disk(self, content):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            run.write_json("value.json", 2)
    assert json.loads((run.folder / "value.json").read_text()) == 1
    assert sorted(file.name for file in run.folder.iterdir()) == [RECORD, "value.json"]


def test_trace_keeps_every_digit(run):
    assert run.read_trace() == []
    rows = [{"step": 0, "score": 1 / 3, "kept": math.nan}, {"step": 1, "score": 1e-17, "kept": 0.1}]
    run.write_trace(rows)
    again = run.read_trace()
    assert [float(row["score"]) for row in again] == [1 / 3, 1e-17]
    assert math.isnan(float(again[0]["kept"]))
    run.write_trace([])
    assert run.read_trace() == []


def test_images_are_pngs_in_folders(run):
    image = torch.linspace(-0.2, 1.2, 3 * 4 * 6).reshape(3, 4, 6).requires_grad_()
    path = run.write_image("steps/0001.png", image)
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (4, 6, 3)
    expected = (image.detach().clamp(0, 1) * 255).round().permute(1, 2, 0)
    assert np.array_equal(pixels, expected.numpy().astype(np.uint8))
    assert Image.open(io.BytesIO(png(image))).format == "PNG"


@pytest.mark.parametrize("value", [math.nan, math.inf, [{"score": -math.inf}]])
def test_nan_and_infinity_are_not_written_as_json(run, value):
    with pytest.raises(NotFiniteError, match=r"report.json: expected finite numbers"):
        run.write_json("report.json", {"share": value})
    assert not (run.folder / "report.json").exists()


@pytest.mark.parametrize("was_there", [True, False])
def test_a_run_that_fails_at_its_start_is_removed(tmp_path, was_there):
    folder = tmp_path / "run"
    if was_there:
        folder.mkdir()
    with pytest.raises(ThalwegError, match="no"), remove_failed_run(folder):
        Run.create(folder, "optimize", MODEL, {}).write_bytes("steps/0000.png", b"")
        raise ThalwegError("no")
    assert folder.exists() == was_there
    assert not was_there or list(folder.iterdir()) == []


def test_a_run_that_can_be_resumed_or_existed_before_is_kept(run, tmp_path):
    with pytest.raises(ThalwegError, match="no"), remove_failed_run(run.folder):
        raise ThalwegError("no")
    assert (run.folder / RECORD).is_file()
    with pytest.raises(ThalwegError, match="no"), remove_failed_run(tmp_path / "new"):
        write_state(Run.create(tmp_path / "new", "optimize", MODEL, {}).folder / STATE, {"best": torch.zeros(2)}, {})
        raise ThalwegError("no")
    assert (tmp_path / "new" / RECORD).is_file()


def test_a_run_whose_files_were_changed_is_not_resumed(toy, tmp_path):
    start, image = tmp_path / "mine.safetensors", tmp_path / "red.png"
    toy.embed("a red ball").save(start)
    Image.new("RGB", (8, 8), "red").save(image)
    config = OptimizeConfig(f"contrast - 0.1*image: {image}", prompt=str(start), keep="blur")
    run = config.begin_run(tmp_path / "run", toy)
    config.begin_run(tmp_path / "run", toy)
    toy.embed("a blue cube").save(start)
    with pytest.raises(UsageError, match=r"mine.safetensors was changed since the run began: restore it, or begin a"):
        config.begin_run(tmp_path / "run", toy)
    toy.embed("a red ball").save(start)
    Image.new("RGB", (8, 8), "blue").save(image)
    for resume in (lambda: config.begin_run(tmp_path / "run", toy), lambda: config.check_files(run)):
        with pytest.raises(UsageError, match=r"red.png was changed since the run began: restore it, or begin a new"):
            resume()
    (run.folder / METRIC_FILES).unlink()  # as runs of earlier versions
    write_state(run.folder / STATE, {}, {})
    config.check_files(run)


def test_a_folder_that_cannot_be_written_is_refused_at_once(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"for the run, .*file is a file; choose another"):
        check_resumable(tmp_path / "file" / "run", "optimize", {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write read-only folders
    for folder in (tmp_path / "new" / "run", run.folder):
        with pytest.raises(ThalwegError, match=r"expected a folder that can be written, .* is read-only; choose"):
            check_resumable(folder, "optimize", run.settings)
