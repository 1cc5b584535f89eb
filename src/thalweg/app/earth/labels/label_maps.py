"""Maps that are made from the labels of a page: one at a time, each in a private folder of its browser's own."""

import secrets
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.app.earth.labels.map_tables import (
    LABELLED_PIXELS,
    MAP_GEOPACKAGE,
    write_labelled_pixels,
    write_map_geopackage,
)
from thalweg.app.earth.labels.page_labels import CLASS_COLUMN
from thalweg.app.earth.open_stores import OpenStore
from thalweg.app.jobs import RenderJob
from thalweg.app.security.uploads import private_folder
from thalweg.app.workspace import Workspace
from thalweg.earth.export.categorical import qgis_style
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.earth.mapping.mapping_run import MappingResult, map_labels
from thalweg.earth.mapping.output.map_rasters import MAP
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import geopandas

MAX_MAP_PIXELS = 4_000_000
"""Largest store that the page maps, in pixels."""
MAX_MAP_VALUES = 64_000_000
"""Largest number of probabilities of a map: pixels times classes."""
MAP_MEMORY = 2**30
"""Memory limit of a map, bytes."""
MAX_USER_MAPS, MAX_MAPS = 2, 12
"""Maps that are kept of one browser, and of all; the oldest is removed for a new one."""
MAX_WAITING_MAPS = 8
"""Maps that are made or wait, of all browsers."""
MAX_MAP_SECONDS = 1800.0
"""Time after which a map that is still being made is given up, so that the others need not wait for it."""
MAX_STUCK_MAPS = 2
"""Maps that were given up and have not ended, above which no other is begun."""


ARCHIVE = "map.zip"
"""Archive with all files of a map, next to the folder that holds them."""


@dataclass(frozen=True, eq=False)
class MadeMap:
    """Map that is done.

    Attributes:
        result: its folder, model, scores and sums.
        codes: (y, x), code of the class of each pixel, from 1; 0 without an embedding.
        polygons: number of polygons in its GeoPackage; None if the map has too many for one.
        files: paths of its downloads by name.
    """

    result: MappingResult
    codes: NDArray[np.uint8]
    polygons: int | None
    files: dict[str, Path]


@dataclass(eq=False)
class LabelMap:
    """Map of a browser's labels, done or not.

    Attributes:
        store: name of the store.
        version: version of the store (`OpenStore.version`).
        labels: the labels.
        colours: colour of each class by its name.
        config: settings.
        folder: folder of the map alone.
        progress: share of the pixels that are mapped.
        began: time at which the work began, s; None while it waits.
        made: the map, once it is done.
        job: the work.
    """

    store: str
    version: str
    labels: "geopandas.GeoDataFrame"
    colours: dict[str, str]
    config: MappingConfig
    folder: Path
    progress: float = 0.0
    began: float | None = None
    made: MadeMap | None = None
    job: RenderJob = field(init=False)

    def make(self, opened: OpenStore) -> None:
        """Make the map and its files; called by its job.

        Raises:
            UsageError: The labels are not usable; the message says which and what to do.
        """

        def progress(done: int, total: int) -> None:
            self.job.check()
            self.progress = done / total

        self.job.check()
        out = self.folder / f"{Path(self.store).stem}-map"
        result = map_labels(opened.dataset, self.labels, CLASS_COLUMN, out, True, self.config, progress=progress)
        assert result.fit is not None
        names = result.model.classes
        (out / f"{MAP}.qml").write_text(qgis_style(names, [self.colours[name] for name in names], first=1), "utf-8")
        write_labelled_pixels(result.fit, out)
        codes, polygons = write_map_geopackage(result.fit, self.labels, out)
        files = {name: out / name for name in (LABELLED_PIXELS, MAP_GEOPACKAGE)} | {ARCHIVE: self.folder / ARCHIVE}
        shutil.make_archive(str(files[ARCHIVE].with_suffix("")), "zip", self.folder, out.name)
        self.made = MadeMap(result, codes, polygons, files)

    def done(self) -> MadeMap:
        """Return the map.

        Raises:
            UsageError: It is not done.
        """
        if self.made is None:
            raise UsageError("this map is not done: wait until it is, or make it again")
        return self.made


