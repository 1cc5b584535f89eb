"""Computation of the learners with one thread.

Labels are few: several threads wait for each other more than they compute, many times longer on a busy machine, and
sums in another order change a learner's choices.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit the thread pools of scikit-learn and of linear algebra to one thread for a block, or as a decorator."""
    import sklearn.ensemble  # noqa: F401 (only pools of libraries that are loaded can be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
