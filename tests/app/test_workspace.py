from pathlib import Path

import pytest

from thalweg.app.workspace import OWNER, Workspace
from thalweg.embedding import ModelIdentity
from thalweg.errors import UsageError
from thalweg.steer.runs import Run

ANNA, BEN = "a" * 32, "b" * 32
MODEL = ModelIdentity("toy", "0" * 64)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.mark.parametrize("name", ["a.safetensors", "run/nodes/000.safetensors", "store.zarr"])
def test_names_resolve_inside_the_workspace(workspace: Workspace, name: str) -> None:
    assert workspace.inside(name) == workspace.folder / name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/../../x", "/etc/passwd", "//etc", "..\\x", "C:\\x", "c:x", ".people/x", "a/.b"),
        *("a./x", "a /x", "x.", "x\n", "\x7f", "x" * 300, "/".join("abc" for _ in range(400))),
    ],
)
def test_names_that_lead_outside_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match=r"in the workspace|of at most"):
        workspace.inside(name)


@pytest.mark.parametrize("name", [None, 2.5, [], {}, ["a"], "a\0b", "\ud800", "x" * 100_000])
def test_invalid_names_are_refused(workspace: Workspace, name: object) -> None:
    for ask in (workspace.inside, workspace.writable, lambda name: workspace.readable(ANNA, name)):
        with pytest.raises(UsageError, match="expected a name"):
            ask(name)  # type: ignore[arg-type]


def test_links_that_lead_outside_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.safetensors").write_text("x")
    (workspace.folder / "link").symlink_to(tmp_path / "secret")
    (workspace.folder / "x.safetensors").symlink_to(tmp_path / "secret" / "x.safetensors")
    for name in ("link", "link/x.safetensors", "x.safetensors"):
        with pytest.raises(UsageError, match="leads outside"):
            workspace.inside(name)


def test_loops_of_links_and_links_to_hidden_files_are_refused(workspace: Workspace) -> None:
    (workspace.folder / "circle").symlink_to(workspace.folder / "circle")
    workspace.remember(ANNA, "navigate", "x")
    (workspace.folder / "people").symlink_to(workspace.folder / ".people")
    for name in ("circle", "circle/x", "people", "people/x"):
        with pytest.raises(UsageError, match=r"leads nowhere|hidden"):
            workspace.inside(name)


def test_runs_belong_to_the_first_user_who_opens_them(workspace: Workspace) -> None:
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


def owned_run(workspace: Workspace, user: str, title: str = "a ball") -> Path:
    folder = workspace.new_run(user, title)
    Run.create(folder, "navigate", MODEL, {})
    workspace.claim(user, folder)
    (folder / "nodes").mkdir()
    (folder / "nodes" / "000.safetensors").write_bytes(b"secret")
    return folder


def test_files_of_a_run_are_for_its_owner_only(workspace: Workspace) -> None:
    folder = owned_run(workspace, ANNA)
    (workspace.folder / "link.safetensors").symlink_to(folder / "nodes" / "000.safetensors")
    (workspace.folder / "shared.safetensors").write_bytes(b"")
    for name in (f"{folder.name}/nodes/000.safetensors", f"{folder.name}/none.safetensors", "link.safetensors"):
        assert workspace.readable(ANNA, name).is_relative_to(folder)
        for other in (BEN, None):
            with pytest.raises(UsageError, match="of yours"):
                workspace.readable(other, name)
    for anyone in (ANNA, BEN, None):
        assert workspace.readable(anyone, "shared.safetensors").is_file()


def test_a_new_run_belongs_to_its_user_before_it_is_claimed(workspace: Workspace) -> None:
    folder = workspace.new_run(ANNA, "a ball")
    Run.create(folder, "navigate", MODEL, {})
    assert workspace.runs(BEN, "navigate") == []
    with pytest.raises(UsageError, match="of yours"):
        workspace.claim(BEN, folder)
    workspace.claim(ANNA, folder)
    assert (folder / OWNER).is_file()


def test_a_run_with_a_damaged_owner_is_for_no_user(workspace: Workspace) -> None:
    folder = owned_run(workspace, ANNA)
    for damaged in (b"", b"\xff\xfe", b"x" * 10_000_000):
        (folder / OWNER).write_bytes(damaged)
        for user in (ANNA, BEN):
            with pytest.raises(UsageError, match="of yours"):
                workspace.run(user, folder.name)


@pytest.mark.parametrize("store", ["fields.zarr", "FIELDS.ZARR", "v2", "v3"])
def test_parts_of_a_store_are_neither_read_nor_written(workspace: Workspace, store: str) -> None:
    (workspace.folder / store).mkdir()
    (workspace.folder / "v2" / ".zgroup").parent.mkdir(exist_ok=True)
    (workspace.folder / "v2" / ".zgroup").write_text("{}")
    (workspace.folder / "v3").mkdir(exist_ok=True)
    (workspace.folder / "v3" / "zarr.json").write_text("{}")
    with pytest.raises(UsageError, match="part of a store"):
        workspace.readable(ANNA, f"{store}/x.safetensors")
    with pytest.raises(UsageError, match="expected a name"):
        workspace.writable(f"{store}/x")
    assert workspace.readable(ANNA, store) == workspace.folder / store


@pytest.mark.parametrize("name", ["good-ball", " good ball ", "good-ball.safetensors", "größe 2", "v1.5"])
def test_a_new_file_is_directly_in_the_workspace(workspace: Workspace, name: str) -> None:
    path = workspace.writable(name)
    assert path.parent == workspace.folder
    assert path.suffix == ".safetensors"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "/x",
            "C:x",
            ".hidden",
            "x.",
            "x..safetensors",
            "a\nb",
            "a*",
            "a?b",
        ),
        *("run.json/x", "con", "NUL", "com1.x", "x" * 101, "é" * 99 + "éé", "ü" * 150, ".safetensors"),
    ],
)
def test_names_that_no_file_should_have_are_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match="expected a name"):
        workspace.writable(name)
    assert list(workspace.folder.iterdir()) == []


@pytest.mark.parametrize("taken", ["good", "GOOD", "Good.safetensors", "good"])
def test_an_existing_name_is_refused_in_upper_case_too(workspace: Workspace, taken: str) -> None:
    (workspace.folder / "good.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="exists already"):
        workspace.writable(taken)


def test_a_damaged_list_of_open_runs_is_empty(workspace: Workspace) -> None:
    own = owned_run(workspace, ANNA)
    workspace.remember(ANNA, "navigate", own.name)
    open_runs_file = next((workspace.folder / ".people").iterdir())
    deep = b"[" * 100_000
    for damaged in (b"", b"[]", b"null", b'{"navigate": 1}', b'{"navigate": "../.."}', b"\xff", deep):
        open_runs_file.write_bytes(damaged)
        assert workspace.open_runs(ANNA) == {}
    workspace.remember(ANNA, "navigate", own.name)
    assert workspace.open_runs(ANNA) == {"navigate": own.name}


def test_damaged_records_are_left_out_of_the_list(workspace: Workspace) -> None:
    own = owned_run(workspace, ANNA)
    for number, damaged in enumerate((b"", b"[" * 100_000, b"\xff", b'{"operation": []}', b"[]")):
        folder = workspace.folder / f"damaged-{number}"
        folder.mkdir()
        (folder / "run.json").write_bytes(damaged)
    assert workspace.runs(ANNA, "navigate") == [own.name]
