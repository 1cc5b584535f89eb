from .catalogues import CATALOGUES, Catalogue, Product, catalogue_by_name
from .client import CatalogueClient, RetryPolicy, http_reader
from .request import RESOLUTION, Request
from .scenes import Overpass, Scene, group_overpasses

__all__ = [
    "CATALOGUES",
    "RESOLUTION",
    "Catalogue",
    "CatalogueClient",
    "Overpass",
    "Product",
    "Request",
    "RetryPolicy",
    "Scene",
    "catalogue_by_name",
    "group_overpasses",
    "http_reader",
]
