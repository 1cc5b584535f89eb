"""Descent over seeds that change from step to step: the loop of an imprint, its evaluations and its state."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import NotFiniteError, ThalwegError, UsageError
from thalweg.io.state import STATE, check_request, read_state, write_state
from thalweg.steer.imprinting.imprint_config import DescentConfig
from thalweg.steer.optimization.optimizers import Optimizer, optimizer_state, restore_optimizer
from thalweg.steer.runs import Run


class Move(Protocol):
    """Embeddings that a mode can reach, as offsets (n) from its start; `spread` (n) is the offsets' unit."""

    spread: Tensor

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the embedding at `offsets`, differentiable in them."""
        ...

    def drift(self, offsets: Tensor) -> float:
        """Return the distance of `offsets` from the start."""
        ...

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets that are allowed."""
        ...


class DescentObjective(Protocol):
    """Loss that a mode minimises."""

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the loss over training seeds at a step, differentiable in the embedding."""
        ...

    def evaluate(self, embedding: Embedding) -> float:
        """Return a loss on held-out seeds that can be compared between steps."""
        ...


class Descent:
    """Steps in Adam's direction, with a length that decreases linearly to zero.

    Each step uses other seeds, so losses of two steps cannot be compared and no line can be searched. The mean of an
    entry's last gradients is divided by their root mean square: entries in which seeds agree move furthest, and neither
    the loss's scale nor a few large entries set the direction. A step that loses on the held-out seeds is not undone:
    what is copied often has to pass through images that are less like the target.

    Args:
        move: the offsets and their bounds.
        config: number and length of the steps, and the radius.
    """

    points_per_move = 1
    momentum = 0.7
    second_momentum = 0.9
    eps = 1e-12

    def __init__(self, move: Move, config: DescentConfig) -> None:
        self._move = move
        self._config = config
        self.point = torch.zeros_like(move.spread)
        self.mean = torch.zeros_like(move.spread)
        self.square = torch.zeros_like(move.spread)
        self.taken = 0

    def ask(self) -> Tensor:
        """Return the point after the last step."""
        return self.point

    def tell(self, value: float, slack: float, gradient: Callable[[], Tensor]) -> None:
        """Take the next step."""
        ascent = gradient()
        ascent = ascent / ascent.norm()
        self.mean = self.momentum * self.mean + (1 - self.momentum) * ascent
        self.square = self.second_momentum * self.square + (1 - self.second_momentum) * ascent.square()
        # The means start at zero; Adam's correction of `square` would be one factor, which the norm takes out.
        direction = self.mean / (self.square.sqrt() + self.eps)
        length = self._config.step_length * (1 - self.taken / self._config.steps) * self._config.radius
        step = length * math.sqrt(len(self.point)) * direction / direction.norm()
        self.point = self._move.project(self.point + step)
        self.taken += 1

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the point, the gradients' mean and mean square, and the number of steps."""
        return {"place": self.point, "direction": self.mean, "square": self.square}, {"taken": self.taken}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.point, self.mean, self.square = tensors["place"], tensors["direction"], tensors["square"]
        self.taken = values["taken"]


@dataclass
class DescentState:
    """State of a descent without its optimizer.

    Attributes:
        best: the best offsets (n) by the held-out seeds.
        best_score: their loss on the held-out seeds.
        start_score: loss of the first offsets on the held-out seeds.
        best_step: number of steps after which the best offsets were found.
        waited: evaluations without a gain since then.
        done: steps taken.
        trace: one row per step.
        stopped: the reason why it ended before its last step; empty otherwise.
    """

    best: Tensor
    best_score: float
    start_score: float
    best_step: int = 0
    waited: int = 0
    done: int = 0
    trace: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def update(self, score: float, offsets: Tensor, patience: int | None) -> None:
        """Keep `offsets` if they are the best so far; stop after `patience` scores without a gain."""
        if score < self.best_score:
            self.best, self.best_score, self.best_step, self.waited = offsets.detach().clone(), score, self.done, 0
            return
        self.waited += 1
        if patience is not None and self.waited >= patience:
            self.stopped = f"no gain in {self.waited} evaluations, up to step {self.done}"


