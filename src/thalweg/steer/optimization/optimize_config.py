"""Configuration of an optimization toward an image metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from thalweg.errors import UsageError
from thalweg.io.hashing import file_hash
from thalweg.io.state import STATE
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
from thalweg.prompts import is_embedding_name
from thalweg.seeds import check_seeds
from thalweg.steer.metrics.expression import files_of, read_expression, with_absolute_files
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.runs import Run
from thalweg.steer.tool_config import ToolConfig, check_unchanged

if TYPE_CHECKING:
    from thalweg.steer.metrics.scorer import Scorer

Search = Literal["gradient", "cma-es"]
SEARCHES: tuple[Search, ...] = ("gradient", "cma-es")
Recipe = Literal["thalweg", "paper"]
RECIPES: tuple[Recipe, ...] = ("thalweg", "paper")
Move = Literal["embedding", "noise", "both"]
MOVES: tuple[Move, ...] = ("embedding", "noise", "both")
Scale = Literal["tensor", "row"]
SCALES: tuple[Scale, ...] = ("tensor", "row")
METRIC_FILES = "metric-files.json"
"""File of a run folder with the hashes of the files that its metrics name."""
PROMPT = "prompt"
"""Constraint that is the text score of the prompt itself."""
NONE = "none"
"""Text that stands for no constraint."""

ITERATIONS = 30
"""Points measured after the start by default."""
PAPER_ITERATIONS = 50
"""The same for the paper optimizer; published are 7, and 50 to 400 are advised."""
MAX_RESTARTS = 100
"""Largest number of starts."""
RADIUS = 1.0
"""Largest drift by default."""
STEP_LENGTHS: dict[Search, float] = {"gradient": 0.1, "cma-es": 0.25}
"""First steps by default."""


def constraint(text: str | None, prompt: str, has_scorer: bool) -> str | None:
    """Return the constraint that a user typed; for none, the default.

    Args:
        text: a metric; "none": no constraint; empty: the text score of a prompt of words, where there is a scorer.
        prompt: the prompt or embedding file to start from.
        has_scorer: whether the model has a scorer of texts.
    """
    if text:
        return None if text == NONE else with_absolute_files(text)
    return PROMPT if has_scorer and not is_embedding_name(prompt) else None


@dataclass(frozen=True)
class OptimizeConfig(ToolConfig):
    """Configuration of `optimize`.

    Attributes:
        metric: the metric to improve: text as `read_expression` describes it, or a Metric.
        seeds: seeds of the images whose mean score counts.
        prompt: the prompt or embedding file to start from; empty where only an embedding is given.
        keep: a constraint: a metric that must not fall below `retained_fraction` of its value at the start. "prompt" is
            the text score of `prompt`.
        unseen: seeds to evaluate the result on, none of them in `seeds`.
        iterations: points measured after the start; None: `ITERATIONS`.
        radius: largest drift from the start, see `TrustRegion`; None: `RADIUS`.
        search: "gradient", or "cma-es" for metrics without a gradient.
        recipe: "thalweg", or "paper": the published optimizer as a baseline, with the gradient of one denoising step
            and no trust region.
        step_length: first step, as a fraction of the radius; None: that of `STEP_LENGTHS`.
        patience: moves without a better score after which to stop; a generation of CMA-ES is one move.
        retained_fraction: fraction of the constraint's value at the start that must remain.
        learning_rate: learning rate of the paper optimizer.
        dimensions: number of random directions that CMA-ES searches.
        search_seed: seed of CMA-ES and its directions, and of further starts.
        judge: a metric that must not fall below its value at the start, and that no gradient sees; None: for image
            models `metric` itself on images at half resolution.
        move: "embedding"; "noise": the start noise of the seeds, for these seeds only; or "both".
        restarts: number of starts that share the points: the start, and seeded random points near it.
        scale: what shares one spread, the unit of steps and drift: "tensor", or "row" (arXiv 2602.08646).

    Raises:
        UsageError: a value is out of range, unknown, or contradicts another one.
    """

    operation: ClassVar[str] = "optimize"
    recorded: ClassVar[tuple[str, ...]] = (
        *("prompt", "metric", "keep", "judge", "seeds", "unseen", "iterations", "radius", "search", "recipe"),
        *("move", "restarts", "scale"),
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
    step_length: float | None = None
    patience: int = 8
    retained_fraction: float = 0.78
    learning_rate: float = 0.01
    dimensions: int = 16
    search_seed: int = 0
    judge: str | Metric | None = None
    move: Move = "embedding"
    restarts: int = 1
    scale: Scale = "tensor"

    def __post_init__(self) -> None:
        """Refuse values that are invalid whatever the model is."""
        check_text("`prompt`", self.prompt)
        for metric in (self.metric, None if self.keep == PROMPT else self.keep or None, self.judge or None):
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
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"expected `{name}` to be above 0 and at most 1, got {value}")
        check_number("`learning_rate`", self.learning_rate, MIN_RATE, MAX_RATE)
        check_choice("`search`", self.search, SEARCHES)
        check_choice("`recipe`", self.recipe, RECIPES)
        check_choice("`move`", self.move, MOVES)
        check_choice("`scale`", self.scale, SCALES)
        check_count("`restarts`", self.restarts, 1, MAX_RESTARTS)
        if self.restarts > self.steps:
            raise UsageError(f"expected at most {self.steps} `restarts`, one per step, got {self.restarts}")
        if self.keep == PROMPT and (not self.prompt or is_embedding_name(self.prompt)):
            raise UsageError("`keep=prompt` needs the words of the `prompt` that it keeps")
        self._check_recipe()

    def _check_recipe(self) -> None:
        """Refuse options that a recipe or a search would ignore."""
        if self.recipe == "paper" and (self.search != "gradient" or self.keep or self.judge):
            raise UsageError(
                "`recipe=paper` uses the gradient and takes no constraint and no judge; leave out `search`, `keep` and "
                "`judge`, or `recipe`"
            )
        bounds = {"radius": self.radius, "step_length": self.step_length, "scale": self.scale != "tensor" or None}
        if self.recipe == "paper" and (given := [name for name, value in bounds.items() if value is not None]):
            raise UsageError(f"`recipe=paper` moves without a trust region; leave out `{given[0]}`, or `recipe`")
        if (self.recipe == "paper" or self.search == "cma-es") and (self.move != "embedding" or self.restarts > 1):
            other = "`recipe=paper`" if self.recipe == "paper" else "`search=cma-es`"
            raise UsageError(f"{other} moves the embedding from one start; leave out `move` and `restarts`, or it")

    def check_files(self, run: Run) -> None:
        """Compare the metrics' files with those that a run began with; a new run gets the list of their hashes.

        Raises:
            UsageError: a file was changed since.
        """
        texts = [each for each in (self.metric, self.keep, self.judge) if isinstance(each, str) and each != PROMPT]
        files = [file for text in texts if text for file in files_of(text) if file.is_file()]
        found = {str(file): file_hash(file) for file in files}
        if found and not (run.folder / METRIC_FILES).is_file() and not (run.folder / STATE).is_file():
            run.write_record(METRIC_FILES, found)
        elif found and (run.folder / METRIC_FILES).is_file():  # runs of earlier versions have no list
            begun = run.read_record(METRIC_FILES)
            for name, value in found.items():
                check_unchanged(name, value, begun.get(name, value))

    @property
    def first_step(self) -> float:
        """First step, as a fraction of the radius."""
        return STEP_LENGTHS[self.search] if self.step_length is None else self.step_length

    @property
    def steps(self) -> int:
        """Largest number of points measured after the start."""
        if self.iterations is None:
            return PAPER_ITERATIONS if self.recipe == "paper" else ITERATIONS
        return self.iterations

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
            loaders: load the models of metrics such as dino and lpips, by the metric's name; each is called once, where
                a metric needs it.

        Raises:
            UsageError: a metric needs a scorer and there is none, or its file is missing, invalid or may not be read.
        """
        import functools

        from thalweg.steer.metrics.parsing import parse

        scorer = functools.cache(load_scorer) if load_scorer is not None else None
        cached = {name: functools.cache(load) for name, load in (loaders or {}).items()}

        def made(metric: str | Metric) -> Metric:
            return parse(metric, scorer, read_files, cached) if isinstance(metric, str) else metric

        keep = self._kept_prompt(scorer) if self.keep == PROMPT else made(self.keep) if self.keep else None
        return replace(self, metric=made(self.metric), keep=keep, judge=made(self.judge) if self.judge else None)

    def _kept_prompt(self, scorer: "Callable[[], Scorer] | None") -> Metric:
        """Return the text score of the prompt."""
        from thalweg.steer.metrics.clip_metrics import text_similarity

        if scorer is None:
            raise UsageError("`keep=prompt` needs a scorer of texts; leave it out, or load one")
        return text_similarity(scorer(), self.prompt)
