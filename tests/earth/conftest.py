"""Fixtures of a small catalogue at the border of two UTM zones, served on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

from stac_server import StacServer, serve
from stac_site import Site, write_site
from thalweg.simulate import Landscape


@pytest.fixture(scope="session")
def site(landscape: Landscape, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return write_site(landscape, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[StacServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(site.folder) as running:
        yield running


@pytest.fixture
def damaged_corner(datasets: dict[str, xr.Dataset], tmp_path: Path) -> Path:
    """Write a cube folder whose Sentinel-1 has damaged chunks in its lower right corner."""
    folder = tmp_path / "cube"
    folder.mkdir()
    datasets["sentinel-2"].to_netcdf(folder / "s2.nc", engine="h5netcdf")
    radar = datasets["sentinel-1"].isel(time=slice(0, 8)).drop_encoding()
    encoding = {name: {"chunks": (8, 2, 2)} for name in ("VV", "VH")}
    radar.to_zarr(folder / "s1.zarr", encoding=encoding, zarr_format=3, consolidated=False)
    for name in encoding:
        (folder / "s1.zarr" / name / "c" / "0" / "15" / "15").write_bytes(b"damaged")
    return folder


@pytest.fixture(scope="session")
def site_path(site: Site) -> Path:
    return site.catalogue
