"""Waiting that is bounded by work, not by the clock, so that a busy machine fails no test."""

import time
from collections.abc import Callable

HANG_SECONDS = 600.0
"""Timeout of calls that need one: far beyond any test, it only ends a hang."""
CPU_SECONDS = 120.0
"""CPU time of this process that a condition may take by default."""
_POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], object], cpu_seconds: float = CPU_SECONDS) -> None:
    """Wait for a condition, for at most `cpu_seconds` of CPU time of this process.

    Other processes on the machine do not count. A process that hangs without using the CPU fails after `HANG_SECONDS`
    of polls.
    """
    end = time.process_time() + cpu_seconds
    for _ in range(int(HANG_SECONDS / _POLL_SECONDS)):
        if condition():
            return
        assert time.process_time() < end, f"the condition took more than {cpu_seconds:g} s of CPU time"
        time.sleep(_POLL_SECONDS)
    raise AssertionError("the process hangs: the condition never came true")
