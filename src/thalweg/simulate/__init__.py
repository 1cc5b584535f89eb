"""A physically based landscape simulator: satellite time series whose causes are all known.

Weather drives soil water and plant growth, growth and management drive leaf area and leaf pigments, and those
drive what Sentinel-2, Landsat 8 and Sentinel-1 see (PROSAIL, the water-cloud model), through clouds, noise
and speckle. Nothing is downloaded and every number follows from the seed.
"""

from thalweg.simulate.landscape import Landscape, simulate
from thalweg.simulate.weather.climates import Climate

__all__ = ["Climate", "Landscape", "simulate"]
