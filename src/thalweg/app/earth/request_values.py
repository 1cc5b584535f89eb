"""Types of the values in the page's requests, and headers of answers that the browser may keep."""

from typing import Annotated

from fastapi import Path, Query

MAX_INDEX = 2**31 - 1
"""Largest row, column or date that is read."""
CACHE_HEADERS = {"Cache-Control": "private, max-age=3600"}
"""Headers of a tile, whose address names the version of what it shows."""

StoreName = Annotated[str, Query(max_length=500)]
Index = Annotated[int, Query(ge=0, le=MAX_INDEX)]
TileIndex = Annotated[int, Path(ge=0, le=MAX_INDEX)]
