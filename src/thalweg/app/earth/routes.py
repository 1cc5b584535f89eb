"""HTTP routes of the page: stores, tiles and pixels. A failure is one line of JSON, never a traceback."""

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from thalweg.app.earth import pixels, tiles
from thalweg.app.earth.labels import MAX_PAGE_CLASSES, LabelMaps, add_label_routes, attachment
from thalweg.app.earth.open_stores import OpenStore, OpenStores
from thalweg.app.earth.request_values import CACHE_HEADERS, MAX_INDEX, Index, StoreName, TileIndex
from thalweg.app.security.messages import browser_message
from thalweg.app.security.uploads import Uploads
from thalweg.app.workspace import Workspace
from thalweg.earth.export.categorical import distinct_colours
from thalweg.earth.positions import PixelIndex, dataset_geobox
from thalweg.earth.store.portable import model_of
from thalweg.errors import ThalwegError, UsageError

ZARR_THREADS = 64
"""Threads in which Zarr reads the chunks of all stores; a store that never answers cannot occupy all of them."""
MAX_CHARACTERS, MAX_BANDS = 300, 20
"""Length of a text, and number of bands, of a store's attributes that the page shows."""


def earth_router(workspace: Workspace, uploads: Uploads) -> APIRouter:
    """Return the routes under `/earth` for the embedding stores of a workspace.

    Args:
        workspace: folder of the stores.
        uploads: uploads of all browsers, among them files of labels.
    """
    import zarr

    zarr.config.set({"threading.max_workers": ZARR_THREADS})
    stores = OpenStores(workspace)

    class OneLineErrors(APIRoute):
        """Route that answers a failure with its message in one line, without the workspace's own path."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except RequestValidationError as error:
                    first = error.errors()[0]
                    return _refusal(f"{first['loc'][-1]}: {first['msg']}")
                except HTTPException as error:  # a body that is no JSON
                    return _refusal(str(error.detail))
                except UsageError as error:
                    return _refusal(browser_message(error, workspace.folder))
                except Exception as error:  # libraries raise many kinds on a damaged store
                    if not isinstance(error, ThalwegError):  # an own error names the damaged chunk
                        logging.getLogger(__name__).exception("could not answer %s", request.url.path)
                    reason = browser_message(error, workspace.folder)[:300]
                    return _refusal(f"the store could not be read ({reason}): embed it again, or open another")

            return handled

    router = APIRouter(prefix="/earth", route_class=OneLineErrors)

    @router.get("/stores")
    async def list_stores() -> list[str]:
        return await stores.list_names()

    @router.get("/store")
    async def describe(store: StoreName) -> dict[str, Any]:
        return await stores.use(store, describe_store)

    @router.get("/clear")
    async def clear(store: StoreName) -> list[float]:
        return await stores.use(store, lambda opened: [round(float(share), 4) for share in opened.clear_fractions()])

    @router.get("/tile/{layer}/{level}/{row}/{column}")
    async def tile(
        layer: str,
        level: TileIndex,
        row: TileIndex,
        column: TileIndex,
        store: StoreName,
        date: Index,
        pixel_row: Index | None = None,
        pixel_column: Index | None = None,
    ) -> Response:
        pixel = None if pixel_row is None or pixel_column is None else PixelIndex(pixel_row, pixel_column)
        image = await stores.use(store, lambda opened: tiles.draw_tile(opened, layer, level, row, column, date, pixel))
        return Response(image, media_type="image/png", headers=CACHE_HEADERS)

    @router.get("/pixel")
    async def pixel(store: StoreName, row: Index, column: Index) -> dict[str, Any]:
        return await stores.use(store, lambda opened: pixels.pixel_series(opened, PixelIndex(row, column)))

    @router.get("/pixel/series")
    async def series(store: StoreName, row: Index, column: Index) -> Response:
        table = await stores.use(store, lambda opened: pixels.series_table(opened, PixelIndex(row, column)))
        headers = attachment(f"{Path(store).stem}-row{row}-column{column}-series.csv")
        return Response(table, media_type="text/csv; charset=utf-8", headers=headers)

    @router.get("/decode")
    async def decode(store: StoreName, row: Index, column: Index, date: Index) -> dict[str, Any]:
        return await stores.use(store, lambda opened: pixels.decoded_bands(opened, PixelIndex(row, column), date))

    @router.post("/whatif")
    async def whatif(
        store: Annotated[str, Body(max_length=500)],
        row: Annotated[int, Body(ge=0, le=MAX_INDEX)],
        column: Annotated[int, Body(ge=0, le=MAX_INDEX)],
        date: Annotated[int, Body(ge=0, le=MAX_INDEX)],
        target: Annotated[str, Body(min_length=1, max_length=500)],
    ) -> dict[str, Any]:
        pixel = PixelIndex(row, column)
        return await stores.use(store, lambda opened: pixels.pixel_counterfactual(opened, pixel, date, target))

    add_label_routes(router, stores, LabelMaps(workspace), uploads)
    return router


def describe_store(store: OpenStore) -> dict[str, Any]:
    """Return the properties of a store that the page needs before it draws; JSON values only."""
    dataset = store.dataset
    rows, columns = store.shape
    all_levels = range(tiles.levels(store))
    return {
        "name": store.name,
        "version": store.version,
        "title": str(dataset.attrs.get("title", store.name))[:MAX_CHARACTERS],
        "model": model_of(dataset)[:MAX_CHARACTERS],
        "rows": rows,
        "columns": columns,
        "dimensions": dataset.sizes["embedding"],
        "resolution": float(dataset.attrs["geoemb:gsd"]),
        "reference_system": str(dataset.attrs.get("proj:code", ""))[:MAX_CHARACTERS],
        "transform": list(dataset_geobox(dataset).affine)[:6],
        "degrees": pixels.degree_grid(store),
        "class_colours": distinct_colours(MAX_PAGE_CLASSES),
        "preview_bands": [str(band)[:MAX_CHARACTERS] for band in dataset.picture.attrs.get("bands", ())][:MAX_BANDS],
        "dates": [np.datetime_as_string(time, "s") for time in dataset.time.values],
        "sampled": store.is_sampled,
        "tile": tiles.TILE_SIZE,
        "strides": [tiles.stride(store, level) for level in all_levels],
        "similarity_strides": [tiles.stride(store, level, tiles.MAX_SIMILARITY_CHUNKS) for level in all_levels],
        "similarity_dates": [tiles.similarity_dates(store, level) for level in all_levels],
        "quality": [
            {
                "name": flag.name.lower(),
                "label": label,
                "colour": "#{:02x}{:02x}{:02x}".format(*tiles.QUALITY_COLOURS[flag]),
            }
            for flag, label in tiles.QUALITY_LABELS.items()
        ],
    }


def _refusal(message: str) -> JSONResponse:
    return JSONResponse({"error": message}, 422)
