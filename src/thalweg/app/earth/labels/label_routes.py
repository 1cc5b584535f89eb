"""HTTP routes of the page's labels: files of labels, maps from labels, and their downloads."""

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse

from thalweg.app.earth.labels.label_files import (
    LABEL_FILES,
    LABEL_SUFFIXES,
    file_columns,
    file_labels,
    file_layers,
    open_label_file,
)
from thalweg.app.earth.labels.label_maps import ARCHIVE, MAP_MEMORY, LabelMaps
from thalweg.app.earth.labels.map_answers import describe_map, draw_map_tile
from thalweg.app.earth.labels.map_tables import LABELLED_PIXELS, MAP_GEOPACKAGE
from thalweg.app.earth.labels.page_labels import check_colours, read_page_labels
from thalweg.app.earth.open_stores import OpenStore, OpenStores
from thalweg.app.earth.request_values import CACHE_HEADERS, StoreName, TileIndex
from thalweg.app.security.auth import user_of
from thalweg.app.security.uploads import Uploads, receive_upload
from thalweg.earth.mapping.mapping_config import MappingConfig
from thalweg.errors import ThalwegError, UsageError, one_line, unknown_name
from thalweg.limits import check_choice, check_count, check_text

MAX_NAME = 500
"""Characters of the name of a store, a column, a layer or an upload."""
FEATURES = ("P10D", "P15D", "P30D", "date")
"""Features of a map: a calendar with this period, or the one date that is shown."""
DOWNLOADS = {
    "gpkg": ("map", MAP_GEOPACKAGE, "application/geopackage+sqlite3"),
    "csv": ("labelled-pixels", LABELLED_PIXELS, "text/csv; charset=utf-8"),
    "zip": ("map", ARCHIVE, "application/zip"),
}
"""Downloads of a map by suffix: name after that of the store, file of the map, and media type."""

_MAX_REASON = 160

MapName = Annotated[str, Query(max_length=100)]
PageRequest = Annotated[dict[str, Any], Body()]


def add_label_routes(router: APIRouter, stores: OpenStores, maps: LabelMaps, uploads: Uploads) -> None:
    """Add the routes of labels to the routes of the Earth page.

    Args:
        router: routes of the page; they answer a `UsageError` in one line.
        stores: open stores.
        maps: maps of all browsers.
        uploads: uploads of all browsers.
    """

    @router.post("/upload")
    async def upload(request: Request) -> Response:
        answer = await receive_upload(request, uploads, user_of(request.cookies), LABEL_SUFFIXES, LABEL_FILES)
        if answer.status_code != 200:
            raise UsageError(bytes(answer.body).decode())
        return answer

    @router.post("/labels/file")
    async def file(request: Request, asked: PageRequest) -> dict[str, Any]:
        path = _uploaded(uploads, request, asked)
        column, crs, layer = (_text(asked, name) if asked.get(name) else None for name in ("column", "crs", "layer"))
        answer = await stores.use(_text(asked, "store"), lambda opened: read_file(opened, path, column, crs, layer))
        if "labels" in answer:
            uploads.remove(path)
        return answer

    @router.post("/labels/geopackage")
    async def geopackage(asked: PageRequest) -> Response:
        content = await stores.use(_text(asked, "store"), lambda opened: labels_geopackage(opened, asked))
        headers = attachment(f"{Path(_text(asked, 'store')).stem}-labels.gpkg")
        return Response(content, media_type=DOWNLOADS["gpkg"][2], headers=headers)

    @router.post("/map")
    async def start(request: Request, asked: PageRequest) -> dict[str, str]:
        user = user_of(request.cookies)

        def begin(opened: OpenStore) -> str:
            labels = read_page_labels(asked.get("classes"), asked.get("labels"), opened)
            colours = check_colours(asked.get("classes"), asked.get("colours"))
            config = map_config(opened, asked.get("features"), asked.get("date"))
            return maps.start(user, opened, labels, colours, config)

        return {"map": await stores.use(_text(asked, "store"), begin)}

    @router.get("/map")
    async def state(request: Request, map: MapName) -> dict[str, Any]:
        found = maps.find(user_of(request.cookies), map)
        return describe_map(found, maps.ahead(found))

    @router.post("/map/stop")
    async def stop(request: Request, asked: PageRequest) -> dict[str, Any]:
        found = maps.find(user_of(request.cookies), _text(asked, "map"))
        found.job.stop()
        return describe_map(found, maps.ahead(found))

    @router.get("/map/file")
    def map_file(request: Request, map: MapName, kind: MapName) -> Response:
        found = maps.find(user_of(request.cookies), map)
        if kind not in DOWNLOADS:
            raise unknown_name("kind of file", kind, DOWNLOADS)
        name, file, media = DOWNLOADS[kind]
        headers = attachment(f"{Path(found.store).stem}-{name}.{kind}")
        return FileResponse(found.done().files[file], media_type=media, headers=headers)

    @router.get("/map/tile/{level}/{row}/{column}")
    async def map_tile(
        request: Request, level: TileIndex, row: TileIndex, column: TileIndex, store: StoreName, map: MapName
    ) -> Response:
        found = maps.find(user_of(request.cookies), map)
        image = await stores.use(store, lambda opened: draw_map_tile(opened, found, level, row, column))
        return Response(image, media_type="image/png", headers=CACHE_HEADERS)


