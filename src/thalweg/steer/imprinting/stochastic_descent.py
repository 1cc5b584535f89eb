"""Descent over seeds that change from step to step: the loop of the imprint, its judgements and its state."""

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
from thalweg.limits import MAX_RADIUS, MAX_SEEDS, MAX_STEPS, MAX_WEIGHT, MIN_RADIUS, check_count, check_number
from thalweg.steer.optimization.optimizers import Optimizer
from thalweg.steer.runs import Run


@dataclass(frozen=True)
class DescentConfig:
    """How an imprint goes about it; the defaults suit mode image.

    Attributes:
        steps: gradient steps; mode paper divides them among its three phases.
        batch: training seeds of a step.
        length: of a step at first, as a share of the trust radius; it goes down to zero on a line.
        radius: of the trust region, in units of the start's spread (mode token: the vector's); mode paper has none.
        rest_weight: of staying oneself in the rest, against showing the target's aspect.
        held_out: number of seeds that embeddings are judged on, neither trained on nor reported.
        judge_every: steps between two judgements.
        patience: judgements without gain after which to stop; None: never.
        random: the seed of which training seeds come when.
    """

    steps: int = 16
    batch: int = 8
    length: float = 0.12
    radius: float = 0.5
    rest_weight: float = 0.6
    held_out: int = 16
    judge_every: int = 4
    patience: int | None = 5
    random: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "held_out", "judge_every"):
            check_count(name, getattr(self, name), 1, MAX_SEEDS if name in ("batch", "held_out") else MAX_STEPS)
        for name in ("length", "radius"):
            check_number(name, getattr(self, name), MIN_RADIUS, MAX_RADIUS)
        check_number("rest_weight", self.rest_weight, 0, MAX_WEIGHT)


class Move(Protocol):
    """The embeddings a mode may reach, as offsets (n) from where it begins; `spread` (n) is their unit."""

    spread: Tensor

    def embedding(self, offsets: Tensor) -> Embedding:
        """Return the embedding at `offsets`, differentiable in them."""
        ...

    def drift(self, offsets: Tensor) -> float:
        """Return how far `offsets` lead."""
        ...

    def project(self, offsets: Tensor) -> Tensor:
        """Return the nearest offsets allowed."""
        ...


class DescentObjective(Protocol):
    """What a mode makes small."""

    def loss(self, embedding: Embedding, seeds: Sequence[int], step: int) -> Tensor:
        """Return the loss over training seeds at a step, differentiable in the embedding."""
        ...

    def judge(self, embedding: Embedding) -> float:
        """Return a loss that compares embeddings of any step, on seeds held out."""
        ...


class Descent:
    """Steps along the mean direction of the last gradients, of a length that goes down to zero on a line.

    Each step's seeds are others, so that losses of two steps do not compare and no line can be searched. Judgements do
    compare: one without gain leads back to the best place, and steps are half as long from there.
    """

    round = 1
    momentum = 0.7

    def __init__(self, move: Move, settings: DescentConfig) -> None:
        self._move = move
        self._settings = settings
        self.place = torch.zeros_like(move.spread)
        self.direction = torch.zeros_like(move.spread)
        self.length = settings.length
        self.taken = 0

    def ask(self) -> Tensor:
        """Return where the last step led."""
        return self.place

    def tell(self, goal: float, is_best: bool, gradient: Callable[[], Tensor]) -> None:
        """Step on."""
        slope = gradient()
        self.direction = self.momentum * self.direction + (1 - self.momentum) * slope / slope.norm()
        share = self.length * (1 - self.taken / self._settings.steps)
        step = share * self._settings.radius * math.sqrt(len(self.place))
        self.place = self._move.project(self.place + step * self.direction / self.direction.norm())
        self.taken += 1

    def retreat(self, best: Tensor) -> None:
        """Go on from the best place by shorter steps."""
        self.place = best
        self.direction = torch.zeros_like(best)
        self.length /= 2

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the place, the mean direction, the steps' length and their count."""
        return {"place": self.place, "direction": self.direction}, {"length": self.length, "taken": self.taken}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.place, self.direction = tensors["place"], tensors["direction"]
        self.length, self.taken = values["length"], values["taken"]


