"""Tool 2, navigate: show candidates near the current embedding, take a choice, keep the tree of choices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator
from thalweg.limits import MAX_CANDIDATES, MAX_STRENGTH, MIN_STRENGTH, check_count, check_number
from thalweg.steer.image_features import Features, max_min_subset, pooled_features
from thalweg.steer.navigation.candidates import Candidate, Viewer
from thalweg.steer.navigation.history import Choice, Node, Round, Tree, chained_seed
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.preferences import Preferences
from thalweg.steer.navigation.prompt_edits import PromptTemplate
from thalweg.steer.navigation.proposals import (
    ISOTROPIC,
    MOST_CHANGES,
    Endpoint,
    PromptNeighbourhood,
    directed_endpoints,
    drawn_prompts,
    near_plans,
    paper_endpoints,
    planned,
    random_endpoints,
    spread_endpoints,
)
from thalweg.steer.runs import Run, contact_sheet

OTHERS = 0.2
"""Share of the endpoints rendered that are no near prompts: mixed and random directions, and the last one again."""
QUANTILE = 0.6
"""Where the step of a round lies among the image distances of its endpoints."""
NEARER = 0.5
"""What that is multiplied by for each refused round: where nothing was better, all were too far."""
ARRIVED = 0.5
"""Weight on the way to a near prompt from which on its words count as the prompt's."""


