from .expression import read_expression, with_absolute_files
from .metric import Metric
from .parsing import parse
from .scorer import Scorer

__all__ = ["Metric", "Scorer", "parse", "read_expression", "with_absolute_files"]
