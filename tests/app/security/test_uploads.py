import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalweg.app.security.uploads import MAX_SERVER_UPLOADS, MAX_USER_UPLOADS, Uploads, private_folder
from thalweg.errors import UsageError

LIMIT = 1000


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    made = Uploads(LIMIT)
    yield made
    made.close()


def add(uploads: Uploads, user: str = "ada", size: int = LIMIT) -> str:
    return uploads.add(user, io.BytesIO(b"x" * size), size)


def files(uploads: Uploads) -> list[Path]:
    return [path for path in uploads.folder.rglob("*") if path.is_file()]


def test_an_upload_is_found_by_its_own_browser_alone(uploads: Uploads) -> None:
    name = add(uploads)
    path = uploads.find("ada", name)
    assert path is not None
    assert path.stat().st_size == LIMIT
    assert uploads.find("eve", name) is None
    assert uploads.find("ada", str(path)) is None
    assert name not in str(path)


def test_the_folder_is_for_this_process_s_user_alone(uploads: Uploads) -> None:
    add(uploads)
    assert private_folder().stat().st_mode & 0o777 == 0o700
    assert uploads.folder.parent == private_folder()


def test_a_larger_file_is_refused_and_leaves_nothing(uploads: Uploads) -> None:
    with pytest.raises(UsageError, match=r"at most 0.001 MB"):
        add(uploads, size=LIMIT + 1)
    assert not files(uploads)


def test_the_total_of_one_browser_does_not_affect_others(uploads: Uploads) -> None:
    for _ in range(MAX_USER_UPLOADS):
        add(uploads)
    with pytest.raises(UsageError, match=r"at most 0.005 MB of uploads from one browser"):
        add(uploads, size=1)
    assert len(files(uploads)) == MAX_USER_UPLOADS
    add(uploads, "bob")


def test_the_server_has_a_total(uploads: Uploads) -> None:
    for number in range(MAX_SERVER_UPLOADS):
        add(uploads, f"user {number}")
    with pytest.raises(UsageError, match=r"at most 0.025 MB of uploads from all browsers"):
        add(uploads, "one more", size=1)
    assert len(files(uploads)) == MAX_SERVER_UPLOADS


def test_arriving_bytes_count_before_they_are_stored(uploads: Uploads) -> None:
    for _ in range(MAX_USER_UPLOADS - 1):
        add(uploads)
    with uploads.reserved("ada", LIMIT), pytest.raises(UsageError, match="from one browser"):
        add(uploads, size=1)
    add(uploads)


def test_a_removed_upload_counts_no_longer_unless_the_workspace_keeps_it(uploads: Uploads) -> None:
    for is_kept in [False] * 2 * MAX_USER_UPLOADS + [True] * MAX_USER_UPLOADS:
        path = uploads.find("ada", add(uploads))
        assert path is not None
        uploads.remove(path, is_kept)
        assert not files(uploads)
    with pytest.raises(UsageError, match="from one browser"):
        add(uploads, size=1)


def test_old_uploads_are_removed(uploads: Uploads) -> None:
    name = add(uploads)
    uploads.sweep(max_age=60.0)
    assert uploads.find("ada", name) is not None
    uploads.sweep(max_age=0.0)
    assert uploads.find("ada", name) is None
    assert not files(uploads)


def test_no_upload_is_left_at_the_end(uploads: Uploads) -> None:
    add(uploads)
    uploads.close()
    assert not uploads.folder.exists()


def test_a_file_that_cannot_be_stored_is_not_counted(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thalweg.app.security.uploads.shutil.copyfileobj", full)
    for _ in range(2 * MAX_USER_UPLOADS):
        with pytest.raises(OSError, match="No space left"):
            add(uploads)
    assert not files(uploads)
