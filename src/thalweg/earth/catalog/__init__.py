"""From a bounding box to a cube: STAC search, loading onto one grid, a store that `Cube.open` reads."""

from thalweg.earth.catalog.catalogues import CATALOGUES, Catalogue, Product
from thalweg.earth.catalog.fetching import fetch
from thalweg.earth.catalog.growing import fetched_request
from thalweg.earth.catalog.planning import Plan, plan
from thalweg.earth.catalog.request import Request

__all__ = ["CATALOGUES", "Catalogue", "Plan", "Product", "Request", "fetch", "fetched_request", "plan"]
