from .convention_checks import check_conventions, check_multiscales
from .declared_conventions import GEO_EMBEDDINGS, MULTISCALES, PROJECTION, SPATIAL
from .geo_embeddings import depths, is_uri, source_uri, stated_source_uri
from .multiscales_layout import overview_factors, overview_group, stated_factors, with_multiscales, without_multiscales

__all__ = [
    "GEO_EMBEDDINGS",
    "MULTISCALES",
    "PROJECTION",
    "SPATIAL",
    "check_conventions",
    "check_multiscales",
    "depths",
    "is_uri",
    "overview_factors",
    "overview_group",
    "source_uri",
    "stated_factors",
    "stated_source_uri",
    "with_multiscales",
    "without_multiscales",
]
