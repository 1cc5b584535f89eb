"""What the page asks for: stores, tiles, and what a pixel says. A failure is one line of JSON, never a traceback."""

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from thalweg.app.earth import pixels, tiles
from thalweg.app.earth.open_stores import OpenStore, OpenStores
from thalweg.app.messages import in_words
from thalweg.app.workspace import Workspace
from thalweg.errors import ThalwegError, UsageError

ZARR_THREADS = 64
"""Threads in which Zarr reads the chunks of all stores: more than the chunks of a store that never come can hold."""
_LARGEST = 2**31 - 1
_MAX_WORDS, _MAX_BANDS = 300, 20  # of what a store says of itself, and the page repeats
_KEEP = {"Cache-Control": "private, max-age=3600"}  # a tile's address names the store's version

StoreName = Annotated[str, Query(max_length=500)]
Index = Annotated[int, Query(ge=0, le=_LARGEST)]
Place = Annotated[int, Path(ge=0, le=_LARGEST)]


def earth_router(workspace: Workspace) -> APIRouter:
    """Routes under `/earth` over the embedding stores of a workspace."""
    import zarr

    zarr.config.set({"threading.max_workers": ZARR_THREADS})
    scenes = OpenStores(workspace)

    class InOneLine(APIRoute):
        """Answers a failure with its message in one line, the workspace's own place left out."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except RequestValidationError as error:
                    first = error.errors()[0]
                    return _refusal(f"{first['loc'][-1]}: {first['msg']}")
                except UsageError as error:
                    return _refusal(in_words(error, workspace.folder))
                except Exception as error:  # whatever a library raises on a damaged store, the page goes on
                    if not isinstance(error, ThalwegError):  # a damaged chunk says in its message where it is
                        logging.getLogger(__name__).exception("could not answer %s", request.url.path)
                    reason = in_words(error, workspace.folder)[:300]
                    return _refusal(f"the store could not be read ({reason}): embed it again, or open another")

            return handled

    router = APIRouter(prefix="/earth", route_class=InOneLine)

    @router.get("/stores")
    async def stores() -> list[str]:
        return await scenes.list_names()

    @router.get("/store")
    async def store(store: StoreName) -> dict[str, Any]:
        return await scenes.use(store, describe)

    @router.get("/clear")
    async def clear(store: StoreName) -> list[float]:
        return await scenes.use(store, lambda scene: [round(float(share), 4) for share in scene.clear])

    @router.get("/tile/{layer}/{level}/{column}/{row}")
    async def tile(
        layer: str,
        level: Place,
        column: Place,
        row: Place,
        store: StoreName,
        date: Index,
        pixel_row: Index | None = None,
        pixel_column: Index | None = None,
    ) -> Response:
        pixel = None if pixel_row is None or pixel_column is None else (pixel_row, pixel_column)
        image = await scenes.use(store, lambda scene: tiles.draw(scene, layer, level, column, row, date, pixel))
        return Response(image, media_type="image/png", headers=_KEEP)

    @router.get("/pixel")
    async def pixel(store: StoreName, row: Index, column: Index) -> dict[str, Any]:
        return await scenes.use(store, lambda scene: pixels.series(scene, row, column))

    @router.get("/decode")
    async def decode(store: StoreName, row: Index, column: Index, date: Index) -> dict[str, Any]:
        return await scenes.use(store, lambda scene: pixels.decoded(scene, row, column, date))

    @router.post("/whatif")
    async def whatif(
        store: Annotated[str, Body(max_length=500)],
        row: Annotated[int, Body(ge=0, le=_LARGEST)],
        column: Annotated[int, Body(ge=0, le=_LARGEST)],
        date: Annotated[int, Body(ge=0, le=_LARGEST)],
        target: Annotated[str, Body(min_length=1, max_length=500)],
    ) -> dict[str, Any]:
        return await scenes.use(store, lambda scene: pixels.asked_what_if(scene, row, column, date, target))

    return router


def describe(scene: OpenStore) -> dict[str, Any]:
    """What the page must know of a store before it draws; JSON values only."""
    dataset = scene.dataset
    rows, columns = scene.shape
    every_level = range(tiles.levels(scene))
    return {
        "name": scene.name,
        "version": scene.version,
        "title": str(dataset.attrs.get("title", scene.name))[:_MAX_WORDS],
        "model": str(dataset.attrs["geoemb:model"])[:_MAX_WORDS],
        "rows": rows,
        "columns": columns,
        "values": dataset.sizes["embedding"],
        "resolution": float(dataset.attrs["geoemb:gsd"]),
        "reference_system": str(dataset.attrs.get("proj:code", ""))[:_MAX_WORDS],
        "picture_bands": [str(band)[:_MAX_WORDS] for band in dataset.picture.attrs.get("bands", ())][:_MAX_BANDS],
        "dates": [np.datetime_as_string(time, "s") for time in dataset.time.values],
        "sampled": scene.sampled,
        "tile": tiles.TILE,
        "strides": [tiles.stride(scene, level) for level in every_level],
        "similarity_strides": [tiles.stride(scene, level, tiles.SIMILARITY_CHUNKS) for level in every_level],
        "similarity_dates": [tiles.similarity_dates(scene, level) for level in every_level],
        "quality": [
            {
                "name": flag.name.lower(),
                "words": words,
                "colour": "#{:02x}{:02x}{:02x}".format(*tiles.QUALITY_COLOURS[flag]),
            }
            for flag, words in tiles.QUALITY_WORDS.items()
        ],
    }


def _refusal(message: str) -> JSONResponse:
    return JSONResponse({"error": message}, 422)
