"""Repositories of the Hugging Face hub: download of a model's folder, upload of one."""

import re
from pathlib import Path
from typing import Any

from thalweg.errors import MissingPathError, ThalwegError, UsageError, one_line
from thalweg.io.redaction import redact

MODEL_FILES = ("*/model.json", "*/weights.safetensors", "README.md")
"""Files of a repository that are downloaded: cards and tensors, nothing that could be run."""

_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_MAX_REASON = 160


def repository_folder(
    name: str | Path, revision: str | None = None, cache: str | Path | None = None, offline: bool = False
) -> Path:
    """Return the local folder of a model: a folder as it is, or a repository's files in the hub's cache.

    Args:
        name: folder, or `OWNER/NAME` of a repository.
        revision: branch, tag or commit of a repository; the main branch by default.
        cache: folder of the hub's cache; the hub's own by default.
        offline: whether to take only what the cache holds.

    Raises:
        MissingPathError: There is neither such a folder nor such a repository.
        UsageError: A revision is given for a folder.
        ThalwegError: The hub cannot be reached, or its library is not installed.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise UsageError(f"{name}: `revision` is for repositories of the hub, and this is a folder: leave it out")
        return Path(name)
    if not _NAME.fullmatch(str(name)):
        raise MissingPathError(f"{name}: no such folder: expected one, or OWNER/NAME of a repository of the hub")
    hub = _hub()
    try:
        found = hub.snapshot_download(
            str(name),
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(MODEL_FILES),
            local_files_only=offline,
        )
    except hub.errors.RepositoryNotFoundError as error:
        raise MissingPathError(f"{name}: neither a folder nor a repository of the hub that can be read") from error
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = redact(one_line(error))[:_MAX_REASON]
        raise ThalwegError(f"{name}: the hub gave no files ({reason}): try again, or name a folder") from error
    return Path(found)


def upload_folder(folder: Path, name: str, private: bool = False, message: str | None = None) -> str:
    """Create a repository if there is none, and upload a folder to it in one commit.

    The hub's library takes the token that the user logged in with.

    Args:
        folder: folder to upload.
        name: `OWNER/NAME` of the repository.
        private: whether a new repository is private.
        message: title of the commit.

    Returns:
        URL of the commit.

    Raises:
        UsageError: `name` is not of that form.
        ThalwegError: The hub cannot be reached or refuses, or its library is not installed.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name}: expected OWNER/NAME of a repository of the hub")
    hub = _hub()
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=message or "Upload the model", run_as_future=False
        )
    except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = redact(one_line(error))[:_MAX_REASON]
        raise ThalwegError(f"{name}: the hub did not take the model ({reason}): log in, then try again") from error
    return str(commit.commit_url)


def _hub() -> Any:
    """Return the hub's library."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise ThalwegError(
            "repositories of the hub need huggingface_hub: install thalweg[hub], or name a folder"
        ) from error
    return huggingface_hub
