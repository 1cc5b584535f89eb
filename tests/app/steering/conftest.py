"""The app on the shipped miniature with few denoising steps, served once for all browser tests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from thalweg.app.server import create_app
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig


@dataclass(frozen=True)
class App:
    """A served app and its workspace."""

    url: str
    folder: Path


@pytest.fixture(scope="session")
def app(served: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("workspace")
    with served(create_app(Workspace(folder), ModelConfig(steps=4, gradient="full"))) as url:
        yield App(url, folder)
