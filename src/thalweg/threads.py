"""Threads of computations: one for each small one, and independent ones side by side over the cores."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_own = threading.local()  # of each thread: depth of `one_thread`, and whether it computes for `side_by_side`
_users = 0  # threads within `one_thread`
_former = 0  # number of threads before the first of them came


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread within the block, in this thread of the program; the former number is set back.

    Results then do not depend on the number of cores, and threads of small operations do not wait for each other,
    which on a busy machine takes many times the work itself. The block may be nested and entered by several threads.
    """
    depth = getattr(_own, "depth", 0)
    if not depth:
        _enter()
    _own.depth = depth + 1
    try:
        yield
    finally:
        _own.depth = depth
        if not depth:
            _leave()


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the results of independent computations, each with one thread, several at a time on several cores.

    They run with the caller's gradient mode. A call from within another one runs its computations in turn. The first
    exception is raised, after the computations that have begun are done; others do not begin.

    Args:
        function: called with each item, in any order and on any thread.
        items: the items.
    """
    recorded = torch.is_grad_enabled()

    def compute(item: Item) -> Result:
        with one_thread(), torch.set_grad_enabled(recorded):
            return function(item)

    workers = min(len(items), available_cores())
    if workers <= 1 or getattr(_own, "computes", False):
        return [compute(item) for item in items]
    with ThreadPoolExecutor(workers, "thalweg-compute", setattr, (_own, "computes", True)) as pool:
        return list(pool.map(lambda item, context: context.run(compute, item), items, [copy_context() for _ in items]))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _enter() -> None:
    global _users, _former
    with _lock:
        if not _users:
            _former = torch.get_num_threads()
        _users += 1
        torch.set_num_threads(1)


def _leave() -> None:
    """Set the number of threads back: that of this thread, and that of the process after the last one."""
    global _users
    with _lock:
        _users -= 1
        torch.set_num_threads(_former)
        if _users:  # set by another thread, which changes the process's number and not this thread's
            setter = threading.Thread(target=torch.set_num_threads, args=(1,))
            setter.start()
            setter.join()
