from .index_building import build_index
from .index_manifest import IndexedStore, IndexManifest
from .neighbour_plots import neighbour_map
from .neighbours import Neighbours, find_neighbours
from .search_index import Matches, SearchIndex

__all__ = [
    "IndexManifest",
    "IndexedStore",
    "Matches",
    "Neighbours",
    "SearchIndex",
    "build_index",
    "find_neighbours",
    "neighbour_map",
]
