"""Several starts of sign ascent, one after the other, within one number of points."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.steer.optimization.optimizers import Region, SignAscent

RESTART_DRIFT = 0.5
"""Drift of the further starts, as a fraction of the trust radius."""


class Restarts:
    """Sign ascent from the start, and again from seeded random points near it.

    Each start has an equal share of the points; the best of all is kept by the search around it.

    Args:
        region: bounds the search.
        step_length: first step of each start, as a fraction of the trust radius.
        starts: number of starts.
        points: points measured in all, the first one included.
        seed: seed of the random starts.
    """

    def __init__(self, region: Region, step_length: float, starts: int, points: int, seed: int) -> None:
        self._region = region
        self._step_length = step_length
        self._seed = seed
        self._firsts = [-(-start * points // starts) for start in range(starts)]
        self.points_per_move = -(-points // starts)
        self.told = 0
        self._ascent = SignAscent(region, step_length)

    def ask(self) -> Tensor:
        """Return the current ascent's next point."""
        return self._ascent.ask()

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Let the current ascent learn; at the end of its share, begin the next."""
        self.told += 1
        if self.told in self._firsts:
            self._ascent = self._begin(self._firsts.index(self.told))
        else:
            self._ascent.tell(value, slack, gradient)

    def _begin(self, start: int) -> SignAscent:
        """Return an ascent from the random point of a start."""
        random = torch.Generator().manual_seed((self._seed + start) % 2**63)
        draw = torch.randn(len(self._region.spread), generator=random).to(self._region.spread)
        origin = self._region.project(RESTART_DRIFT * self._region.radius * draw)
        return SignAscent(self._region, self._step_length, origin)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the current ascent's state and the number of points so far."""
        tensors, values = self._ascent.state()
        return tensors, {**values, "told": self.told}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.told = values["told"]
        self._ascent.restore(tensors, values)
