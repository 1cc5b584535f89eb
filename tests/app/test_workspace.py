from pathlib import Path

import pytest

from thalweg.app.workspace import Workspace
from thalweg.embedding import ModelIdentity
from thalweg.errors import UsageError
from thalweg.steer.runs import Run

ANNA, BEN = "a" * 32, "b" * 32
MODEL = ModelIdentity("toy", "0" * 64)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.mark.parametrize("name", ["a.safetensors", "run/nodes/000.safetensors", "store.zarr"])
def test_names_lie_inside(workspace: Workspace, name: str) -> None:
    assert workspace.inside(name) == workspace.folder / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "//etc", "..\\x", "C:\\x", "c:x", ".people/x", "a/.b", "a\0b"],
)
def test_what_leads_outside_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match="in the workspace"):
        workspace.inside(name)


def test_links_that_lead_outside_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.safetensors").write_text("x")
    (workspace.folder / "link").symlink_to(tmp_path / "secret")
    (workspace.folder / "x.safetensors").symlink_to(tmp_path / "secret" / "x.safetensors")
    for name in ("link", "link/x.safetensors", "x.safetensors"):
        with pytest.raises(UsageError, match="leads outside"):
            workspace.inside(name)


def test_runs_are_a_persons_own_once_opened(workspace: Workspace) -> None:
    Run.create(workspace.folder / "from-the-command-line", "navigate", MODEL, {})
    own = workspace.new_run(ANNA, "a red ball!")
    Run.create(own, "navigate", MODEL, {})
    workspace.claim(ANNA, own)
    assert own.name.startswith("a-red-ball-")
    assert workspace.runs(ANNA, "navigate") == sorted([own.name, "from-the-command-line"])
    assert workspace.runs(ANNA, "optimize") == []
    assert workspace.runs(BEN, "navigate") == ["from-the-command-line"]
    assert workspace.run(ANNA, own.name) == own
    with pytest.raises(UsageError, match="a run of yours"):
        workspace.run(BEN, own.name)

    workspace.claim(BEN, workspace.run(BEN, "from-the-command-line"))
    with pytest.raises(UsageError, match="a run of yours"):
        workspace.claim(ANNA, workspace.folder / "from-the-command-line")
    assert workspace.runs(ANNA, "navigate") == [own.name]


def test_open_runs_are_remembered_while_they_exist(workspace: Workspace) -> None:
    for name in ("one", "two"):
        Run.create(workspace.folder / name, "navigate", MODEL, {})
    workspace.remember(ANNA, "navigate", "one")
    workspace.remember(ANNA, "optimize", "two")
    (workspace.folder / "two" / "run.json").unlink()
    assert workspace.open_runs(ANNA) == {"navigate": "one"}
    assert workspace.open_runs(BEN) == {}
    assert ANNA not in "".join(str(path) for path in workspace.folder.rglob("*"))


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder"):
        Workspace(tmp_path / "file")
