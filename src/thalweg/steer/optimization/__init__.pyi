from .optimize import BATCH, BEST, OptimizeResult, Step
from .optimize_config import OptimizeConfig, Recipe, Search
from .optimizers import Optimizer, PaperOptimizer, optimizer_state, restore_optimizer

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
