from .protocol import Evaluation, EvaluationConfig, Splitting, evaluate
from .report import mean_scores, write_report
from .scores import r_squared, r_squared_difference

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "Splitting",
    "evaluate",
    "mean_scores",
    "r_squared",
    "r_squared_difference",
    "write_report",
]