class Navigation:
    """A walk through an embedding space by choices between images (arXiv 2308.12059, its second tool).

    Args:
        generator: the model.
        settings: what to do; a prompt alone for the defaults.
        folder: where to keep the tree, the embeddings and the images; None: nowhere.
        start: an embedding to start from instead of the prompt's.
        features: images (S, 3, H, W) to features (S, d) in which distance is image distance, for instance a scorer's
            `embed_images`.
        loading: how the model was loaded, kept in the folder for who goes on.

    Raises:
        UsageError: settings at fault, an embedding of another model, or something in the folder already.
    """

    def __init__(
        self,
        generator: Generator,
        settings: NavigateConfig | str,
        folder: Path | str | None = None,
        start: Embedding | None = None,
        features: Features = pooled_features,
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        settings = NavigateConfig(settings) if isinstance(settings, str) else settings
        root = generator.embed(settings.prompt) if start is None else start
        root.check_model(generator.model)
        around = PromptNeighbourhood(generator, PromptTemplate.of(settings.prompt, settings.groups))
        seed = _root_seed(settings)
        point = around.point(around.wording.words).tolist()
        tree = Tree({0: Node(0, None, Choice("start"), seed, root, around.wording.words, point)})
        run = None if folder is None else Run.create(folder, "navigate", generator.model, asdict(settings), loading)
        self._begin(generator, settings, around, tree, run, features)
        self._save()

    def _begin(
        self,
        generator: Generator,
        settings: NavigateConfig,
        around: PromptNeighbourhood,
        tree: Tree,
        run: Run | None,
        features: Features,
    ) -> None:
        self.settings = settings
        self._generator = generator
        self._features = features
        self._around = around
        self._tree = tree
        self._run = run
        self._viewer = Viewer(generator, around, settings.seeds, features, settings.method)
        self._asked = 0
        self._candidates: list[Candidate] = []
        self._finding: Iterator[Candidate] = iter(())

    @classmethod
    def open(cls, folder: Path | str, generator: Generator, features: Features = pooled_features) -> Self:
        """Go on with a navigation that was saved; `propose` shows the same candidates again.

        Raises:
            UsageError: there is none in the folder, it can't be read, or it belongs to another model.
        """
        run = Run.open(folder, "navigate", generator.model)
        settings = NavigateConfig.read(run)
        tree = Tree.load(run, generator.model)
        if tree.nodes[0].seed != _root_seed(settings):
            raise UsageError(f"{folder}: its tree does not belong to its settings; the run was changed")
        navigation = cls.__new__(cls)
        around = PromptNeighbourhood(generator, PromptTemplate.of(settings.prompt, settings.groups))
        navigation._begin(generator, settings, around, tree, run, features)
        return navigation

    def replay(self) -> None:
        """Make every choice of the tree again and compare.

        Raises:
            ThalwegError: an embedding came out differently, as it may on other hardware or with other libraries.
        """
        again = Navigation(self._generator, self.settings, None, self._tree.nodes[0].embedding, self._features)
        numbers = {0: 0}
        for node in list(self._tree.nodes.values())[1:]:
            assert node.parent is not None  # the root alone has none
            again._go(numbers[node.parent])
            again._make(node)
            numbers[node.number] = again.node.number
            if again.current.hash != node.embedding.hash:
                raise ThalwegError(
                    f"node {node.number} came out differently when its choices were made again: expected the hardware "
                    "and the library versions that the navigation was made with"
                )

    def _make(self, made: Node) -> None:
        choice = made.choice
        if made.round is None:
            self.fork()
            return
        list(islice(self.candidates(choice.count), len(made.round.labels)))
        if choice.kind == "choose":
            self.choose(choice.index, choice.strength)
        else:
            self.none()

    @property
    def node(self) -> Node:
        """The current node of the tree."""
        return self._tree.nodes[self._tree.current]

    @property
    def nodes(self) -> Mapping[int, Node]:
        """All nodes of the tree, by number."""
        return self._tree.nodes

    @property
    def current(self) -> Embedding:
        """The current embedding."""
        return self.node.embedding

    @property
    def images(self) -> Tensor:
        """The current embedding's images (S, 3, H, W), one a seed; in the folder they are the round's current.png."""
        images = self._viewer.images(self.current)
        if self._run is not None and not (self._run.folder / self._in_round("current.png")).is_file():
            self._run.write_image(self._in_round("current.png"), contact_sheet(images, len(images)))
        return images

    @property
    def found(self) -> Sequence[Candidate]:
        """The candidates found so far in this round: those that `choose` may name."""
        return tuple(self._candidates)

    def propose(self, n: int = 5) -> list[Candidate]:
        """Return `n` candidates near the current embedding, far from each other, at equal image distances from it.

        They stay the same until a choice is made. The paper's are at its constant weight instead.

        Raises:
            UsageError: fewer than 1.
            ThalwegError: no direction changes the images, or the embedding holds NaN.
        """
        return list(self.candidates(n))

    def candidates(self, n: int = 5) -> Iterator[Candidate]:
        """Yield the candidates of `propose` as they are found; a choice may be made among those yielded so far.

        Raises:
            UsageError, ThalwegError: as `propose`.
        """
        n = check_count("the number of candidates", n, 1, MAX_CANDIDATES)
        if self._asked != n:
            self.current.check_finite()
            self._forget_round()
            self._asked, self._finding = n, self._find(n)
        found = self._candidates  # a choice begins others
        yield from tuple(found)
        while self._candidates is found and self._find_next(n):
            yield found[-1]

    def _find_next(self, n: int) -> bool:
        """Find one more candidate of `n`; False where there is none. What is broken off is found the next time."""
        found, finding = self._candidates, self._finding
        try:
            candidate = next(finding, None)
        except BaseException:  # a generator that raised yields no more
            self._finding = islice(self._find(n), len(found), None)
            raise
        if candidate is None:
            return False
        found.append(candidate)
        self._write_candidate()
        return True

    def choose(self, index: int, strength: float = 1.0) -> Embedding:
        """Move toward candidate `index` (from 0): by `strength` 1 to it, by less or more not as far or beyond.

        Raises:
            UsageError: nothing was proposed, there is no such candidate, or the strength is not above 0.
        """
        candidate = self._candidate(index)
        arrived = candidate.weight * strength >= ARRIVED
        choice = Choice("choose", self._asked, index, float(strength))
        words = candidate.words if arrived else self.node.words
        point = self._point(candidate, strength)
        return self._descend(choice, self._toward(candidate, strength), words, point)

    def none(self) -> Embedding:
        """Say that no candidate is better than the current embedding: what they have in common is avoided next.

        Raises:
            UsageError: nothing was proposed.
        """
        self._candidate(0)
        return self._descend(Choice("none", self._asked), self.current, self.node.words, self.node.point)

    def undo(self) -> Embedding:
        """Go back to where the last choice was made; the branch that it made stays in the tree, but teaches no more.

        Raises:
            UsageError: there is no choice to take back.
        """
        if self.node.parent is None:
            raise UsageError("expected a choice to take back, this is the start")
        self._go(self.node.parent)
        return self.current

    def go(self, number: int) -> Embedding:
        """Return to node `number`: its candidates are shown again, and choices made there before lead where they did.

        Raises:
            UsageError: there is no such node.
        """
        self._go(number)
        return self.current

    def name(self, number: int, name: str) -> None:
        """Name a node, for people; an empty name takes it away.

        Raises:
            UsageError: there is no such node.
        """
        self._tree.name(number, name)
        self._save()

    @property
    def names(self) -> Mapping[int, str]:
        """The names that nodes were given, by number."""
        return self._tree.names

    def fork(self, number: int | None = None) -> Embedding:
        """Begin a branch at node `number`, by default the current one: the same embedding, other candidates.

        Raises:
            UsageError: there is no such node.
        """
        self._go(self.node.number if number is None else number)
        forks = sum(child.choice.kind == "fork" for child in self._tree.children(self.node.number))
        return self._descend(Choice("fork", index=forks), self.current, self.node.words, self.node.point)

    def preview(self, index: int, strength: float) -> Tensor:
        """Return the images (S, 3, H, W) that `choose` with these arguments leads to.

        Raises:
            UsageError: as `choose`.
        """
        return self._viewer.images(self._toward(self._candidate(index), strength))

    def _go(self, number: int) -> None:
        self._tree.current = self._tree.node(number).number
        self._forget_round()
        self._save()

    def _forget_round(self) -> None:
        self._asked, self._candidates, self._finding = 0, [], iter(())

    def _candidate(self, index: int) -> Candidate:
        if not self._candidates:
            raise UsageError("expected candidates to choose from, none were proposed since the last choice")
        return self._candidates[check_count("the candidate", index, 0, len(self._candidates) - 1)]

    def _toward(self, candidate: Candidate, strength: float) -> Embedding:
        check_number("the strength", strength, MIN_STRENGTH, MAX_STRENGTH)
        if strength == 1:
            return candidate.embedding
        return self._around.toward(self.current, candidate.embedding, strength)

    def point_of(self, candidate: Candidate) -> list[float]:
        """Where a candidate lies in the subspace that preferences live in, as `Node.point` does.

        Its axes are the principal ones of the prompts near the start, the longest first, the start at zero.
        """
        return self._point(candidate)

    def _point(self, candidate: Candidate, strength: float = 1.0) -> list[float]:
        """Where a candidate lies in the subspace: as far toward its endpoint as it is in the embedding."""
        here = torch.tensor(self.node.point, dtype=torch.float64)
        return torch.lerp(here, candidate.point, candidate.weight * strength).tolist()

    def _descend(self, choice: Choice, embedding: Embedding, words: Mapping[str, str], point: list[float]) -> Embedding:
        seed = chained_seed(self.node.seed, choice)
        number = len(self._tree.nodes)
        self._tree.add(Node(number, self.node.number, choice, seed, embedding, words, point, self._round()))
        self._forget_round()
        self._viewer.forget(self.current)
        self._save()
        return self.current

    def _round(self) -> Round | None:
        if not self._candidates:
            return None
        return Round(
            [self.node.point, *(self._point(candidate) for candidate in self._candidates)],
            [candidate.label for candidate in self._candidates],
            [candidate.distance for candidate in self._candidates],
        )

    def _paper(self, n: int) -> list[Candidate]:
        prompts = drawn_prompts(self.settings.seed)
        seen = {label for node in self._tree.way() if node.round for label in node.round.labels}
        unseen = [prompt for prompt in prompts if prompt not in seen]
        node = self.node
        point = torch.tensor(node.point, dtype=torch.float64)
        endpoints = paper_endpoints(self._around, node.embedding, node.words, point, n, unseen or prompts, node.seed)
        return [self._viewer.at(node.embedding, endpoint) for endpoint in endpoints]

    def _find(self, n: int) -> Iterator[Candidate]:
        settings = self.settings
        if settings.recipe == "paper":
            yield from self._paper(n)
            return
        nearer = 1 if settings.recipe == "random" else NEARER ** self._refusals()
        if settings.one_by_one:
            yield from self._viewer.one_by_one(self.current, self._endpoints(n), nearer)
            return
        endpoints = list(self._endpoints(max(n, round(n * settings.pool))))
        yield from self._viewer.at_equal_steps(
            self.current, endpoints, n, settings.step, QUANTILE * nearer, settings.renders
        )

    def _refusals(self) -> int:
        """How many rounds in a row, up to now, had nothing better than the current embedding."""
        way = self._tree.way()
        return next((passed for passed, node in enumerate(reversed(way)) if node.choice.kind != "none"), 0)

    def _most_changes(self) -> int:
        """How many words a near prompt may change: any at first, few once something is wanted, fewer if refused."""
        if not any(node.choice.kind == "choose" for node in self._tree.way()):
            return len(self._around.wording.groups)
        return max(MOST_CHANGES - self._refusals(), 1)

    def _endpoints(self, count: int) -> Iterator[Endpoint]:
        """Choose `count` endpoints to render, the most promising first: near prompts, and others for a share.

        For a generator without words these are the directions it names, and others where they are too few. A prompt is
        encoded when it is asked for, so that the first one does not wait for the others.
        """
        node, around = self.node, self._around
        here = torch.tensor(node.point, dtype=torch.float64)
        current = (around, node.embedding, node.words, here)
        if self.settings.recipe == "random":
            yield from random_endpoints(*current, count, node.seed)
            return
        others = directed_endpoints(*current)
        if len(others) < count:
            others += spread_endpoints(*current, node.seed) + random_endpoints(*current, ISOTROPIC, node.seed)
        if node.choice.kind == "choose" and node.parent is not None:
            before = self._tree.nodes[node.parent]
            onward = around.toward(before.embedding, node.embedding, 2.0)
            point = 2 * here - torch.tensor(before.point, dtype=torch.float64)
            others.append(Endpoint(onward, "onward", node.words, point))
        plans = near_plans(around, node.words, self._most_changes(), node.seed)
        shown, comparisons = self._comparisons()
        taught = Preferences(shown, comparisons) if comparisons else None

        def best(points: list[Tensor], of_them: int) -> list[int]:
            if taught is None:
                return max_min_subset(torch.stack(points), of_them)
            return taught.best_batch(torch.stack(points), of_them, here[None], node.seed % 2**31)

        few = max(1, round(count * OTHERS)) if count > 1 else 0
        few = few if plans else count
        near = best([plan.point for plan in plans], count - few) if plans else []
        rest = best([endpoint.point for endpoint in others], few) if few else []
        yield from (planned(*current, plans[index]) for index in near)
        yield from (others[index] for index in rest)

    def _comparisons(self) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return the points (N, k) shown on the way here, and pairs of them, the preferred one first."""
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
                points.append(node.point)
                comparisons.append((len(points) - 1, best))
        return torch.tensor(points, dtype=torch.float64), comparisons

    def _save(self) -> None:
        if self._run is not None:
            self._tree.save(self._run)

    def _write_candidate(self) -> None:
        """Write the last candidate's images, and a sheet of all so far: the current embedding first, a row a seed."""
        if self._run is None:
            return
        last = self._candidates[-1].images
        name = self._in_round(f"candidate-{len(self._candidates)}.png")
        self._run.write_image(name, contact_sheet(last, len(last)))
        shown = [self.images, *(candidate.images for candidate in self._candidates)]
        rows = torch.stack(shown, dim=1).flatten(0, 1)
        self._run.write_image(self._in_round("sheet.png"), contact_sheet(rows, len(shown)))

    def _in_round(self, name: str) -> str:
        return f"rounds/{self.node.number:03d}/{name}"


def _root_seed(settings: NavigateConfig) -> int:
    return chained_seed(settings.seed, settings.prompt, settings.recipe)
