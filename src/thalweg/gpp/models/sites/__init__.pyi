from .level_learner import LevelLearner
from .site_levels import SiteLevels, fit_site_levels

__all__ = ["LevelLearner", "SiteLevels", "fit_site_levels"]
