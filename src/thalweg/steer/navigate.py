"""Tool 2, navigate: show candidates near the current embedding, take a choice, keep the tree of choices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator, check_seeds
from thalweg.steer.looks import Features, far_apart, look, pooled_look
from thalweg.steer.paths import METHODS, Method
from thalweg.steer.preferences import Preferences
from thalweg.steer.recipes import (
    Endpoint,
    Surroundings,
    drawn_prompts,
    near_endpoints,
    paper_endpoints,
    random_endpoints,
)
from thalweg.steer.runs import Run, contact_sheet
from thalweg.steer.tree import Choice, Node, Round, Tree, chained_seed
from thalweg.steer.words import GROUPS, WordGroup, Wording, check_groups

Recipe = Literal["preference", "paper", "random"]
RECIPES: tuple[Recipe, ...] = ("preference", "paper", "random")
REACH = 1.5
"""How far beyond an endpoint a candidate may lie to look different enough."""
STEP_SHARE = 0.5
"""The first step, as a share of the image distance of whole endpoints, mean over those rendered."""
TOLERANCE = 0.15
"""Relative error at which a candidate's image distance counts as the step."""
LOOSE = 0.5
"""Relative error up to which a candidate may be shown where others are far from it; beyond only to fill the round."""
SHRINK = 0.85
"""The step's factor after none of the candidates was better."""


