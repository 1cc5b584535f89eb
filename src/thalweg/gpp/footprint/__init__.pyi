from .footprint import FootprintSeries, Tower
from .footprint_series import embedding_names, series_of_bands, series_on_dates

__all__ = ["FootprintSeries", "Tower", "embedding_names", "series_of_bands", "series_on_dates"]
