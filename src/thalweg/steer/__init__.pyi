from .imprinting.imprint import imprint
from .metrics.metric import Metric, metric
from .navigation.navigation import Navigation
from .optimization.optimize import optimize

__all__ = ["Metric", "Navigation", "imprint", "metric", "optimize"]