@dataclass
class Search:
    """Where a search stands: all that resuming needs beside the climber.

    Attributes:
        best: the best offsets by the seeds held out.
        best_score: their judgement.
        start_score: that of the first offsets.
        best_step: after how many steps they were found.
        waited: judgements without gain since.
        done: steps taken.
        trace: a row for each.
        stopped: why it ended before its last step; empty where it did not.
    """

    best: Tensor
    best_score: float
    start_score: float
    best_step: int = 0
    waited: int = 0
    done: int = 0
    trace: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def judged(self, score: float, offsets: Tensor, patience: int | None) -> bool:
        """Keep `offsets` where they are the best so far and say so; stop where there was no gain for long."""
        if score < self.best_score:
            self.best, self.best_score, self.best_step, self.waited = offsets.detach().clone(), score, self.done, 0
            return True
        self.waited += 1
        if patience is not None and self.waited >= patience:
            self.stopped = f"no gain in {self.waited} judgements, up to step {self.done}"
        return False


def descend(
    search: Search,
    move: Move,
    objective: DescentObjective,
    climber: Optimizer,
    settings: DescentConfig,
    seeds_of: Callable[[int], Sequence[int]],
    keep_state: Callable[[], None],
    progress: Callable[[Mapping[str, Any]], None] | None,
) -> None:
    """Step until the steps or the patience are spent, or a number is not finite.

    Raises:
        UsageError: the generator renders without gradient.
        ThalwegError: the first gradient is zero.
    """
    while search.done < settings.steps and not search.stopped:
        place = climber.ask().detach().requires_grad_()
        try:
            loss = objective.loss(move.embedding(place), seeds_of(search.done), search.done)
        except NotFiniteError as fault:
            if search.done == 0:
                raise
            search.stopped = f"step {search.done + 1}: {fault}; {_kept(search)}"
            keep_state()
            return
        if not loss.requires_grad:
            raise UsageError("the generator renders without gradient; take another gradient mode")
        gradient = torch.autograd.grad(loss, place, allow_unused=True, materialize_grads=True)[0]
        if search.done == 0 and not bool(gradient.any()):
            raise ThalwegError("the gradient is zero: what is to be kept does not change with the embedding")
        search.done += 1
        numbers: dict[str, Any] = {"loss": float(loss.detach()), "gradient": float(gradient.norm()), "judged": None}
        if math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient"]) and numbers["gradient"] > 0:
            climber.tell(-numbers["loss"], False, partial(torch.neg, gradient))
            if search.done % settings.judge_every == 0 or search.done == settings.steps:
                numbers["judged"] = _judged(objective, move.embedding(climber.ask()))
                gained = search.judged(numbers["judged"], climber.ask(), settings.patience)
                if not gained and isinstance(climber, Descent):
                    climber.retreat(search.best)
        elif numbers["gradient"] == 0:
            search.stopped = f"the gradient is zero at step {search.done}"
        broken = [name for name, number in numbers.items() if number is not None and not math.isfinite(number)]
        if broken:
            search.stopped = f"NaN or infinity: {broken[0]} at step {search.done}; {_kept(search)}"
        search.trace.append(
            {"step": search.done, **numbers, "drift": move.drift(climber.ask()), "best": search.best_score}
        )
        if numbers["judged"] is not None or search.stopped:
            keep_state()
        if progress is not None:
            progress(search.trace[-1])


def _judged(objective: DescentObjective, embedding: Embedding) -> float:
    """Return the judgement of an embedding, NaN where its images are not finite."""
    try:
        return objective.judge(embedding)
    except NotFiniteError:
        return math.nan


def _kept(search: Search) -> str:
    return f"the best, of step {search.best_step}, is kept" if search.best_step else "the start is kept"


def save_state(run: Run, fingerprint: Mapping[str, Any], search: Search, climber: Optimizer) -> None:
    """Write where the search stands, and what it was asked, as one safetensors file."""
    tensors, values = climber.state()
    record = {name: value for name, value in vars(search).items() if name != "best"}
    content = {f"climber.{name}": tensor for name, tensor in tensors.items()} | {"best": search.best}
    write_state(run.folder / STATE, content, {"fingerprint": fingerprint, "search": record, "climber": values})
    run.write_trace(search.trace)


def load_state(run: Run, fingerprint: Mapping[str, Any], climber: Optimizer, device: torch.device) -> Search | None:
    """Return where the run's search stands, and set the climber there; None where it has not begun.

    Raises:
        UsageError: the state can't be read, or is of a run that was asked something else.
    """
    if not (run.folder / STATE).exists():
        return None
    tensors, values = read_state(run.folder / STATE, device)
    try:
        check_request(run.folder, values["fingerprint"], fingerprint)
        search = Search(best=tensors["best"], **values["search"])
        prefix = "climber."
        parts = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        climber.restore(parts, values["climber"])
    except ThalwegError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{run.folder}: its {STATE} can't be read ({error!r}); begin a new run") from error
    return search
