"""Configuration of an imprint, and the numbers of its descent that follow from the mode."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from thalweg.errors import UsageError
from thalweg.limits import (
    MAX_RADIUS,
    MAX_SEEDS,
    MAX_STEPS,
    MAX_WEIGHT,
    MIN_RADIUS,
    check_choice,
    check_count,
    check_number,
    check_text,
)
from thalweg.seeds import check_seeds
from thalweg.steer.imprinting.aspect import Aspect, check_texts, vocabulary
from thalweg.steer.tool_config import ToolConfig

Mode = Literal["image", "token", "paper"]
MODES: tuple[Mode, ...] = ("image", "token", "paper")

PAPER_STEPS = 120
PAPER_BATCH = 3
"""Published numbers of iterations and of seeds per iteration."""


@dataclass(frozen=True)
class DescentConfig:
    """Numbers of an imprint's descent.

    Attributes:
        steps: gradient steps; mode paper divides them among its three phases.
        batch: training seeds of one step.
        step_length: length of the first step, as a fraction of the trust radius; it decreases linearly to zero.
        radius: radius of the trust region, in units of the start's spread (mode token: of the vector's); mode paper
            has none.
        rest_weight: weight of the rest against the aspect.
        held_out: number of seeds on which embeddings are evaluated; they are neither trained on nor reported.
        evaluate_every: steps between two evaluations.
        patience: evaluations without a gain after which to stop; None: never.
        random_seed: seed of the order in which training seeds are used.
    """

    steps: int = 16
    batch: int = 8
    step_length: float = 0.12
    radius: float = 0.5
    rest_weight: float = 0.6
    held_out: int = 16
    evaluate_every: int = 4
    patience: int | None = 5
    random_seed: int = 0


DESCENTS: dict[Mode, DescentConfig] = {
    "image": DescentConfig(),
    "token": DescentConfig(steps=40, radius=2.0),
    "paper": DescentConfig(steps=PAPER_STEPS, batch=PAPER_BATCH, evaluate_every=10, patience=None),
}
"""Defaults of each mode; words are further apart than prompts, so mode token has a larger radius."""
UNNAMED_RADIUS = 1.0
"""Default radius of mode image without a named aspect: everything that an image shows is further away."""


@dataclass(frozen=True)
class ImprintConfig(ToolConfig):
    """Configuration of `imprint`.

    Attributes:
        seed: the target: the seed whose image shows what other seeds are to show.
        prompt: the prompt or embedding file to start from; empty where only an embedding is given.
        keep: the aspect to copy: its name ("the colour"), texts that differ only in it, or an Aspect; None: the whole
            image, or the part inside a mask.
        mode: "image": every floating tensor moves, with an image loss. "token": the same loss, but one token vector of
            the prompt moves. "paper": the published schedule, which copies everything that the target's latents show.
        unseen: seeds to report on, or their number.
        iterations: gradient steps; None: the mode's default.
        radius: radius of the trust region; None: the mode's default.
        mask_hash: SHA-256 of the run's mask file, hexadecimal; None: no mask file.
        seeds: training seeds; None: new ones at each step.
        batch: training seeds of one step; None: the mode's default.
        step_length: length of the first step, as a fraction of the trust radius.
        rest_weight: weight of the rest against the aspect.
        held_out: number of seeds on which embeddings are evaluated.
        evaluate_every: steps between two evaluations; None: the mode's default.
        patience: evaluations without a gain after which to stop; 0: never; None: the mode's default.
        random_seed: seed of the order in which training seeds are used.
        template: mode token: a prompt with the placeholder; None: the start's prompt after the placeholder.
        placeholder: mode token: the word that stands for the vector.
        word: mode token: the words whose vector it begins as; None: the start's prompt.

    Raises:
        UsageError: a value is out of range, unknown, or contradicts another one.
    """

    operation: ClassVar[str] = "imprint"
    recorded: ClassVar[tuple[str, ...]] = (
        *("prompt", "seed", "keep", "mode", "unseen", "iterations", "radius", "mask_hash"),
    )

    seed: int
    prompt: str = ""
    keep: str | tuple[str, ...] | Aspect | None = None
    mode: Mode = "image"
    unseen: int | tuple[int, ...] = 16
    iterations: int | None = None
    radius: float | None = None
    mask_hash: str | None = None
    seeds: tuple[int, ...] | None = None
    batch: int | None = None
    step_length: float = DescentConfig.step_length
    rest_weight: float = DescentConfig.rest_weight
    held_out: int = DescentConfig.held_out
    evaluate_every: int | None = None
    patience: int | None = None
    random_seed: int = 0
    template: str | None = None
    placeholder: str = "<imprint>"
    word: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that are invalid whatever the model is."""
        check_text("`prompt`", self.prompt)
        object.__setattr__(self, "seed", *check_seeds([self.seed]))
        check_choice("`mode`", self.mode, MODES)
        if isinstance(self.keep, str) and self.keep:
            vocabulary(self.keep)
        elif isinstance(self.keep, tuple):
            check_texts(self.keep)
        self._check_seeds()
        for name in ("iterations", "evaluate_every", "batch", "held_out"):
            value, most = getattr(self, name), MAX_SEEDS if name in ("batch", "held_out") else MAX_STEPS
            if value is not None:
                object.__setattr__(self, name, check_count(f"`{name}`", value, 1, most))
        if self.patience is not None:
            check_count("`patience`", self.patience, 0, MAX_STEPS)
        if self.radius is not None:
            object.__setattr__(self, "radius", check_number("`radius`", self.radius, MIN_RADIUS, MAX_RADIUS))
        check_number("`step_length`", self.step_length, MIN_RADIUS, MAX_RADIUS)
        check_number("`rest_weight`", self.rest_weight, 0, MAX_WEIGHT)

    @property
    def descent(self) -> DescentConfig:
        """Numbers of the descent: the mode's defaults, replaced by the values that are given."""
        given: dict[str, Any] = {
            "steps": self.iterations,
            "radius": self.radius,
            "batch": self.batch,
            "evaluate_every": self.evaluate_every,
            "patience": self.patience,
            "step_length": self.step_length,
            "rest_weight": self.rest_weight,
            "held_out": self.held_out,
            "random_seed": self.random_seed,
        }
        numbers = DESCENTS[self.mode]
        if self.mode == "image" and not self.keep:
            numbers = replace(numbers, radius=UNNAMED_RADIUS)
        numbers = replace(numbers, **{name: value for name, value in given.items() if value is not None})
        return replace(numbers, patience=numbers.patience or None)

    def _check_seeds(self) -> None:
        if isinstance(self.unseen, int):
            check_count("`unseen`", self.unseen, 1, MAX_SEEDS)
        else:
            object.__setattr__(self, "unseen", check_seeds(self.unseen))
            if self.seed in self.unseen:
                raise UsageError(f"seed {self.seed} is the target: it has been seen; leave it out of the unseen seeds")
        if self.seeds is None:
            return
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        if self.seed in self.seeds:
            raise UsageError(f"seed {self.seed} is the target: it shows it already; leave it out of the training seeds")
        unseen = () if isinstance(self.unseen, int) else self.unseen
        if both := set(self.seeds) & set(unseen):
            raise UsageError(f"expected training seeds apart from the unseen ones, got {min(both)} among both")
