from .aspect import VOCABULARIES
from .imprint import MASK
from .imprint_config import ImprintConfig, Mode

__all__ = ["MASK", "VOCABULARIES", "ImprintConfig", "Mode"]
