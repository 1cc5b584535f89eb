"""Ways up: each asks for the score at one place after another, in the offsets of a trust region, and learns from it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.limits import MAX_RATE, MIN_RATE, check_number
from thalweg.steer.trust_region import TrustRegion


class Optimizer(Protocol):
    """Proposes offsets (n), one at a time, to make a score large."""

    round: int
    """Places asked for between two moves; patience is counted in these."""

    def ask(self) -> Tensor:
        """Return the next offsets (n) to be measured; those of the first are zero, the start."""
        ...

    def tell(self, goal: float, is_best: bool, gradient: Callable[[], Tensor]) -> None:
        """Learn how good the last place is.

        Args:
            goal: its score, more is better.
            is_best: whether it is the best so far (and allowed).
            gradient: computes the goal's gradient (n) there; costs denoiser calls, so it is called only where needed.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON values from which `restore` goes on, to the last digit."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...


class MomentumAscent:
    """Gradient ascent with momentum from the best place so far; a step that gains nothing is taken back and halved.

    The step's length is a fraction of the trust radius and does not depend on the gradient's, so neither does it on the
    metric's scale.
    """

    round = 1
    momentum = 0.5
    growth = 1.2

    def __init__(self, region: TrustRegion, length: float) -> None:
        self.region = region
        self.best = torch.zeros_like(region.spread)
        self.place = self.best
        self.direction = torch.zeros_like(self.best)
        self.gradient = torch.zeros_like(self.best)
        self.length = length

    def ask(self) -> Tensor:
        """Return the place one step from the best."""
        return self.place

    def tell(self, goal: float, is_best: bool, gradient: Callable[[], Tensor]) -> None:
        """Move on from a better place, go back from a worse one."""
        if is_best:
            self.best = self.place
            slope = gradient()
            self.gradient = slope / slope.norm()
            self.direction = self.momentum * self.direction + self.gradient
            self.length *= self.growth
        else:
            self.direction = self.gradient
            self.length /= 2
        step = self.length * self.region.radius * math.sqrt(self.region.size)
        self.place = self.region.project(self.best + step * self.direction / self.direction.norm())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the best and the next place, the momentum, the last gradient and the step's length."""
        tensors = {"best": self.best, "place": self.place, "direction": self.direction, "gradient": self.gradient}
        return tensors, {"length": self.length}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.best, self.place = tensors["best"], tensors["place"]
        self.direction, self.gradient = tensors["direction"], tensors["gradient"]
        self.length = values["length"]


