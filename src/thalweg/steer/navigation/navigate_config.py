"""What a navigation is asked: with the same settings, the same choices lead to the same embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from thalweg.errors import UsageError
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_RADIUS, MAX_RENDERS, check_count, check_number, check_text
from thalweg.seeds import check_seeds
from thalweg.steer.interpolation import METHODS, Method
from thalweg.steer.navigation.prompt_edits import GROUPS, WordGroup, check_groups

Recipe = Literal["preference", "paper", "random"]
RECIPES: tuple[Recipe, ...] = ("preference", "paper", "random")


@dataclass(frozen=True)
class NavigateConfig:
    """What a navigation does; with the same settings, the same choices lead to the same embeddings.

    Attributes:
        prompt: what it starts from.
        seeds: of the images shown; image distance is over all of them.
        seed: of all random draws.
        recipe: "preference": near prompts, the embeddings' spread and random directions, chosen by what the choices
            so far teach. "paper": arXiv 2308.12059. "random": random directions; choices teach nothing.
        step: image distance of a candidate to the current embedding; None: in each round, what endpoints differ by;
            less after each "none".
        one_by_one: show each candidate as soon as it is rendered, once, at its endpoint (nearer after each "none"):
            quicker than equal distances, and `step`, `pool` and `renders` do not count.
        pool: how many candidates are rendered for each that is shown.
        renders: how often each may be rendered to find the point at the step's distance.
        method: the path to a candidate; "transport" suits models that see token rows as a set.
        groups: the word list.

    Raises:
        UsageError: a value out of range.
    """

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
        """Refuse what can't be done."""
        check_text("the prompt", self.prompt)
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        check_seeds([self.seed])
        object.__setattr__(self, "groups", check_groups(self.groups))
        if self.recipe not in RECIPES:
            raise UsageError(f"expected a recipe out of {', '.join(RECIPES)}, got {self.recipe}")
        if self.method not in METHODS:
            raise UsageError(f"expected a path method out of {', '.join(METHODS)}, got {self.method}")
        if self.pool < 1 or self.renders < 1:
            raise UsageError(f"expected a pool and renders of at least 1, got {self.pool} and {self.renders}")
        if self.step is not None and not self.step > 0:
            raise UsageError(f"expected a step above 0, got {self.step}")
        check_number("the pool", self.pool, 1, MAX_RENDERS)
        check_count("renders", self.renders, 1, MAX_RENDERS)
        check_number("the step", 1 if self.step is None else self.step, 0, MAX_RADIUS)

    @classmethod
    def read(cls, record: Mapping[str, Any], where: str) -> "NavigateConfig":
        """Return settings from a run's record; `where` is what a message names.

        Raises:
            UsageError: they are not those of a navigation.
        """
        if lacking := [field.name for field in fields(cls) if field.name not in record]:
            raise UsageError(f"{where} can't be read: {lacking[0]} is missing")
        return read_as(cls, dict(record), where)
