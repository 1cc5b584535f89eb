"""Warnings of the package: given to who listens in this thread, or else to Python's `warnings`."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from thalweg.errors import ThalwegWarning

Listener = Callable[[ThalwegWarning], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def warn(warning: ThalwegWarning, stacklevel: int) -> None:
    """Give a warning; `stacklevel` is that of the caller that is named, as `warnings.warn` counts it."""
    listener = _listener.get()
    if listener is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        listener(warning)


@contextmanager
def redirect_warnings(listener: Listener) -> Iterator[None]:
    """Give the warnings of this thread to `listener` within the block; other threads are not concerned."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
