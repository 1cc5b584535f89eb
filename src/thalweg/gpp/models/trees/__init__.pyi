from .boosting import BoostingLearner
from .lightgbm_learner import LightGBMLearner

__all__ = ["BoostingLearner", "LightGBMLearner"]