class PaperOptimizer:
    """The published optimiser (2308.12059): the sign of Lion's momentum, scaled to the length of an Adam step.

    It moves the embedding's own values, free of any trust region. Lion's and Adam's decay rates are these methods'
    usual ones. Mended: nothing resets the optimiser on the way; for aesthetics each moving tensor's mean and standard
    deviation are set back to the start's after every step.

    Args:
        region: gives the space and the drift; its radius does not bind.
        learning_rate: of the Adam step.
        loss_scale: factor on the metric, which Adam's `epsilon` does not let cancel.
        keep_moments: set means and standard deviations back.
    """

    round = 1
    epsilon = 1e-3
    lion_betas = (0.9, 0.99)
    adam_betas = (0.9, 0.999)

    def __init__(self, region: TrustRegion, learning_rate: float, loss_scale: float, keep_moments: bool) -> None:
        check_number("the learning rate", learning_rate, MIN_RATE, MAX_RATE)
        self.region = region
        self.learning_rate = learning_rate
        self.loss_scale = loss_scale
        self.keep_moments = keep_moments
        self.place = torch.zeros_like(region.spread)
        self.lion = torch.zeros_like(self.place)
        self.mean = torch.zeros_like(self.place)
        self.square = torch.zeros_like(self.place)
        self.steps = 0

    def ask(self) -> Tensor:
        """Return where the last step led."""
        return self.place

    def tell(self, goal: float, is_best: bool, gradient: Callable[[], Tensor]) -> None:
        """Step on, whether the place is better or not."""
        # The region's offsets are in units of the spread, the published step in the embedding's own.
        slope = self.loss_scale * gradient() / self.region.spread
        self.steps += 1
        first, second = self.adam_betas
        self.mean = first * self.mean + (1 - first) * slope
        self.square = second * self.square + (1 - second) * slope.square()
        adam = (self.mean / (1 - first**self.steps)) / ((self.square / (1 - second**self.steps)).sqrt() + self.epsilon)
        blend, decay = self.lion_betas
        sign = (blend * self.lion + (1 - blend) * slope).sign()
        self.lion = decay * self.lion + (1 - decay) * slope
        step = self.learning_rate * sign * adam.norm() / sign.norm()
        self.place = self.place + step / self.region.spread
        if self.keep_moments:
            self.place = self.region.with_start_moments(self.place)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the place, both methods' moments and the count of steps."""
        tensors = {"place": self.place, "lion": self.lion, "mean": self.mean, "square": self.square}
        return tensors, {"steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.place, self.lion = tensors["place"], tensors["lion"]
        self.mean, self.square = tensors["mean"], tensors["square"]
        self.steps = values["steps"]


class CmaEs:
    """CMA-ES (Hansen, arXiv 1604.00772) in a few directions of the embedding, for metrics without gradient.

    Its state is the log of all goals so far: told again with the same random numbers, it does the same again.

    Args:
        region: bounds the search.
        basis: directions (d, n) in the region's offsets; random ones where None.
        dimensions: number of random directions.
        length: first standard deviation, as a fraction of the trust radius.
        seed: of the directions and the search.
    """

    def __init__(self, region: TrustRegion, basis: Tensor | None, dimensions: int, length: float, seed: int) -> None:
        import cma
        import numpy as np

        if basis is None:
            random = torch.Generator().manual_seed(seed)
            basis = torch.randn(min(dimensions, region.size), region.size, generator=random).to(region.spread)
        if basis.ndim != 2 or basis.shape[1] != region.size:
            raise UsageError(f"expected a basis (d, {region.size}), got {tuple(basis.shape)}")
        if len(basis) < 2:
            raise UsageError(f"expected at least 2 directions to search, got {len(basis)}")
        self.region = region
        # Orthogonal directions of a drift of 1 each: coordinates are then drifts.
        self.basis = torch.linalg.qr(basis.mT).Q.mT * math.sqrt(region.size)
        random_numbers = np.random.default_rng(seed)
        # Its own random numbers: by default the library draws from, and seeds, NumPy's global ones.
        options = {"randn": lambda *shape: random_numbers.standard_normal(shape), "seed": math.nan, "verbose": -9}
        self._search = cma.CMAEvolutionStrategy(len(basis) * [0.0], length * region.radius, options)
        self.round = int(self._search.popsize)
        self.goals: list[float] = []
        self._asked: list[Any] = []

    def ask(self) -> Tensor:
        """Return the start, then the population's members in turn."""
        if not self.goals:
            return torch.zeros_like(self.region.spread)
        if not self._asked:
            self._asked = self._search.ask()
        member = self._asked[(len(self.goals) - 1) % self.round]
        return self.region.project(
            torch.as_tensor(member, dtype=self.basis.dtype, device=self.basis.device) @ self.basis
        )

    def tell(self, goal: float, is_best: bool, gradient: Callable[[], Tensor]) -> None:
        """Note the goal; after the population's last member the search moves on."""
        self.goals.append(goal)
        if len(self.goals) > 1 and (len(self.goals) - 1) % self.round == 0:
            self._search.tell(self._asked, [-goal for goal in self.goals[-self.round :]])
            self._asked = []

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the goals so far."""
        return {}, {"goals": self.goals}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Tell all goals again."""
        for goal in values["goals"]:
            self.ask()
            self.tell(goal, False, lambda: self.region.spread)
