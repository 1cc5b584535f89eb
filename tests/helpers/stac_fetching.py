"""Fetches of the small catalogue, for tests."""

from pathlib import Path
from typing import Any

import xarray as xr

from thalweg.earth.stac import Catalogue, Request, fetch, plan
from thalweg.earth.stac.search.client import RetryPolicy

QUICK = RetryPolicy(attempts=4, delay=0.05, timeout=1.0)
WEST = slice(2, 18)
"""Columns that only the western tile covers."""


def fetch_site(
    out: Path, catalogue: str | Catalogue, bbox: Any, time: str, *sensors: str, crs: str | None = None
) -> Path:
    """Fetch a box and a span of time; all default sensors if none is named."""
    return fetch(plan(Request(bbox, time, sensors or None, crs), catalogue, QUICK), out, retry_policy=QUICK)


def opened(store: Path, sensor: str) -> xr.Dataset:
    """Read the numbers of a sensor's group as they are stored."""
    return xr.open_zarr(store, group=sensor, mask_and_scale=False).compute()
