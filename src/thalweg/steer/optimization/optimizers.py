"""Optimizers: sign ascent, CMA-ES and the paper optimizer; each asks for one score at a time and learns from it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.limits import MAX_RATE, MIN_RATE, check_number
from thalweg.steer.trust_region import TrustRegion

_STATE_NAME = "climber"  # codespell:ignore climber
"""Name of an optimizer's part in a state file."""


class Space(Protocol):
    """Offsets (n) from a start in units of their spread (n), see `TrustRegion`."""

    spread: Tensor

    def split(self, offsets: Tensor) -> tuple[Tensor, ...]:
        """Return the part of a vector (n) that belongs to each tensor."""
        ...


class Region(Space, Protocol):
    """The offsets that an optimizer may propose."""

    radius: float

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets (n) that are allowed."""
        ...


class Optimizer(Protocol):
    """Proposes offsets (n) of a trust region, one point at a time, to maximise an objective."""

    points_per_move: int
    """Points measured between two moves; patience is counted in moves."""

    def ask(self) -> Tensor:
        """Return the next offsets (n) to measure; the first are zero, the start."""
        ...

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Learn from the last point.

        Args:
            value: the objective there, more is better.
            slack: share of the constraint's allowed loss that is left: 1 at the start, negative where it fails, minus
                infinity where the judge refuses the point.
            gradient: computes the objective's gradient (n) there; it costs denoiser calls.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON values from which `restore` continues exactly."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from a state."""
        ...


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's tensors and values under the names that state files use."""
    tensors, values = optimizer.state()
    return {f"{_STATE_NAME}.{name}": tensor for name, tensor in tensors.items()}, {_STATE_NAME: values}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore an optimizer from a state file's tensors and values; other tensors and values are ignored."""
    prefix = f"{_STATE_NAME}."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    optimizer.restore(own, values[_STATE_NAME])


class SignAscent:
    """Ascent along the signs of the gradient; steps are shortened where the score falls, undone where a guard refuses.

    The signs move all entries alike, and so every tensor by the same drift: along the gradient itself a few large
    entries would leave the start's neighbourhood before the others have moved. Its length, a fraction of the trust
    radius, does not depend on the gradient's length, and therefore neither on the metric's scale nor on the gradient
    mode's.

    Args:
        region: bounds the search.
        step_length: first step, as a fraction of the trust radius.
        origin: offsets (n) of the first point; None: zero, the start.
    """

    points_per_move = 1
    growth = 1.1
    shrinkage = 0.7

    def __init__(self, region: Region, step_length: float, origin: Tensor | None = None) -> None:
        self.region = region
        self.base = torch.zeros_like(region.spread) if origin is None else origin
        self.value = -math.inf
        self.slack = 1.0
        self.point = self.base
        self.direction = torch.zeros_like(self.base)
        self.step_length = step_length

    def ask(self) -> Tensor:
        """Return the point one step from the last allowed one."""
        return self.point

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Continue from an allowed point, return from one that is refused; the first point is taken as it is."""
        is_first = self.value == -math.inf
        if is_first or slack >= 0:
            self.direction = gradient().sign()
            self.step_length *= 1 if is_first else self.growth if value > self.value else self.shrinkage
            self.base, self.value, self.slack = self.point, value, slack
        else:
            self.step_length *= self._fitting(slack)
        step = self.step_length * self.region.radius * self.direction
        self.point = self.region.project(self.base + step)

    def _fitting(self, slack: float) -> float:
        """Return the factor that shortens a refused step.

        The constraint's loss grows about with the square of a step: the factor leads to a tenth of the slack.
        """
        if slack == -math.inf:
            return 0.5
        return min(max(math.sqrt(0.9 * max(self.slack, 0.0) / (self.slack - slack)), 0.2), 0.8)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the last allowed and the next point, the direction, and the step's length."""
        tensors = {"base": self.base, "place": self.point, "direction": self.direction}
        return tensors, {"length": self.step_length, "value": self.value, "slack": self.slack}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.base, self.point, self.direction = tensors["base"], tensors["place"], tensors["direction"]
        self.step_length, self.value, self.slack = values["length"], values["value"], values["slack"]


