"""Maps of labels: made one at a time, kept for their own browser, and given up where they do not end."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mapping_scenes import point_labels
from thalweg.app.earth.labels import label_maps
from thalweg.app.earth.labels.label_maps import LabelMap, LabelMaps
from thalweg.app.earth.open_stores import OpenStore
from thalweg.app.workspace import Workspace
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.errors import UsageError
from waiting import wait_until

if TYPE_CHECKING:
    import geopandas


@pytest.fixture
def maps(scene_workspace: Workspace) -> LabelMaps:
    return LabelMaps(scene_workspace)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Event until which every map waits instead of being made."""
    opened = threading.Event()

    def make(self: LabelMap, _: OpenStore) -> None:
        opened.wait(600)
        self.job.check()
        self.folder.mkdir(parents=True)

    monkeypatch.setattr(LabelMap, "make", make)
    yield opened
    opened.set()


def labels() -> "geopandas.GeoDataFrame":
    return point_labels(30).rename(columns={"crop": "class"})[["class", "geometry"]]


def start(maps: LabelMaps, opened: OpenStore, user: str = "ada") -> str:
    return maps.start(user, opened, labels(), {}, MappingConfig())


def test_a_map_is_its_own_browsers(maps: LabelMaps, scene_store: OpenStore, gate: threading.Event) -> None:
    name = start(maps, scene_store)
    assert maps.find("ada", name).job.active
    for user, other in (("eve", name), ("ada", "no such map"), ("ada", "../x")):
        with pytest.raises(UsageError, match="no such map of yours"):
            maps.find(user, other)


def test_maps_are_made_in_order_and_one_per_browser(
    maps: LabelMaps, scene_store: OpenStore, gate: threading.Event
) -> None:
    first = maps.find("ada", start(maps, scene_store))
    wait_until(lambda: first.job.status == "running")
    with pytest.raises(UsageError, match="a map of yours is being made"):
        start(maps, scene_store)
    second, third = (maps.find(user, start(maps, scene_store, user)) for user in ("bob", "cy"))
    assert [maps.ahead(one) for one in (first, second, third)] == [0, 1, 2]
    third.job.stop()
    gate.set()
    wait_until(lambda: not third.job.active)
    assert [one.job.status for one in (first, second, third)] == ["done", "done", "stopped"]


def test_maps_are_limited_and_the_oldest_goes(
    maps: LabelMaps, scene_store: OpenStore, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.set()
    names = []
    for _ in range(label_maps.MAX_USER_MAPS + 1):
        names.append(start(maps, scene_store))
        found = maps.find("ada", names[-1])
        wait_until(lambda found=found: not found.job.active)
    with pytest.raises(UsageError, match="no such map of yours"):
        maps.find("ada", names[0])
    assert all(maps.find("ada", name).folder.is_dir() for name in names[1:])
    assert len(list(found.folder.parent.iterdir())) == label_maps.MAX_USER_MAPS
    monkeypatch.setattr(label_maps, "MAX_WAITING_MAPS", 0)
    with pytest.raises(UsageError, match="try again later"):
        start(maps, scene_store)


def test_a_map_that_does_not_end_delays_no_other(
    maps: LabelMaps, scene_store: OpenStore, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = maps.find("ada", start(maps, scene_store))
    wait_until(lambda: stuck.job.status == "running")
    name = start(maps, scene_store, "bob")
    monkeypatch.setattr(label_maps, "MAX_MAP_SECONDS", 0.0)
    waiting = maps.find("bob", name)
    wait_until(lambda: waiting.job.status == "running")
    for user in ("cy", "dee"):
        with pytest.raises(UsageError, match="do not end: try again later"):
            start(maps, scene_store, user)
    gate.set()
    wait_until(lambda: not stuck.job.active and not waiting.job.active)
    assert start(maps, scene_store, "cy")


def test_a_store_too_large_is_refused(maps: LabelMaps, scene_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_MAP_PIXELS", "MAX_MAP_VALUES"):
        with monkeypatch.context() as patched:
            patched.setattr(label_maps, limit, 48 * 48 - 1)
            with pytest.raises(UsageError, match=r"48 x 48 pixels and 3 classes: too many for a map in the browser"):
                start(maps, scene_store)
