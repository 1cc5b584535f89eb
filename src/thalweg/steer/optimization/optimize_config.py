"""Configuration of an optimization toward an image metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from thalweg.errors import UsageError
from thalweg.limits import (
    MAX_RADIUS,
    MAX_RATE,
    MAX_STEPS,
    MIN_RADIUS,
    MIN_RATE,
    check_choice,
    check_count,
    check_number,
    check_text,
)
from thalweg.seeds import check_seeds
from thalweg.steer.metrics.expression import read_expression
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.tool_config import ToolConfig

if TYPE_CHECKING:
    from thalweg.steer.metrics.scorer import Scorer

Search = Literal["gradient", "cma-es"]
SEARCHES: tuple[Search, ...] = ("gradient", "cma-es")
Recipe = Literal["thalweg", "paper"]
RECIPES: tuple[Recipe, ...] = ("thalweg", "paper")

ITERATIONS = 30
"""Points measured after the start by default."""
RADIUS = 0.6
"""Largest drift by default."""


@dataclass(frozen=True)
class OptimizeConfig(ToolConfig):
    """Configuration of `optimize`.

    Attributes:
        metric: the metric to improve: text as `read_expression` describes it, or a Metric.
        seeds: seeds of the images whose mean score counts.
        prompt: the prompt or embedding file to start from; empty where only an embedding is given.
        keep: a constraint: a metric that must not fall below `retained_fraction` of its value at the start.
        unseen: seeds to evaluate the result on, none of them in `seeds`.
        iterations: points measured after the start; None: `ITERATIONS`.
        radius: largest drift from the start, see `TrustRegion`; None: `RADIUS`.
        search: "gradient", or "cma-es" for metrics without a gradient.
        recipe: "thalweg", or "paper": the published optimizer as a baseline, with the gradient of one denoising step
            and no trust region.
        step_length: first step, as a fraction of the radius.
        patience: moves without a better score after which to stop; a generation of CMA-ES is one move.
        retained_fraction: fraction of the constraint's value at the start that must remain.
        learning_rate: learning rate of the paper optimizer.
        dimensions: number of random directions that CMA-ES searches.
        search_seed: seed of CMA-ES and its directions.

    Raises:
        UsageError: a value is out of range, unknown, or contradicts another one.
    """

    operation: ClassVar[str] = "optimize"
    recorded: ClassVar[tuple[str, ...]] = (
        *("prompt", "metric", "keep", "seeds", "unseen", "iterations", "radius", "search", "recipe"),
    )

    metric: str | Metric
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    prompt: str = ""
    keep: str | Metric | None = None
    unseen: tuple[int, ...] = ()
    iterations: int | None = None
    radius: float | None = None
    search: Search = "gradient"
    recipe: Recipe = "thalweg"
    step_length: float = 0.4
    patience: int = 8
    retained_fraction: float = 0.95
    learning_rate: float = 0.01
    dimensions: int = 16
    search_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that are invalid whatever the model is."""
        check_text("`prompt`", self.prompt)
        for metric in (self.metric, self.keep or None):
            if isinstance(metric, str):
                read_expression(metric)
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "unseen", check_seeds(self.unseen) if len(self.unseen) else ())
        if both := set(self.seeds) & set(self.unseen):
            raise UsageError(f"expected unseen seeds, got {min(both)} among the seeds too")
        if self.iterations is not None:
            object.__setattr__(self, "iterations", check_count("`iterations`", self.iterations, 1, MAX_STEPS))
        if self.radius is not None:
            object.__setattr__(self, "radius", check_number("`radius`", self.radius, MIN_RADIUS, MAX_RADIUS))
        check_count("`patience`", self.patience, 1, MAX_STEPS)
        for name in ("step_length", "retained_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"expected `{name}` to be above 0 and at most 1, got {getattr(self, name)}")
        check_number("`learning_rate`", self.learning_rate, MIN_RATE, MAX_RATE)
        check_choice("`search`", self.search, SEARCHES)
        check_choice("`recipe`", self.recipe, RECIPES)
        if self.recipe == "paper" and (self.search != "gradient" or self.keep):
            raise UsageError(
                "`recipe=paper` uses the gradient and takes no constraint; leave out `search` and `keep`, or `recipe`"
            )

    @property
    def steps(self) -> int:
        """Largest number of points measured after the start."""
        return ITERATIONS if self.iterations is None else self.iterations

    def with_metrics(
        self,
        load_scorer: "Callable[[], Scorer] | None" = None,
        read_files: bool = True,
        loaders: "Mapping[str, Callable[[], Any]] | None" = None,
    ) -> Self:
        """Return the same configuration with its metrics made of their texts.

        Args:
            load_scorer: loads the scorer of texts and images; called once, where a metric needs one.
            read_files: whether metrics that name a file may read it.
            loaders: load the models of the metrics dino, lpips and image_reward, by these names; each is called once,
                where a metric needs it.

        Raises:
            UsageError: a metric needs a scorer and there is none, or its file is missing, invalid or may not be read.
        """
        import functools

        from thalweg.steer.metrics.parsing import parse

        scorer = functools.cache(load_scorer) if load_scorer is not None else None
        cached = {name: functools.cache(load) for name, load in (loaders or {}).items()}
        keep = parse(self.keep, scorer, read_files, cached) if isinstance(self.keep, str) and self.keep else self.keep
        metric = parse(self.metric, scorer, read_files, cached) if isinstance(self.metric, str) else self.metric
        return replace(self, metric=metric, keep=keep or None)
