"""Physical simulator of landscapes: satellite time series with known truth.

Weather drives soil water and plant growth. Growth and management drive leaf area and leaf pigments, which determine
the signals of Sentinel-2, Landsat 8 and Sentinel-1 (PROSAIL, water-cloud model) through clouds, noise and speckle.
Nothing is downloaded, and every number follows from the seed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
