"""From a bounding box to a cube: search of STAC catalogues, loading onto one grid, and the store that is written."""

from thalweg.earth.stac.fetch import fetch
from thalweg.earth.stac.plan import FetchPlan, plan
from thalweg.earth.stac.search.catalogues import CATALOGUES, Catalogue, Product
from thalweg.earth.stac.search.request import Request
from thalweg.earth.stac.zarr_writer import fetched_request

__all__ = ["CATALOGUES", "Catalogue", "FetchPlan", "Product", "Request", "fetch", "fetched_request", "plan"]
