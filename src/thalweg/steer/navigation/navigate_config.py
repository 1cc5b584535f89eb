"""Configuration of a navigation: with the same configuration, the same choices lead to the same embeddings."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from thalweg.errors import UsageError
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_RADIUS, MAX_RENDERS, check_choice, check_count, check_number, check_text
from thalweg.seeds import check_seeds
from thalweg.steer.navigation.prompt_edits import GROUPS, WordGroup, check_groups
from thalweg.steer.path_methods import METHODS, Method
from thalweg.steer.runs import Run
from thalweg.steer.tool_config import ToolConfig

Recipe = Literal["preference", "paper", "random"]
RECIPES: tuple[Recipe, ...] = ("preference", "paper", "random")


@dataclass(frozen=True)
class NavigateConfig(ToolConfig):
    """Configuration of a `Navigation`.

    Attributes:
        prompt: the prompt to start from.
        seeds: seeds of the images shown; image distance is measured over all of them.
        seed: seed of all random draws.
        recipe: "preference": near prompts, mixtures of their directions and random directions, chosen by what the
            choices so far teach. "paper": arXiv 2308.12059. "random": random directions; choices teach nothing.
        step: image distance of a candidate to the current embedding; None: a quantile of the endpoints' distances in
            each round, which decreases after each "none".
        one_by_one: show each candidate as soon as it is rendered, once, at its endpoint (nearer after each "none"):
            quicker than equal distances; `step`, `pool` and `renders` are not used.
        pool: number of candidates that are rendered for each one shown.
        renders: number of times each may be rendered to find the point at the step's distance.
        method: path to a candidate; "transport" suits models that see token rows as a set.
        groups: the word list.

    Raises:
        UsageError: a value is out of range or unknown.
    """

    operation: ClassVar[str] = "navigate"
    recorded: ClassVar[tuple[str, ...]] = (
        *("prompt", "seeds", "seed", "recipe", "step", "one_by_one", "pool", "renders", "method", "groups"),
    )

    prompt: str
    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    recipe: Recipe = "preference"
    step: float | None = None
    one_by_one: bool = False
    pool: float = 2.0
    renders: int = 3
    method: Method = "slerp"
    groups: tuple[WordGroup, ...] = GROUPS

    def __post_init__(self) -> None:
        """Refuse values that are invalid whatever the model is."""
        check_text("`prompt`", self.prompt)
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        check_seeds([self.seed])
        object.__setattr__(self, "groups", check_groups(self.groups))
        check_choice("`recipe`", self.recipe, RECIPES)
        check_choice("`method`", self.method, METHODS)
        check_number("`pool`", self.pool, 1, MAX_RENDERS)
        check_count("`renders`", self.renders, 1, MAX_RENDERS)
        if self.step is not None and not self.step > 0:
            raise UsageError(f"expected `step` to be above 0, got {self.step}")
        check_number("`step`", 1 if self.step is None else self.step, 0, MAX_RADIUS)

    @classmethod
    def read(cls, run: Run) -> "NavigateConfig":
        """Return the configuration that a run folder stores.

        Raises:
            UsageError: the run is no navigation, or a value is missing, unknown or invalid.
        """
        where = f"{run.folder}: its settings"
        if lacking := [field.name for field in fields(cls) if field.name not in run.settings]:
            raise UsageError(f"{where} can't be read: {lacking[0]} is missing")
        return read_as(cls, dict(run.settings), where)
