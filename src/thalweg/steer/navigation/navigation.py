"""Navigation: show candidates near the current embedding, take a choice, keep the tree of choices."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Generator, suitable_threads
from thalweg.limits import MAX_CANDIDATES, MAX_STRENGTH, MIN_STRENGTH, check_count, check_number
from thalweg.steer.image_features import Features, pooled_features
from thalweg.steer.navigation.candidates import Candidate, CandidateRenderer
from thalweg.steer.navigation.history import Choice, Node, Round, Tree, chained_seed
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.policies import make_policy
from thalweg.steer.navigation.prompt_edits import PromptTemplate
from thalweg.steer.navigation.proposals import PromptNeighbourhood
from thalweg.steer.runs import Run
from thalweg.steer.sheets import contact_sheet, labelled_sheet, square_columns

MIN_ARRIVAL = 0.5
"""Weight on the path to a near prompt from which on its words count as the current prompt's."""


class Navigation:
    """Navigation of an embedding space by choices between images (arXiv 2308.12059, its second tool).

    Args:
        generator: the model.
        config: the configuration; a prompt alone for the defaults.
        folder: run folder for the tree, the embeddings and the images; None: nothing is written.
        start: an embedding to start from instead of the prompt's.
        features: images (S, 3, H, W) in 0..1 to features (S, d) in which distance is image distance, for instance a
            scorer's `embed_images`.
        loading: how the model was loaded, as JSON values; stored in the run folder for resuming.

    Attributes:
        config: the configuration.

    Raises:
        UsageError: an invalid configuration, an embedding of another model, or a folder that is not empty.
    """

    def __init__(
        self,
        generator: Generator,
        config: NavigateConfig | str,
        folder: Path | str | None = None,
        start: Embedding | None = None,
        features: Features = pooled_features,
        loading: Mapping[str, Any] | None = None,
    ) -> None:
        config = NavigateConfig(config) if isinstance(config, str) else config
        root = generator.embed(config.prompt) if start is None else start
        root.check_model(generator.model)
        neighbourhood = PromptNeighbourhood(generator, PromptTemplate.of(config.prompt, config.groups), root)
        words = neighbourhood.template.words
        point = neighbourhood.point(words).tolist()
        tree = Tree({0: Node(0, None, Choice("start"), _root_seed(config), root, words, point)})
        run = None if folder is None else Run.create(folder, "navigate", generator.model, asdict(config), loading)
        self._begin(generator, config, neighbourhood, tree, run, features)
        self._save()

    def _begin(
        self,
        generator: Generator,
        config: NavigateConfig,
        neighbourhood: PromptNeighbourhood,
        tree: Tree,
        run: Run | None,
        features: Features,
    ) -> None:
        self.config = config
        self._generator = generator
        self._features = features
        self._neighbourhood = neighbourhood
        self._tree = tree
        self._run = run
        self._renderer = CandidateRenderer(generator, neighbourhood, config.seeds, features, config.method)
        self._policy = make_policy(config, neighbourhood, self._renderer)
        self._count = 0
        self._candidates: list[Candidate] = []
        self._proposals: Iterator[Candidate] = iter(())

    @classmethod
    def open(cls, folder: Path | str, generator: Generator, features: Features = pooled_features) -> Self:
        """Open a navigation that was saved; `propose` shows the same candidates again.

        Raises:
            UsageError: the folder holds no navigation, it can't be read, or it belongs to another model.
        """
        run = Run.open(folder, "navigate", generator.model)
        config = NavigateConfig.read(run)
        tree = Tree.load(run, generator.model)
        if tree.nodes[0].seed != _root_seed(config):
            raise UsageError(f"{folder}: its tree does not belong to its settings; the run was changed")
        navigation = cls.__new__(cls)
        neighbourhood = PromptNeighbourhood(
            generator, PromptTemplate.of(config.prompt, config.groups), tree.nodes[0].embedding
        )
        navigation._begin(generator, config, neighbourhood, tree, run, features)
        return navigation

    def replay(self) -> None:
        """Make every choice of the tree again and compare the embeddings.

        Raises:
            ThalwegError: an embedding differs, as it may on other hardware or with other libraries.
        """
        again = Navigation(self._generator, self.config, None, self._tree.nodes[0].embedding, self._features)
        numbers = {0: 0}
        for node in list(self._tree.nodes.values())[1:]:
            assert node.parent is not None  # only the root has none
            again.go(numbers[node.parent])
            again._repeat(node)
            numbers[node.number] = again.node.number
            if again.current.hash != node.embedding.hash:
                raise ThalwegError(
                    f"node {node.number} came out differently when its choices were made again: expected the hardware "
                    "and the library versions that the navigation was made with"
                )

    def _repeat(self, node: Node) -> None:
        """Make the choice again that led to a node."""
        if node.round is None:
            self.fork()
            return
        list(islice(self.candidates(node.choice.count), len(node.round.labels)))
        if node.choice.kind == "choose":
            self.choose(node.choice.index, node.choice.strength)
        else:
            self.none()

    @property
    def node(self) -> Node:
        """The current node of the tree."""
        return self._tree.node()

    @property
    def nodes(self) -> Mapping[int, Node]:
        """All nodes of the tree, by number."""
        return self._tree.nodes

    @property
    def names(self) -> Mapping[int, str]:
        """Names that users gave to nodes, by number."""
        return self._tree.names

    @property
    def current(self) -> Embedding:
        """The current embedding."""
        return self.node.embedding

    @property
    def images(self) -> Tensor:
        """The current embedding's images (S, 3, H, W) in 0..1, one per seed; in the run folder the round's current.png.

        They are rendered at the first access.
        """
        images = self._renderer.images(self.current)
        if self._run is not None and not (self._run.folder / self._in_round("current.png")).is_file():
            self._run.write_image(self._in_round("current.png"), contact_sheet(images, square_columns(len(images))))
        return images

    @property
    def found(self) -> Sequence[Candidate]:
        """The candidates found so far in this round, among which `choose` chooses."""
        return tuple(self._candidates)

    def propose(self, n: int = 5) -> list[Candidate]:
        """Return `n` candidates near the current embedding that differ, at equal image distances from it.

        They stay the same until a choice is made. The recipe "paper" has a constant weight instead of equal distances.

        Raises:
            UsageError: `n` is not a number from 1 to `MAX_CANDIDATES`.
            ThalwegError: no direction changes the images, or the embedding holds NaN.
        """
        return list(self.candidates(n))

    def candidates(self, n: int = 5) -> Iterator[Candidate]:
        """Yield the candidates of `propose` as they are found; a choice may be made among those yielded so far.

        Raises:
            UsageError: as `propose`.
            ThalwegError: as `propose`.
        """
        n = check_count("the number of candidates", n, 1, MAX_CANDIDATES)
        if self._count != n:
            self.current.check_finite()
            self._clear_round()
            self._count, self._proposals = n, self._policy.candidates(self._tree, n)
        found = self._candidates  # a choice begins another list
        yield from tuple(found)
        while self._candidates is found and self._find_next(n):
            yield found[-1]

    def _find_next(self, n: int) -> bool:
        """Find one more candidate of `n` and return True, or False if there is none; an interrupted one is repeated."""
        found, proposals = self._candidates, self._proposals
        try:
            with suitable_threads(self._generator):
                candidate = next(proposals, None)
        except BaseException:  # a generator that raised yields no more
            self._proposals = islice(self._policy.candidates(self._tree, n), len(found), None)
            raise
        if candidate is None:
            return False
        found.append(candidate)
        self._write_candidate()
        return True

    def choose(self, index: int, strength: float = 1.0) -> Embedding:
        """Move toward a candidate and return the new embedding.

        Args:
            index: index of the candidate, from 0.
            strength: weight on the path to it: 1 is the candidate, less is nearer, more is beyond.

        Raises:
            UsageError: nothing was proposed, there is no such candidate, or the strength is out of range.
        """
        candidate = self._candidate(index)
        arrived = candidate.weight * strength >= MIN_ARRIVAL
        choice = Choice("choose", self._count, index, float(strength))
        words = candidate.words if arrived else self.node.words
        point = self._point(candidate, strength)
        return self._descend(choice, self._toward(candidate, strength), words, point)

    def none(self) -> Embedding:
        """Refuse all candidates; the next ones avoid what they have in common. Return the same embedding.

        Raises:
            UsageError: nothing was proposed.
        """
        self._candidate(0)
        return self._descend(Choice("none", self._count), self.current, self.node.words, self.node.point)

    def undo(self) -> Embedding:
        """Return to the node before the last choice; the branch stays in the tree, but teaches no more.

        Raises:
            UsageError: there is no choice to undo.
        """
        if self.node.parent is None:
            raise UsageError("expected a choice to take back, this is the start")
        return self.go(self.node.parent)

    def go(self, number: int) -> Embedding:
        """Go to a node; its candidates are shown again, and earlier choices there lead to the same nodes.

        Raises:
            UsageError: there is no such node.
        """
        self._tree.current = self._tree.node(number).number
        self._clear_round()
        self._save()
        return self.current

    def name(self, number: int, name: str) -> None:
        """Name a node, for users; an empty name removes it.

        Raises:
            UsageError: there is no such node.
        """
        self._tree.name(number, name)
        self._save()

    def fork(self, number: int | None = None) -> Embedding:
        """Begin a branch at a node, by default the current one: the same embedding, other candidates.

        Raises:
            UsageError: there is no such node.
        """
        self.go(self.node.number if number is None else number)
        forks = sum(child.choice.kind == "fork" for child in self._tree.children(self.node.number))
        return self._descend(Choice("fork", index=forks), self.current, self.node.words, self.node.point)

    def preview(self, index: int, strength: float) -> Tensor:
        """Return the images (S, 3, H, W) in 0..1 of the embedding that `choose` would lead to.

        Raises:
            UsageError: as `choose`.
        """
        return self._renderer.images(self._toward(self._candidate(index), strength))

    def point_of(self, candidate: Candidate) -> list[float]:
        """Return a candidate's coordinates in the subspace of preferences, as `Node.point`.

        The axes are the principal components of the prompts near the start, the longest first; the start is zero.
        """
        return self._point(candidate)

    def _clear_round(self) -> None:
        self._count, self._candidates, self._proposals = 0, [], iter(())

    def _candidate(self, index: int) -> Candidate:
        if not self._candidates:
            raise UsageError("expected candidates to choose from, none were proposed since the last choice")
        return self._candidates[check_count("the candidate", index, 0, len(self._candidates) - 1)]

    def _toward(self, candidate: Candidate, strength: float) -> Embedding:
        check_number("the strength", strength, MIN_STRENGTH, MAX_STRENGTH)
        if strength == 1:
            return candidate.embedding
        return self._neighbourhood.toward(self.current, candidate.embedding, strength)

    def _point(self, candidate: Candidate, strength: float = 1.0) -> list[float]:
        """Return a candidate's coordinates: as far toward its endpoint as its embedding is."""
        here = torch.tensor(self.node.point, dtype=torch.float64)
        return torch.lerp(here, candidate.point, candidate.weight * strength).tolist()

    def _descend(self, choice: Choice, embedding: Embedding, words: Mapping[str, str], point: list[float]) -> Embedding:
        """Go to the child node of a choice."""
        seed = chained_seed(self.node.seed, choice)
        number = len(self._tree.nodes)
        self._tree.add(Node(number, self.node.number, choice, seed, embedding, words, point, self._round()))
        self._clear_round()
        self._renderer.forget_others(self.current)
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

    def _save(self) -> None:
        if self._run is not None:
            self._tree.save(self._run)

    def _write_candidate(self) -> None:
        """Write the last candidate's images, and a sheet of all: the current embedding first, one row per seed."""
        if self._run is None:
            return
        last = self._candidates[-1].images
        name = self._in_round(f"candidate-{len(self._candidates)}.png")
        self._run.write_image(name, contact_sheet(last, square_columns(len(last))))
        shown = [self.images, *(candidate.images for candidate in self._candidates)]
        rows = torch.stack(shown, dim=1).flatten(0, 1)
        names = ["now", *map(str, range(1, len(shown)))]
        labels = [f"{name}, seed {seed}" for seed in self.config.seeds for name in names]
        self._run.write_image(self._in_round("sheet.png"), labelled_sheet(rows, len(shown), labels))

    def _in_round(self, name: str) -> str:
        return f"rounds/{self.node.number:03d}/{name}"


def _root_seed(config: NavigateConfig) -> int:
    return chained_seed(config.seed, config.prompt, config.recipe)
