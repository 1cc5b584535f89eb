"""From a bounding box to a cube: STAC search, loading onto one grid, a store that `Cube.open` reads."""

from thalweg.earth.stac.catalogues import CATALOGUES, Catalogue, Product
from thalweg.earth.stac.fetch import fetch
from thalweg.earth.stac.plan import FetchPlan, plan
from thalweg.earth.stac.request import Request
from thalweg.earth.stac.zarr_writer import fetched_request

__all__ = ["CATALOGUES", "Catalogue", "FetchPlan", "Product", "Request", "fetch", "fetched_request", "plan"]
