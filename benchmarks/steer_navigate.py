"""Number of rounds of choosing between images until a simulated user reaches a target.

The user starts from a prompt that names a shape, and has one image as the target of the same seed: that of
a prompt which names two or three attributes more. In each round it sees 5 candidates and chooses the nearest to the
target, by attributes and by perceptual distance, and the best of three strengths; or none, where none is nearer than
the current image; in one round of ten it chooses at random. The target is reached when the attribute classifier finds
the target's shape and named attributes. Users, targets, seeds and sampling are the same for all recipes; a navigation
ends at a largest number of rounds, and counts as that many. The recipe of the package knows a list of plain English
words for the content of images, among them the words that the targets are made of; it does not know the target.

rounds_ours, rounds_paper, rounds_random: median rounds-to-target; *_mean: mean; reached_*: share within the cap.
ratio: rounds_ours over the smaller of the other two.
rounds_one_by_one and so on, with `--recipes one_by_one`: ours as the browser shows it, each candidate once it is found.
renders_*: images rendered per navigation, mean: the cost of the rounds.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import report
from thalweg.diffusion import miniature
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier
from thalweg.diffusion.miniature.renderer import ATTRIBUTES
from thalweg.embedding import Embedding, ModelIdentity
from thalweg.generator import Generator
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.navigation import Navigation
from thalweg.steer.navigation.simulated_user import DesiredImage, SimulatedNavigation, SimulatedUser

RECIPES: dict[str, dict[str, Any]] = {
    "ours": {"recipe": "preference"},
    "paper": {"recipe": "paper"},
    "random": {"recipe": "random"},
    "one_by_one": {"recipe": "preference", "one_by_one": True},
}
COMPARED = ("ours", "paper", "random")
OPEN = ("colour", "material", "size", "position", "background")
CANDIDATES = 5
ERROR_RATE = 0.1
POOL = 1.6
RENDERS = 2
CHAIN_STEPS = 6
DRAWN = 6  # cases drawn per target: some are reached at the start already, some the model cannot show


@dataclass(frozen=True)
class Case:
    """Start and target of a user: the target's text only makes the target's image, no recipe gets it."""

    number: int
    seed: int
    start: str
    wanted: str
    values: Mapping[str, str]


class Counted:
    """Generator that encodes each prompt once for all navigations, and counts the images it renders."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._known: dict[str, Embedding] = {}
        self.rendered = 0

    @property
    def model(self) -> ModelIdentity:
        """The model's name and hash."""
        return self._generator.model

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of `prompt`, encoded once."""
        if prompt not in self._known:
            self._known[prompt] = self._generator.embed(prompt)
        return self._known[prompt]

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Render and count."""
        self.rendered += len(seeds)
        return self._generator.render(embedding, seeds)

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return the trainable masks of the embedding."""
        return self._generator.trainable_masks(embedding)


class Bench:
    """The model and the classifier of one process."""

    generator: Counted
    classifier: AttributeClassifier

    @classmethod
    def load(cls, folder: Path, steps: int) -> None:
        """Load both, once per process."""
        torch.set_num_threads(1)
        cls.generator = Counted(miniature.load(folder, steps=steps, gradient=None))
        cls.classifier = miniature.load_attribute_classifier()

    @classmethod
    def target(cls, case: Case) -> DesiredImage | None:
        """Return the target; None if the start shows all of it already, or the target's prompt does not."""
        with torch.no_grad():
            start, wanted = (
                cls.generator.render(cls.generator.embed(prompt), (case.seed,)) for prompt in (case.start, case.wanted)
            )
            here, there = cls.classifier.predict(start), cls.classifier.predict(wanted)
        arrived = all(here[name] == [value] for name, value in case.values.items())
        shown = all(there[name] == [value] for name, value in case.values.items())
        return DesiredImage(wanted, tuple(case.values)) if shown and not arrived else None

    @classmethod
    def navigate(cls, case: Case, recipe: dict[str, Any], cap: int) -> tuple[SimulatedNavigation, int]:
        """Return the navigation of one user with one recipe, and the number of images rendered for it."""
        target = cls.target(case)
        assert target is not None  # drawn so
        user = SimulatedUser(target, cls.classifier.probabilities, error_rate=ERROR_RATE, seed=case.number)
        rendered = cls.generator.rendered
        settings = NavigateConfig(case.start, (case.seed,), pool=POOL, renders=RENDERS, **recipe)
        navigation = Navigation(cls.generator, settings)
        return user.navigate(navigation, CANDIDATES, cap), cls.generator.rendered - rendered


def draw_cases(count: int, draw: int) -> list[Case]:
    draws, wording = random.Random(draw), torch.Generator().manual_seed(draw)
    cases = []
    for number in range(count):
        shape = draws.choice(ATTRIBUTES["shape"])
        names = draws.sample(OPEN, draws.choice((2, 3)))
        values = {"shape": shape, **{name: draws.choice(ATTRIBUTES[name]) for name in names}}
        wanted = captions.caption(values, wording)
        cases.append(Case(number, draws.randrange(10**6), f"a {shape}", wanted, values))
    return cases


def feasible(case: Case) -> bool:
    return Bench.target(case) is not None


def navigate(task: tuple[Case, dict[str, Any], int]) -> tuple[SimulatedNavigation, int]:
    return Bench.navigate(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument(
        "--model", type=Path, default=miniature.SHIPPED, help="model folder; the shipped one by default"
    )
    parser.add_argument("--targets", type=int, default=30, help="number of targets")
    parser.add_argument("--cap", type=int, default=20, help="rounds after which a navigation ends")
    parser.add_argument("--steps", type=int, default=CHAIN_STEPS, help="denoising steps of an image")
    parser.add_argument("--draw", type=int, default=0, help="which targets: another number for tuning")
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=COMPARED)
    given = parser.parse_args()
    begun = time.perf_counter()
    workers = min(2, os.cpu_count() or 1)
    setup = (given.model, given.steps)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=Bench.load, initargs=setup) as pool:
        drawn = draw_cases(DRAWN * given.targets, given.draw)
        cases = [case for case, fits in zip(drawn, pool.map(feasible, drawn), strict=True) if fits][: given.targets]
        if len(cases) < given.targets:
            raise SystemExit(f"expected {given.targets} targets that the model can show, {len(cases)} were drawn")
        results: dict[str, Any] = {"targets": len(cases), "cap": given.cap, "chain_steps": given.steps}
        for name in given.recipes:
            navigations = list(pool.map(navigate, [(case, RECIPES[name], given.cap) for case in cases]))
            rounds = [went.rounds for went, _ in navigations]
            results[f"rounds_{name}"] = statistics.median(rounds)
            results[f"rounds_{name}_mean"] = statistics.mean(rounds)
            results[f"reached_{name}"] = statistics.mean(went.reached for went, _ in navigations)
            results[f"renders_{name}"] = statistics.mean(rendered for _, rendered in navigations)
    if set(COMPARED) <= set(given.recipes):
        results["ratio"] = results["rounds_ours"] / min(results["rounds_paper"], results["rounds_random"])
    results["seconds"] = time.perf_counter() - begun
    report(results, given.json)


if __name__ == "__main__":
    main()
