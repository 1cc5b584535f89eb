from .imprinting.imprint import imprint
from .imprinting.imprint_config import ImprintConfig
from .metrics.metric import Metric, metric
from .navigation.navigate_config import NavigateConfig
from .navigation.navigation import Navigation
from .optimization.optimize import optimize
from .optimization.optimize_config import OptimizeConfig

__all__ = [
    "ImprintConfig",
    "Metric",
    "NavigateConfig",
    "Navigation",
    "OptimizeConfig",
    "imprint",
    "metric",
    "optimize",
]
