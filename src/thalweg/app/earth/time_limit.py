"""Time limits for the work on one store, which runs in threads: a store that does not answer delays no other."""

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from thalweg.errors import UsageError

MAX_CONCURRENT = 2
"""Requests that read one store at the same time; others wait without a thread."""
MAX_STUCK = 2
"""Threads that may be stuck in one store before it is refused."""
_Result = TypeVar("_Result")


class TimeLimit:
    """Time limit for the requests to one store.

    A thread cannot be ended from outside. One that takes too long is abandoned and counted; while too many are stuck in
    a store, further requests are refused at once.

    Args:
        name: name of the store in messages.
        threads: limit on the threads of all stores together.
    """

    def __init__(self, name: str, threads: anyio.CapacityLimiter) -> None:
        self._name = name
        self._threads = threads
        self._turns = anyio.CapacityLimiter(MAX_CONCURRENT)
        self._lock = threading.Lock()
        self._running: set[object] = set()
        self._stuck: set[object] = set()

    @property
    def is_idle(self) -> bool:
        """True if no thread is reading the store."""
        return not self._running

    async def run(self, work: Callable[[], _Result], seconds: float, shared: anyio.CapacityLimiter) -> _Result:
        """Run `work` in a thread and return its result.

        Args:
            work: function that reads the store.
            seconds: time limit, including the wait for a free thread.
            shared: limit on the requests that run at the same time, for all stores together.

        Raises:
            UsageError: The time limit was exceeded, or too many earlier requests are stuck in the store.
        """
        if len(self._stuck) >= MAX_STUCK:
            raise UsageError(f"{self._name}: does not answer: check its files, or open another store")
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
                f"{self._name}: no answer within {seconds:g} seconds: check its files, or open another store"
            ) from error
        finally:
            with self._lock:
                self._stuck |= self._running & {task}