class PaperOptimizer:
    """Published optimizer (2308.12059): the sign of Lion's momentum, scaled to the length of an Adam step.

    It moves the embedding's own values and is not bounded by a trust region. The decay rates are the usual ones of
    Lion and Adam, and each tensor has a length of its own. Two corrections to the published method: nothing resets the
    optimizer during a run, and for aesthetics each floating tensor's mean and standard deviation are set back to the
    start's after every step.

    Args:
        region: the space; where it has a radius, that does not bind.
        learning_rate: learning rate of the Adam step.
        loss_scale: factor on the metric, which Adam's `epsilon` does not cancel.
        keep_moments: whether to set means and standard deviations back.
    """

    points_per_move = 1
    epsilon = 1e-3
    lion_betas = (0.9, 0.99)
    adam_betas = (0.9, 0.999)

    def __init__(self, region: Space, learning_rate: float, loss_scale: float, keep_moments: bool) -> None:
        check_number("the learning rate", learning_rate, MIN_RATE, MAX_RATE)
        self.region = region
        self.learning_rate = learning_rate
        self.loss_scale = loss_scale
        self.keep_moments = keep_moments
        self.point = torch.zeros_like(region.spread)
        self.lion = torch.zeros_like(self.point)
        self.mean = torch.zeros_like(self.point)
        self.square = torch.zeros_like(self.point)
        self.steps = 0

    def ask(self) -> Tensor:
        """Return the point after the last step."""
        return self.point

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Take the next step, whether the point is better or not."""
        # The region's offsets are in units of the spread, the published step in the embedding's own.
        ascent = self.loss_scale * gradient() / self.region.spread
        self.steps += 1
        first, second = self.adam_betas
        self.mean = first * self.mean + (1 - first) * ascent
        self.square = second * self.square + (1 - second) * ascent.square()
        adam = (self.mean / (1 - first**self.steps)) / ((self.square / (1 - second**self.steps)).sqrt() + self.epsilon)
        blend, decay = self.lion_betas
        sign = (blend * self.lion + (1 - blend) * ascent).sign()
        self.lion = decay * self.lion + (1 - decay) * ascent
        pairs = zip(self.region.split(sign), self.region.split(adam), strict=True)
        # A tensor without a gradient has neither signs nor a step.
        step = self.learning_rate * torch.cat([part * other.norm() / part.norm().clamp(min=1) for part, other in pairs])
        self.point = self.point + step / self.region.spread
        if self.keep_moments and isinstance(self.region, TrustRegion):
            self.point = self.region.with_start_moments(self.point)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the point, both methods' moments and the number of steps."""
        tensors = {"place": self.point, "lion": self.lion, "mean": self.mean, "square": self.square}
        return tensors, {"steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.point, self.lion = tensors["place"], tensors["lion"]
        self.mean, self.square = tensors["mean"], tensors["square"]
        self.steps = values["steps"]


class CmaEs:
    """CMA-ES (Hansen, arXiv 1604.00772) in a few directions of the embedding, for metrics without a gradient.

    Its state is the list of all values so far: with the same values and random numbers it takes the same steps again.

    Args:
        region: bounds the search.
        basis: directions (d, n) in the region's offsets; None: random ones.
        dimensions: number of random directions.
        step_length: first standard deviation, as a fraction of the trust radius.
        seed: seed of the directions and the search.

    Raises:
        UsageError: the basis has another shape, or there are fewer than 2 directions.
    """

    def __init__(
        self, region: TrustRegion, basis: Tensor | None, dimensions: int, step_length: float, seed: int
    ) -> None:
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
        # Own random numbers: by default the library draws from, and seeds, NumPy's global generator.
        options = {"randn": lambda *shape: random_numbers.standard_normal(shape), "seed": math.nan, "verbose": -9}
        self._search = cma.CMAEvolutionStrategy(len(basis) * [0.0], step_length * region.radius, options)
        self.points_per_move = int(self._search.popsize)
        self.values: list[float] = []
        self._population: list[Any] = []

    def ask(self) -> Tensor:
        """Return the start, then the population's members in turn."""
        if not self.values:
            return torch.zeros_like(self.region.spread)
        if not self._population:
            self._population = self._search.ask()
        member = self._population[(len(self.values) - 1) % self.points_per_move]
        return self.region.project(
            torch.as_tensor(member, dtype=self.basis.dtype, device=self.basis.device) @ self.basis
        )

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Record the value; after the population's last member the distribution is updated."""
        self.values.append(value)
        if len(self.values) > 1 and (len(self.values) - 1) % self.points_per_move == 0:
            self._search.tell(self._population, [-value for value in self.values[-self.points_per_move :]])
            self._population = []

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the values so far."""
        return {}, {"goals": self.values}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Take the same steps again with the recorded values."""
        for value in values["goals"]:
            self.ask()
            self.tell(value, 1.0, lambda: self.region.spread)
