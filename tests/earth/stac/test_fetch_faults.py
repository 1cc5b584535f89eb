"""Fetch with faults: of the server, of a file, of the process; and its resumption."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from stac_fetching import QUICK, WEST, fetch_site, opened
from stac_server import StacServer
from stac_site import Site
from thalweg.earth.stac import Request, fetch, plan
from thalweg.errors import ThalwegError, UsageError


def test_requests_are_repeated_after_two_faults_of_the_server(site: Site, server: StacServer, tmp_path: Path) -> None:
    server.faults = {"S2_31_01/B04.tif": [503, 503], "S2_31_00/SCL.tif": [500, 429], "/api/search": [502, 503]}
    out = fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert not any(server.faults.values())
    assert xr.open_zarr(out).attrs["thalweg:skipped"] == {}
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), site.box(WEST), "2018-01", "sentinel-2")
    xr.testing.assert_identical(opened(out, "sentinel-2"), opened(plain, "sentinel-2"))


def test_a_slow_server_is_waited_for_and_a_hanging_request_is_repeated(
    site: Site, server: StacServer, tmp_path: Path
) -> None:
    server.pauses = {"B02.tif": [0.2] * 50, "S2_31_01/B04.tif": [2.0], "/api/search": [2.0]}
    out = fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert xr.open_zarr(out).attrs["thalweg:skipped"] == {}
    assert opened(out, "sentinel-2").sizes["time"] >= 2


def test_a_fetch_whose_server_stops_answering_is_resumed(site: Site, server: StacServer, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    server.faults = {"S2_31_02/B04.tif": [503] * 50}
    with pytest.raises(ThalwegError, match=r"S2_31_02/B04.tif: no answer after 4 attempts .*same request again"):
        fetch_site(out, server.api, site.box(WEST), "2018-01/2018-02", "sentinel-2")
    assert not out.exists()
    server.faults.clear()
    server.requests.clear()
    fetch_site(out, server.api, site.box(WEST), "2018-01/2018-02", "sentinel-2")
    assert server.requests["/files/S2_31_02/B04.tif"] > 0
    assert not [path for path in server.requests if "S2_31_00" in path or "S2_31_01" in path]
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), site.box(WEST), "2018-01/2018-02", "sentinel-2")
    xr.testing.assert_identical(opened(out, "sentinel-2"), opened(plain, "sentinel-2"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.zarr", "plain.zarr"]


def test_two_processes_cannot_write_one_store(site: Site, tmp_path: Path) -> None:
    fetch_plan = plan(Request(site.box(WEST), "2018-01", ("sentinel-2",)), str(site.catalogue))

    def second(done: int, total: int) -> None:
        with pytest.raises(UsageError, match="another process is writing it"):
            fetch(fetch_plan, tmp_path / "out.zarr")

    assert opened(fetch(fetch_plan, tmp_path / "out.zarr", second), "sentinel-2").sizes["time"] >= 2


def test_another_request_starts_from_scratch(site: Site, server: StacServer, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    server.faults = {"S2_31_01/B04.tif": [503] * 50}
    with pytest.raises(ThalwegError):
        fetch_site(out, server.api, site.box(WEST), "2018-01", "sentinel-2")
    server.faults.clear()
    fetch_site(out, server.api, site.box(slice(4, 16)), "2018-01", "sentinel-2")
    assert str(opened(out, "sentinel-2").item_id.values[0]) == "S2_31_00"


KILLED = """
import os, signal, sys
from thalweg.earth.stac import Request, fetch, plan
catalogue, out, calls, *bbox = sys.argv[1:]
reported = []
def progress(done, total):
    reported.append(done)
    if len(reported) == int(calls):
        os.kill(os.getpid(), signal.SIGKILL)
fetch(plan(Request(tuple(map(float, bbox)), "2018-01/2018-02", ("sentinel-2", "sentinel-1")), catalogue), out, progress)
"""


def test_a_killed_fetch_is_resumed(site: Site, server: StacServer, tmp_path: Path) -> None:
    box, out = site.box(WEST), tmp_path / "out.zarr"
    arguments = [f"{server.url}/catalog.json", out, 3, *box]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.zarr.lock", ".out.zarr.unfinished"]
    server.requests.clear()
    reported: list[tuple[int, int]] = []
    fetch_plan = plan(
        Request(box, "2018-01/2018-02", ("sentinel-2", "sentinel-1")), f"{server.url}/catalog.json", QUICK
    )
    fetch(fetch_plan, out, lambda done, total: reported.append((done, total)), retry_policy=QUICK)
    dates = sum(len(dates) for dates in fetch_plan.dates.values())
    assert len(reported) == dates - 2  # the third was read and not yet recorded
    assert not [path for path in server.requests if "files/S2_31_00" in path]
    plain = fetch_site(tmp_path / "plain.zarr", str(site.catalogue), box, "2018-01/2018-02", "sentinel-2", "sentinel-1")
    for sensor in ("sentinel-2", "sentinel-1"):
        xr.testing.assert_identical(opened(out, sensor), opened(plain, sensor))


def test_forbidden_files_are_reported_as_such(site: Site, server: StacServer, tmp_path: Path) -> None:
    server.faults = {".tif": [403] * 1000}
    with pytest.raises(ThalwegError, match=r"refuses access .*check the credentials"):
        fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2018-01", "sentinel-2")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_if_no_item_can_be_read(site: Site, server: StacServer, tmp_path: Path) -> None:
    with pytest.raises(ThalwegError, match=r"no pixel in the box on any date \(1 items skipped\): B04 cannot be read"):
        fetch_site(tmp_path / "out.zarr", server.api, site.box(WEST), "2022-05-04", "sentinel-2")
    assert not list(tmp_path.iterdir())
