from .flow_records import FlowSeries
from .footprint import FootprintSeries, Tower
from .footprint_series import embedding_names, series_of_bands, series_on_dates
from .kljun import TowerHeights
from .kljun_footprints import KljunFootprints

__all__ = [
    "FlowSeries",
    "FootprintSeries",
    "KljunFootprints",
    "Tower",
    "TowerHeights",
    "embedding_names",
    "series_of_bands",
    "series_on_dates",
]
