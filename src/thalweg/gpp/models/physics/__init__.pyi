from .drivers import Drivers, has_drivers, read_drivers
from .physics_learners import LightUseEfficiencyLearner, PModelLearner
from .residual import ResidualLearner

__all__ = [
    "Drivers",
    "LightUseEfficiencyLearner",
    "PModelLearner",
    "ResidualLearner",
    "has_drivers",
    "read_drivers",
]
