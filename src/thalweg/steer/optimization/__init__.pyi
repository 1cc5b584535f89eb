from .optimize import BATCH, OptimizeResult
from .optimize_config import OptimizeConfig, Recipe, Search
from .optimizers import Optimizer, PaperOptimizer, optimizer_state, restore_optimizer
from .search import BEST, Step

__all__ = [
    "BATCH",
    "BEST",
    "OptimizeConfig",
    "OptimizeResult",
    "Optimizer",
    "PaperOptimizer",
    "Recipe",
    "Search",
    "Step",
    "optimizer_state",
    "restore_optimizer",
]
