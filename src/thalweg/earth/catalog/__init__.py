"""From a bounding box to a cube: STAC search, loading onto one grid, a store that `Cube.open` reads."""

from thalweg.earth.catalog.catalogues import CATALOGUES, Catalogue, Product
from thalweg.earth.catalog.fetching import Plan, fetch, fetched_request, plan
from thalweg.earth.catalog.request import Request

__all__ = ["CATALOGUES", "Catalogue", "Plan", "Product", "Request", "fetch", "fetched_request", "plan"]
