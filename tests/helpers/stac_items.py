"""Items and a static catalogue of a small Sentinel-2 scene, with any field changed."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio import open as open_raster

from thalweg.earth.stac import Request, plan
from thalweg.earth.stac.plan import FetchPlan
from thalweg.earth.stac.search.client import RetryPolicy

QUICK = RetryPolicy(attempts=2, delay=0.01, timeout=2.0)
BOX = (3.0005, 50.8205, 3.0080, 50.8260)
BANDS = ("B02", "B03", "B04", "B8A", "SCL")
OUTLINE = {"type": "Polygon", "coordinates": [[[3.0, 50.82], [3.01, 50.82], [3.01, 50.83], [3.0, 50.83], [3.0, 50.82]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[3.0, 50.82], [3.01, 50.83], [3.01, 50.82], [3.0, 50.83], [3.0, 50.82]]]}


def item(name: str = "invalid", **changes: Any) -> dict[str, Any]:
    """Return the JSON of a Sentinel-2 item; a change to None removes the field, to "null" sets it to null."""
    properties = {
        "datetime": "2022-06-01T10:50:31Z",
        "proj:code": "EPSG:32631",
        "s2:processing_baseline": "03.01",
        "sat:relative_orbit": 94,
        "platform": "sentinel-2a",
    }
    fields: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": OUTLINE,
        "bbox": [3.0, 50.82, 3.01, 50.83],
        "properties": properties,
        "assets": {band: {"href": f"../{band}.tif", "roles": ["data"]} for band in BANDS},
        "links": [],
        "collection": "sentinel-2-l2a",
        "stac_extensions": [],
    }
    fields = copy.deepcopy(fields)
    for key, value in changes.items():
        holder = (
            fields["properties"]
            if key.startswith("p_")
            else fields["assets"]["B02"]
            if key.startswith("a_")
            else fields
        )
        key = key.removeprefix("p_").removeprefix("a_").replace("__", ":")
        if value is None:
            holder.pop(key, None)
        else:
            holder[key] = None if value == "null" else value
    return fields


SPAN = {"p_datetime": "null", "p_start_datetime": "2022-06-01T10:50:31", "p_end_datetime": "2022-06-01T10:50:45"}


def write_scene(folder: Path) -> None:
    """Write the files of the scenes: 80 x 70 pixels of 10 m at the box, one number per band."""
    profile = {"driver": "GTiff", "width": 80, "height": 70, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
    for index, band in enumerate(BANDS):
        values = np.full((70, 80), 4 if band == "SCL" else 1000 + index, np.uint16)
        with open_raster(
            folder / f"{band}.tif", "w", **profile, transform=Affine(10, 0, 500000, 0, -10, 5630500)
        ) as file:
            file.write(values, 1)


def write_catalogue(folder: Path, items: Mapping[str, Any], **more: Any) -> Path:
    """Write a static catalogue of one collection; `more` are further documents, `root_links` and `collection_links`."""
    write_scene(folder)
    (folder / "items").mkdir()
    root_links, collection_links = more.pop("root_links", []), more.pop("collection_links", [])
    for name, content in {**{f"items/{name}": fields for name, fields in items.items()}, **more}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    about = {"stac_version": "1.0.0", "description": "made for a test"}
    links = [{"rel": "item", "href": f"./items/{name}.json"} for name in items]
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2015-01-01T00:00:00Z", None]]}}
    collection = {**about, "type": "Collection", "id": "sentinel-2-l2a", "license": "other", "extent": extent}
    (folder / "collection.json").write_text(json.dumps({**collection, "links": [*links, *collection_links]}))
    child = {"rel": "child", "href": "./collection.json"}
    root = {**about, "type": "Catalog", "id": "root", "links": [child, *root_links]}
    (folder / "catalog.json").write_text(json.dumps(root))
    return folder / "catalog.json"


def planned(catalogue: str | Path, box: tuple[float, float, float, float] = BOX) -> FetchPlan:
    return plan(Request(box, "2022-06", ("sentinel-2",)), str(catalogue), QUICK)


def found_and_skipped(fetch_plan: FetchPlan) -> tuple[list[str], list[str]]:
    """Return the items found, and the lines about skipped entries."""
    items = [name for date in fetch_plan.dates["sentinel-2"] for name in date.names]
    return items, [note for note in fetch_plan.notes if ": skipped, " in note]
