"""A small archive at the border of two UTM zones, served on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stac_server import Site, StacServer, serve, write_site

from thalweg.earth.simulate import Landscape


@pytest.fixture(scope="session")
def site(landscape: Landscape, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return write_site(landscape, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[StacServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(site.folder) as running:
        yield running


@pytest.fixture(scope="session")
def site_path(site: Site) -> Path:
    return site.catalogue
