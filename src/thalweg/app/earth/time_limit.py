"""Work on one store in threads of its own, within a time: a store that does not answer holds up no other."""

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from thalweg.errors import UsageError

AT_ONCE = 2
"""How many requests read one store at a time; others wait, without a thread."""
MAX_STUCK = 2
"""Threads that may be stuck in one store; no further is begun."""
_Result = TypeVar("_Result")


class TimeLimit:
    """Runs what reads one store.

    A thread can't be ended from outside. One that takes too long is left behind and counted; while too many are left in
    a store, it is refused at once.
    """

    def __init__(self, name: str, threads: anyio.CapacityLimiter) -> None:
        self._name = name
        self._threads = threads
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self._lock = threading.Lock()
        self._running: set[object] = set()
        self._stuck: set[object] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no thread is in the store."""
        return not self._running

    async def run(self, work: Callable[[], _Result], seconds: float, shared: anyio.CapacityLimiter) -> _Result:
        """Return what `work` returns.

        Args:
            work: runs in a thread.
            seconds: how long it may take, the wait for its turn included.
            shared: how many may run at a time in all stores together.

        Raises:
            UsageError: it took longer, or the store does not answer to others.
        """
        if len(self._stuck) >= MAX_STUCK:
            raise UsageError(f"{self._name}: does not answer, as before: look at its files, or open another store")
        task = object()

        def counted() -> _Result:
            with self._lock:
                self._running.add(task)
            try:
                return work()
            finally:
                with self._lock:
                    self._running.discard(task)
                    self._stuck.discard(task)

        try:
            with anyio.fail_after(seconds):
                async with self._turns, shared:
                    return await anyio.to_thread.run_sync(counted, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError as error:
            raise UsageError(
                f"{self._name}: no answer within {seconds:g} seconds: look at its files, or open another store"
            ) from error
        finally:
            with self._lock:
                self._stuck |= self._running & {task}
