"""Learn embedding spaces of the Earth, and steer embedding spaces by gradient and by eye."""

from thalweg._version import __version__
from thalweg.errors import ThalwegError, UsageError

__all__ = ["ThalwegError", "UsageError", "__version__"]