def descend(
    state: DescentState,
    move: Move,
    objective: DescentObjective,
    optimizer: Optimizer,
    config: DescentConfig,
    seeds_of: Callable[[int], Sequence[int]],
    save: Callable[[], None],
    progress: Callable[[Mapping[str, Any]], None] | None,
) -> None:
    """Take steps until the steps or the patience are used up, or a number is not finite.

    Args:
        state: where to begin; updated in place.
        move: the embeddings of offsets.
        objective: the loss.
        optimizer: proposes offsets.
        config: number of steps, evaluations and patience.
        seeds_of: training seeds of a step.
        save: writes the state; called after each evaluation and at the end.
        progress: called with each row of the trace.

    Raises:
        UsageError: the generator renders without gradient.
        ThalwegError: the first gradient is zero.
    """
    while state.done < config.steps and not state.stopped:
        point = optimizer.ask().detach().requires_grad_()
        try:
            loss = objective.loss(move.embedding(point), seeds_of(state.done), state.done)
        except NotFiniteError as error:
            if state.done == 0:
                raise
            state.stopped = f"step {state.done + 1}: {error}; {_result_in_words(state)}"
            save()
            return
        if not loss.requires_grad:
            raise UsageError("the generator renders without gradient; use another gradient mode")
        gradient = torch.autograd.grad(loss, point, allow_unused=True, materialize_grads=True)[0]
        if state.done == 0 and not bool(gradient.any()):
            raise ThalwegError("the gradient is zero: the aspect to keep does not change with the embedding")
        state.done += 1
        row = _take_step(state, move, objective, optimizer, config, float(loss.detach()), gradient)
        state.trace.append(row)
        if row["judged"] is not None or state.stopped:
            save()
        if progress is not None:
            progress(row)


def _take_step(
    state: DescentState,
    move: Move,
    objective: DescentObjective,
    optimizer: Optimizer,
    config: DescentConfig,
    loss: float,
    gradient: Tensor,
) -> dict[str, Any]:
    """Update the optimizer with a loss and its gradient, evaluate where it is due; return the step's trace row."""
    numbers: dict[str, Any] = {"loss": loss, "gradient": float(gradient.norm()), "judged": None}
    if math.isfinite(loss) and math.isfinite(numbers["gradient"]) and numbers["gradient"] > 0:
        optimizer.tell(-loss, 1.0, partial(torch.neg, gradient))
        if state.done % config.evaluate_every == 0 or state.done == config.steps:
            numbers["judged"] = _evaluate(objective, move.embedding(optimizer.ask()))
            state.update(numbers["judged"], optimizer.ask(), config.patience)
    elif numbers["gradient"] == 0:
        state.stopped = f"the gradient is zero at step {state.done}"
    invalid = [name for name, number in numbers.items() if number is not None and not math.isfinite(number)]
    if invalid:
        state.stopped = f"NaN or infinity: {invalid[0]} at step {state.done}; {_result_in_words(state)}"
    return {"step": state.done, **numbers, "drift": move.drift(optimizer.ask()), "best": state.best_score}


def _evaluate(objective: DescentObjective, embedding: Embedding) -> float:
    """Return the loss on held-out seeds, NaN where the images are not finite."""
    try:
        return objective.evaluate(embedding)
    except NotFiniteError:
        return math.nan


def _result_in_words(state: DescentState) -> str:
    return f"the best, of step {state.best_step}, is kept" if state.best_step else "the start is kept"


def save_descent(run: Run, request: Mapping[str, Any], state: DescentState, optimizer: Optimizer) -> None:
    """Write the state of a descent and the parameters it began with, and its trace."""
    tensors, values = optimizer_state(optimizer)
    record = {name: value for name, value in vars(state).items() if name != "best"}
    values = {"fingerprint": request, "search": record, **values}
    write_state(run.folder / STATE, {**tensors, "best": state.best}, values)
    run.write_trace(state.trace)


def restore_descent(
    run: Run, request: Mapping[str, Any], optimizer: Optimizer, device: torch.device
) -> DescentState | None:
    """Return the state of the run's descent and restore the optimizer; None where it has not begun.

    Raises:
        UsageError: the state can't be read, or the run began with other parameters.
    """
    if not (run.folder / STATE).exists():
        return None
    tensors, values = read_state(run.folder / STATE, device)
    try:
        check_request(run.folder, values["fingerprint"], request)
        state = DescentState(best=tensors["best"], **values["search"])
        restore_optimizer(optimizer, tensors, values)
    except ThalwegError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{run.folder}: its {STATE} can't be read ({error!r}); begin a new run") from error
    return state