def read_file(opened: OpenStore, path: Path, column: str | None, crs: str | None, layer: str | None) -> dict[str, Any]:
    """Return what a file of labels holds: its layers to choose from, else its columns, else the labels of one.

    Raises:
        UsageError: The file cannot be read, or its labels are not usable on the store.
    """
    try:
        layers = file_layers(path)
        if len(layers) > 1 and layer is None:
            return {"layers": layers}
        frame = open_label_file(path, crs, layer)
        columns = file_columns(frame)
        if not columns:
            raise UsageError("a table without columns: expected one with the classes")
        if column is None:
            return {"columns": columns, "features": len(frame)}
        found = file_labels(frame, column, opened)
    except ThalwegError:
        raise
    except Exception as error:  # libraries raise many kinds on a damaged file
        raise UsageError(f"this file cannot be read ({one_line(error)[:_MAX_REASON]}): write it again") from error
    return {"classes": found.classes, "labels": found.labels, "notes": found.notes}


def labels_geopackage(opened: OpenStore, asked: dict[str, Any]) -> bytes:
    """Return the labels of a page as a GeoPackage with the column `class`, in the reference system of the store."""
    labels = read_page_labels(asked.get("classes"), asked.get("labels"), opened)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.gpkg"
        labels.to_file(path, driver="GPKG", layer="labels", engine="pyogrio")
        return path.read_bytes()


def map_config(opened: OpenStore, features: Any, date: Any) -> MappingConfig:
    """Return the settings of a map.

    Args:
        opened: the store.
        features: one of `FEATURES`.
        date: index of the date that is shown.

    Raises:
        UsageError: Any other value.
    """
    chosen = check_choice("the features", features, FEATURES)
    if chosen != "date":
        return MappingConfig(calendar=chosen, memory=MAP_MEMORY)
    index = check_count("the date", date, 0, opened.dataset.sizes["time"] - 1)
    return MappingConfig(date=str(opened.dataset.time.values[index])[:19], memory=MAP_MEMORY)


def attachment(name: str) -> dict[str, str]:
    """Return the header of a download with the name of its file, in letters, digits, dots and dashes."""
    return {"Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}"'}


def _uploaded(uploads: Uploads, request: Request, asked: dict[str, Any]) -> Path:
    path = uploads.find(user_of(request.cookies), _text(asked, "upload"))
    if path is None or path.suffix not in LABEL_SUFFIXES:
        raise UsageError("expected a file that this browser uploaded and that has not been used: choose it again")
    return path


def _text(asked: dict[str, Any], name: str) -> str:
    return check_text(f"the {name}", asked.get(name), MAX_NAME)
