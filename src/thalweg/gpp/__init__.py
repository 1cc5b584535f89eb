"""Gross primary production (GPP): flux-tower tables, daily windows, models and their evaluation.

The paper's quantitative test (arXiv 2511.11706, section "GPP use"): 90 days of daily features predict the daily GPP
of the last day.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
