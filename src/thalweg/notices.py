"""Warnings of the package: passed to a thread's listener, or to Python's `warnings` if there is none."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from thalweg.errors import ThalwegWarning

Listener = Callable[[ThalwegWarning], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def warn(warning: ThalwegWarning, stacklevel: int) -> None:
    """Pass a warning to the thread's listener, or to Python's `warnings`.

    Args:
        warning: the warning.
        stacklevel: level of the caller that Python's `warnings` names, as `warnings.warn` counts it.
    """
    listener = _listener.get()
    if listener is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        listener(warning)


@contextmanager
def redirect_warnings(listener: Listener) -> Iterator[None]:
    """Pass the warnings of this thread to `listener` within the block; other threads are not affected."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
