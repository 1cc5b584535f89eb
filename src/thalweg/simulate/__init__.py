"""Physical simulator of landscapes: satellite time series with known truth.

Weather drives soil water and plant growth. Growth and management drive leaf area and leaf pigments, which determine
the signals of Sentinel-2, Landsat 8 and Sentinel-1 (PROSAIL, water-cloud model) through clouds, noise and speckle.
Nothing is downloaded, and every number follows from the seed.
"""

from thalweg.simulate.landscape import Landscape, simulate
from thalweg.simulate.weather.climates import Climate

__all__ = ["Climate", "Landscape", "simulate"]