@dataclass(frozen=True)
class Settings:
    """What a navigation does; with the same settings, the same choices lead to the same embeddings.

    Attributes:
        prompt: what it starts from.
        seeds: of the images shown; image distance is over all of them.
        seed: of all random draws.
        recipe: "preference": near prompts, the embeddings' spread and random directions, chosen by what the choices
            so far teach. "paper": arXiv 2308.12059. "random": random directions.
        step: image distance of a candidate to the current embedding; None: half of what endpoints differ.
        pool: how many candidates are rendered for each that is shown.
        renders: how often each may be rendered to find the point at the step's distance.
        method: the path to a candidate; "transport" suits models that see token rows as a set.
        groups: the word list.
    """

    prompt: str
    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    recipe: Recipe = "preference"
    step: float | None = None
    pool: float = 2.0
    renders: int = 3
    method: Method = "slerp"
    groups: tuple[WordGroup, ...] = GROUPS

    def __post_init__(self) -> None:
        """Refuse what can't be done."""
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "groups", check_groups(self.groups))
        if self.recipe not in RECIPES:
            raise UsageError(f"expected a recipe out of {', '.join(RECIPES)}, got {self.recipe}")
        if self.method not in METHODS:
            raise UsageError(f"expected a path method out of {', '.join(METHODS)}, got {self.method}")
        if self.pool < 1 or self.renders < 1:
            raise UsageError(f"expected a pool and renders of at least 1, got {self.pool} and {self.renders}")
        if self.step is not None and not self.step > 0:
            raise UsageError(f"expected a step above 0, got {self.step}")

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Settings":
        """Return settings from a run's record."""
        groups = tuple(WordGroup(**{**group, "words": tuple(group["words"])}) for group in record["groups"])
        return cls(**{**record, "seeds": tuple(record["seeds"]), "groups": groups})


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of what is shown.

    Attributes:
        embedding: the candidate.
        images: its images (S, 3, H, W), one a seed.
        label: what it is, in words.
        distance: its image distance to the current embedding.
        look: its features, in which image distance is measured.
        weight: where on the way to its endpoint it lies.
        words: the prompt's words at the endpoint.
    """

    embedding: Embedding
    images: Tensor
    label: str
    distance: float
    look: Tensor
    weight: float
    words: Mapping[str, str] = field(default_factory=dict)


class Navigation:
    """A walk through an embedding space by choices between images.

    Args:
        generator: the model.
        settings: what to do; a prompt alone for the defaults.
        folder: where to keep the tree, the embeddings and the images; None: nowhere.
        start: an embedding to start from instead of the prompt's.
        features: images (S, 3, H, W) to features (S, d) in which distance is image distance, for instance a scorer's
            `embed_images`.

    Raises:
        UsageError: settings at fault, an embedding of another model, or something in the folder already.
    """

    def __init__(
        self,
        generator: Generator,
        settings: Settings | str,
        folder: Path | str | None = None,
        start: Embedding | None = None,
        features: Features = pooled_look,
    ) -> None:
        self.settings = Settings(settings) if isinstance(settings, str) else settings
        root = generator.embed(self.settings.prompt) if start is None else start
        root.check_model(generator.model)
        wording = Wording.of(self.settings.prompt, self.settings.groups)
        seed = chained_seed(self.settings.seed, self.settings.prompt, self.settings.recipe)
        node = Node(0, None, Choice("start"), seed, root, wording.words, self.settings.step)
        self._run = None
        if folder is not None:
            self._run = Run.create(folder, "navigate", generator.model, asdict(self.settings))
        self._begin(generator, features, Tree({0: node}))
        self._save()

    def _begin(self, generator: Generator, features: Features, tree: Tree) -> None:
        self._generator = generator
        self._features = features
        self._tree = tree
        root = tree.nodes[0]
        self._around = Surroundings(generator, root.embedding, Wording.of(self.settings.prompt, self.settings.groups))
        self._candidates: list[Candidate] = []
        self._images: dict[str, Tensor] = {}

    @classmethod
    def open(cls, folder: Path | str, generator: Generator, features: Features = pooled_look) -> Self:
        """Go on with a navigation that was saved; `propose` shows the same candidates again.

        Raises:
            UsageError: there is none in the folder, it can't be read, or it belongs to another model.
        """
        run = Run.open(folder, "navigate", generator.model)
        navigation = cls.__new__(cls)
        try:
            navigation.settings = Settings.read(run.settings)
        except (KeyError, TypeError) as error:
            raise UsageError(f"{folder}: its settings can't be read ({error!r})") from error
        navigation._run = run
        navigation._begin(generator, features, Tree.load(run, generator.model))
        return navigation

    def replay(self) -> None:
        """Make every choice of the tree again and compare.

        Raises:
            ThalwegError: an embedding came out differently, as on other hardware or with other libraries it may.
        """
        again = Navigation(self._generator, self.settings, None, self._tree.nodes[0].embedding, self._features)
        for node in list(self._tree.nodes.values())[1:]:
            assert node.parent is not None  # the root alone has none
            again._go(node.parent)
            again._repeat(node.choice)
            if again.current.hash != node.embedding.hash:
                raise ThalwegError(
                    f"node {node.number} came out differently when its choices were made again: expected the machine "
                    "and the library versions that wrote the run"
                )

    def _repeat(self, choice: Choice) -> None:
        if choice.kind == "fork":
            self.fork()
            return
        self.propose(choice.count)
        if choice.kind == "choose":
            self.choose(choice.index, choice.strength)
        else:
            self.none()

    @property
    def node(self) -> Node:
        """The current node of the tree."""
        return self._tree.nodes[self._tree.current]

    @property
    def tree(self) -> Mapping[int, Node]:
        """All nodes, by number."""
        return self._tree.nodes

    @property
    def current(self) -> Embedding:
        """The current embedding."""
        return self.node.embedding

    @property
    def images(self) -> Tensor:
        """The current embedding's images (S, 3, H, W), one a seed."""
        return self._render(self.current)

    def propose(self, n: int = 5) -> list[Candidate]:
        """Return `n` candidates near the current embedding, far from each other, at equal image distances from it.

        The same ones as long as no choice was made. Fewer, where the model knows fewer that look different.

        Raises:
            UsageError: fewer than 1.
            ThalwegError: no direction changes the images, or an embedding holds NaN.
        """
        if n < 1:
            raise UsageError(f"expected at least 1 candidate, got {n}")
        if len(self._candidates) != n:
            self.current.check_finite()
            self._candidates = self._paper(n) if self.settings.recipe == "paper" else self._at_equal_steps(n)
            self._write_round()
        return self._candidates

    def choose(self, index: int, strength: float = 1.0) -> Embedding:
        """Move toward candidate `index` (from 0): by `strength` 1 to it, by less or more not as far or beyond.

        Raises:
            UsageError: nothing was proposed, there is no such candidate, or the strength is not above 0.
        """
        candidate = self._candidate(index)
        choice = Choice("choose", len(self._candidates), index, strength)
        words = candidate.words if candidate.weight * strength >= 0.5 else self.node.words
        step = self.node.step
        if step is not None:
            step = step * min(max(strength, 0.5), 1.5) ** 0.5
        return self._descend(choice, self._toward(candidate, strength), words, step)

    def none(self) -> Embedding:
        """Say that no candidate is better than the current embedding; the next ones differ, and lie nearer.

        Raises:
            UsageError: nothing was proposed.
        """
        self._candidate(0)
        step = None if self.node.step is None else self.node.step * SHRINK
        return self._descend(Choice("none", len(self._candidates)), self.current, self.node.words, step)

    def undo(self) -> Embedding:
        """Go back to where the last choice was made; what was chosen stays in the tree.

        Raises:
            UsageError: there is no choice to take back.
        """
        if self.node.parent is None:
            raise UsageError("expected a choice to take back, this is the start")
        self._go(self.node.parent)
        return self.current

    def fork(self, number: int | None = None) -> Embedding:
        """Begin a branch at node `number`, by default the current one: the same embedding, other candidates.

        Raises:
            UsageError: there is no such node.
        """
        self._go(self.node.number if number is None else number)
        forks = sum(child.choice.kind == "fork" for child in self._tree.children(self.node.number))
        return self._descend(Choice("fork", index=forks), self.current, self.node.words, self.node.step)

    def preview(self, index: int, strength: float) -> Tensor:
        """Return the images (S, 3, H, W) that `choose` with these arguments leads to.

        Raises:
            UsageError: as `choose`.
        """
        return self._render(self._toward(self._candidate(index), strength))

    def _go(self, number: int) -> None:
        if number not in self._tree.nodes:
            raise UsageError(f"expected a node from 0 to {len(self._tree.nodes) - 1}, got {number}")
        self._tree.current = number
        self._candidates = []
        self._save()

    def _candidate(self, index: int) -> Candidate:
        if not self._candidates:
            raise UsageError("expected candidates to choose from, none were proposed since the last choice")
        if not 0 <= index < len(self._candidates):
            raise UsageError(f"expected a candidate from 0 to {len(self._candidates) - 1}, got {index}")
        return self._candidates[index]

    def _toward(self, candidate: Candidate, strength: float) -> Embedding:
        if not 0 < strength < float("inf"):
            raise UsageError(f"expected a strength above 0, got {strength}")
        if strength == 1:
            return candidate.embedding
        return self._around.toward(self.current, candidate.embedding, strength)

    def _descend(self, choice: Choice, embedding: Embedding, words: Mapping[str, str], step: float | None) -> Embedding:
        node = self.node
        seed = chained_seed(node.seed, choice)
        child = Node(len(self._tree.nodes), node.number, choice, seed, embedding, words, step, self._round())
        self._tree.add(child)
        self._candidates = []
        self._images = {}
        self._save()
        return self.current

    def _round(self) -> Round | None:
        if not self._candidates:
            return None
        shown = [self.current, *(candidate.embedding for candidate in self._candidates)]
        return Round(
            [self._around.coordinates(embedding).tolist() for embedding in shown],
            [candidate.label for candidate in self._candidates],
            [candidate.distance for candidate in self._candidates],
        )

    def _render(self, embedding: Embedding) -> Tensor:
        key = embedding.hash
        if key not in self._images:
            with torch.no_grad():
                self._images[key] = self._generator.render(embedding, self.settings.seeds)
        return self._images[key]

    def _paper(self, n: int) -> list[Candidate]:
        prompts = drawn_prompts(self.settings.seed)
        seen = {label for node in self._tree.way() if node.round for label in node.round.labels}
        unseen = [prompt for prompt in prompts if prompt not in seen]
        node = self.node
        endpoints = paper_endpoints(self._around, self.current, node.words, n, unseen or prompts, node.seed)
        return [self._at(endpoint, 1.0) for endpoint in endpoints]

    def _at(self, endpoint: Endpoint, weight: float) -> Candidate:
        """Render the point at `weight` on the way to an endpoint."""
        embedding = endpoint.embedding
        if weight != 1 or self.settings.method == "transport":
            embedding = self._around.toward(self.current, embedding, weight, self.settings.method)
        images = self._render(embedding)
        looks = look(images, self._features)
        distance = float((looks - look(self.images, self._features)).norm())
        return Candidate(embedding, images, endpoint.label, distance, looks, weight, endpoint.words)

    def _at_equal_steps(self, n: int) -> list[Candidate]:
        count = max(n, round(n * self.settings.pool))
        endpoints = self._endpoints(count)
        whole = [self._at(endpoint, 1.0) for endpoint in endpoints]
        step = self.settings.step
        if step is None:
            step = STEP_SHARE * sum(candidate.distance for candidate in whole) / len(whole)
            self._tree.nodes[self.node.number] = replace(self.node, step=step)
        if not step > 0:
            raise ThalwegError("no direction changes the images: expected a model whose images follow its embedding")
        found = [self._at_step(*pair, step) for pair in zip(endpoints, whole, strict=True)]
        by_fit = sorted(found, key=lambda candidate: max(abs(candidate.distance / step - 1), LOOSE))
        fitting = sum(abs(candidate.distance / step - 1) <= LOOSE for candidate in found)
        near = by_fit[: max(n, fitting)]
        chosen = far_apart(torch.stack([one.look for one in near]), n, kept=0)
        return [near[index] for index in sorted(chosen)]

    def _at_step(self, endpoint: Endpoint, whole: Candidate, step: float) -> Candidate:
        """Search the way to an endpoint for the point at the step's image distance, by regula falsi kept off the ends.

        Images may jump along the way; then the nearest distance found is taken.
        """
        best, here = whole, whole
        low, low_distance, high, high_distance = 0.0, 0.0, float("inf"), float("inf")
        for _ in range(self.settings.renders - 1):
            if abs(best.distance / step - 1) <= TOLERANCE or (here.distance < step and here.weight >= REACH):
                break
            if here.distance < step:
                low, low_distance = here.weight, here.distance
            else:
                high, high_distance = here.weight, here.distance
            if high == float("inf"):
                weight = min(low * step / max(low_distance, 1e-9), REACH)
            else:
                share = (step - low_distance) / max(high_distance - low_distance, 1e-9)
                weight = low + min(max(share, 0.2), 0.8) * (high - low)
            here = self._at(endpoint, weight)
            best = min(best, here, key=lambda one: abs(one.distance - step))
        return best

    def _endpoints(self, count: int) -> list[Endpoint]:
        """Choose `count` endpoints to render, the most promising first."""
        node, around = self.node, self._around
        if self.settings.recipe == "random":
            return random_endpoints(around, node.embedding, node.words, count, node.seed)
        found = near_endpoints(around, node.embedding, node.words, node.seed)
        if node.parent is not None:
            parent = self._tree.nodes[node.parent].embedding
            onward = around.toward(parent, node.embedding, 2.0)
            found.append(Endpoint(onward, "onward", node.words))
        here = around.coordinates(node.embedding)
        points = torch.stack([around.coordinates(endpoint.embedding) for endpoint in found])
        away = (points - here).norm(dim=1) > 1e-3
        found = [endpoint for endpoint, differs in zip(found, away.tolist(), strict=True) if differs]
        points = points[away]
        shown, comparisons = self._comparisons()
        if not comparisons:
            return [found[index] for index in far_apart(points, count)]
        chosen = Preferences(shown, comparisons).best_batch(points, count, here[None], node.seed % 2**31)
        return [found[index] for index in dict.fromkeys(chosen)]

    def _comparisons(self) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return the points shown on the way here, and which was preferred to which."""
        points: list[list[float]] = []
        comparisons: list[tuple[int, int]] = []
        for node in self._tree.way():
            if node.round is None:
                continue
            current, shown = len(points), range(len(points) + 1, len(points) + len(node.round.points))
            points += node.round.points
            if node.choice.kind == "none":
                comparisons += [(current, other) for other in shown]
                continue
            best = shown[node.choice.index]
            comparisons += [(best, other) for other in (current, *shown) if other != best]
            if node.choice.strength != 1:
                points.append(self._around.coordinates(node.embedding).tolist())
                comparisons.append((len(points) - 1, best))
        return torch.tensor(points, dtype=torch.float64), comparisons

    def _save(self) -> None:
        if self._run is not None:
            self._tree.save(self._run)

    def _write_round(self) -> None:
        if self._run is None:
            return
        name = f"rounds/{self.node.number:03d}"
        rows = [self.images, *(candidate.images for candidate in self._candidates)]
        for index, candidate in enumerate(self._candidates):
            self._run.write_image(f"{name}/candidate-{index + 1}.png", candidate.images[0])
        sheet = contact_sheet(
            torch.stack([row[seed] for seed in range(len(self.settings.seeds)) for row in rows]), len(rows)
        )
        self._run.write_image(f"{name}/sheet.png", sheet)
        self._save()