class LabelMaps:
    """Maps of all browsers, each under a name that only its own browser can use; they are made one at a time.

    Args:
        workspace: folder to which paths in messages are relative.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = private_folder() / f"maps-{secrets.token_hex(4)}"
        self._changed = threading.Condition()
        self._known: dict[str, tuple[str, LabelMap]] = {}
        self._waiting: deque[LabelMap] = deque()
        self._making: LabelMap | None = None
        self._stuck = 0

    def start(
        self,
        user: str,
        opened: OpenStore,
        labels: "geopandas.GeoDataFrame",
        colours: dict[str, str],
        config: MappingConfig,
    ) -> str:
        """Start a map and return its name.

        Args:
            user: secret of the browser.
            opened: the store.
            labels: its labels (`page_labels.read_page_labels`).
            colours: colour of each class (`page_labels.check_colours`).
            config: settings.

        Raises:
            UsageError: The store is too large, or a map of the browser is being made, or too many others are.
        """
        _check_size(opened, labels)
        with self._changed:
            self._give_up_stuck()
            active = [owner for owner, one in self._known.values() if one.job.active]
            if user in active:
                raise UsageError("a map of yours is being made: wait until it is done, or stop it")
            if len(active) >= MAX_WAITING_MAPS or self._stuck >= MAX_STUCK_MAPS:
                raise UsageError(f"{len(active)} maps are being made or do not end: try again later")
            self._remove_oldest([name for name, (owner, _) in self._known.items() if owner == user], MAX_USER_MAPS - 1)
            self._remove_oldest(list(self._known), MAX_MAPS - 1)
            name = secrets.token_urlsafe(16)
            made = LabelMap(opened.name, opened.version, labels, colours, config, self._folder / secrets.token_hex(16))
            made.job = RenderJob(lambda _: made.make(opened), lambda: None, self._workspace.folder)
            self._known[name] = user, made
            self._waiting.append(made)
            threading.Thread(target=self._make, args=[made], name="thalweg-map", daemon=True).start()
        return name

    def find(self, user: str, name: str) -> LabelMap:
        """Return a browser's map.

        Raises:
            UsageError: The browser has none of that name.
        """
        with self._changed:
            self._give_up_stuck()
            owner, found = self._known.get(name, ("", None))
        if found is None or owner != user:
            raise UsageError("no such map of yours: make it again")
        return found

    def ahead(self, found: LabelMap) -> int:
        """Return the number of maps that are made before this one."""
        with self._changed:
            return 0 if found not in self._waiting else self._waiting.index(found) + (self._making is not None)

    def _make(self, one: LabelMap) -> None:
        """Wait for a map's turn and make it."""
        with self._changed:
            self._changed.wait_for(lambda: self._making is None and self._waiting[0] is one)
            self._making, one.began = self._waiting.popleft(), time.monotonic()
        try:
            one.job.run()
        finally:
            with self._changed:
                if self._making is one:
                    self._making = None
                else:  # it was given up
                    self._stuck -= 1
                self._changed.notify_all()

    def _give_up_stuck(self) -> None:
        """Let others begin while a map does not end, such as one of a store that does not answer; under the lock."""
        one = self._making
        if one is not None and one.began is not None and time.monotonic() - one.began > MAX_MAP_SECONDS:
            one.job.stop()
            self._making = None
            self._stuck += 1
            self._changed.notify_all()

    def _remove_oldest(self, names: list[str], kept: int) -> None:
        """Remove the oldest of some maps that are not being made until `kept` are left; under the lock."""
        idle = [name for name in names if not self._known[name][1].job.active]
        for name in idle[: max(0, len(names) - kept)]:
            shutil.rmtree(self._known.pop(name)[1].folder, ignore_errors=True)


def _check_size(opened: OpenStore, labels: "geopandas.GeoDataFrame") -> None:
    rows, columns = opened.shape
    classes = labels[CLASS_COLUMN].nunique()
    if rows * columns > MAX_MAP_PIXELS or rows * columns * classes > MAX_MAP_VALUES:
        raise UsageError(
            f"{rows:,} x {columns:,} pixels and {classes} classes: too many for a map in the browser; save the labels "
            "and use `thalweg earth classify`"
        )
