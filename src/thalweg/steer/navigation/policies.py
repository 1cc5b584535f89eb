"""Proposal policies: which candidates a navigation shows next, given the choices so far."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from thalweg.steer.diverse_subset import max_min_subset
from thalweg.steer.navigation.candidates import Candidate, CandidateRenderer
from thalweg.steer.navigation.history import Node, Tree
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.preferences import Preferences
from thalweg.steer.navigation.proposals import (
    MAX_EDITS,
    NUM_ISOTROPIC,
    Endpoint,
    Origin,
    PromptNeighbourhood,
    directed_endpoints,
    draw_prompts,
    near_prompts,
    paper_endpoints,
    prompt_endpoint,
    random_endpoints,
    spread_endpoints,
)

OTHER_FRACTION = 0.2
"""Fraction of the rendered endpoints that are not near prompts: mixed and random directions, and the last one again."""
STEP_QUANTILE = 0.6
"""Quantile of the endpoints' image distances that is the step of a round."""
REFUSAL_FACTOR = 0.5
"""Factor on that quantile for each refused round: where nothing was better, everything was too far."""


class ProposalPolicy(Protocol):
    """Proposes the candidates of a round."""

    def candidates(self, tree: Tree, count: int) -> Iterator[Candidate]:
        """Yield `count` candidates near the tree's current node as they are found; the same for the same choices.

        Raises:
            ThalwegError: no direction changes the images.
        """
        ...


def make_policy(
    config: NavigateConfig, neighbourhood: PromptNeighbourhood, renderer: CandidateRenderer
) -> ProposalPolicy:
    """Return the policy of the configuration's recipe."""
    policies: dict[str, Callable[..., ProposalPolicy]] = {
        "preference": PreferencePolicy,
        "paper": PaperPolicy,
        "random": RandomPolicy,
    }
    return policies[config.recipe](config, neighbourhood, renderer)


class RandomPolicy:
    """Random directions; choices teach nothing.

    Args:
        config: the navigation's configuration.
        neighbourhood: the prompt neighbourhood.
        renderer: renders candidates.
    """

    def __init__(self, config: NavigateConfig, neighbourhood: PromptNeighbourhood, renderer: CandidateRenderer) -> None:
        self._config = config
        self._neighbourhood = neighbourhood
        self._renderer = renderer

    def candidates(self, tree: Tree, count: int) -> Iterator[Candidate]:
        """Yield candidates in random directions, at equal image distances or one by one."""
        config, current = self._config, tree.node().embedding
        nearness = self._nearness(tree)
        if config.one_by_one:
            yield from self._renderer.one_by_one(current, self._endpoints(tree, count), nearness)
            return
        endpoints = list(self._endpoints(tree, max(count, round(count * config.pool))))
        yield from self._renderer.at_equal_steps(
            current, endpoints, count, config.step, STEP_QUANTILE * nearness, config.renders
        )

    def _nearness(self, tree: Tree) -> float:
        return 1.0

    def _endpoints(self, tree: Tree, count: int) -> Iterable[Endpoint]:
        return random_endpoints(self._neighbourhood, _origin(tree.node()), count, tree.node().seed)


class PreferencePolicy(RandomPolicy):
    """Near prompts, mixtures of their directions and random directions, chosen by a model of the preferences."""

    def _nearness(self, tree: Tree) -> float:
        return REFUSAL_FACTOR ** tree.refusals()

    def _endpoints(self, tree: Tree, count: int) -> Iterator[Endpoint]:
        """Yield `count` endpoints to render, the most promising first: near prompts, and a fraction of others.

        For a generator without text these are the directions it names, and others where they are too few. A prompt is
        encoded when its endpoint is asked for, so that the first one does not wait for the others.
        """
        node, neighbourhood = tree.node(), self._neighbourhood
        origin = _origin(node)
        others = self._other_endpoints(tree, origin, count)
        plans = near_prompts(neighbourhood, node.words, self._max_edits(tree), node.seed)
        shown, comparisons = compare_rounds(tree)
        preferences = Preferences(shown, comparisons) if comparisons else None

        def best(points: list[Tensor], number: int) -> list[int]:
            if preferences is None:
                return max_min_subset(torch.stack(points), number)
            return preferences.best_batch(torch.stack(points), number, origin.point[None], node.seed % 2**31)

        num_others = max(1, round(count * OTHER_FRACTION)) if count > 1 else 0
        num_others = num_others if plans else count
        near = best([plan.point for plan in plans], count - num_others) if plans else []
        rest = best([endpoint.point for endpoint in others], num_others) if num_others else []
        yield from (prompt_endpoint(neighbourhood, origin, plans[index]) for index in near)
        yield from (others[index] for index in rest)

    def _other_endpoints(self, tree: Tree, origin: Origin, count: int) -> list[Endpoint]:
        """Return endpoints that are not near prompts."""
        node, neighbourhood = tree.node(), self._neighbourhood
        others = directed_endpoints(neighbourhood, origin)
        if len(others) < count:
            others += spread_endpoints(neighbourhood, origin, node.seed)
            others += random_endpoints(neighbourhood, origin, NUM_ISOTROPIC, node.seed)
        if node.choice.kind == "choose" and node.parent is not None:
            before = tree.nodes[node.parent]
            onward = neighbourhood.toward(before.embedding, node.embedding, 2.0)
            point = 2 * origin.point - torch.tensor(before.point, dtype=torch.float64)
            others.append(Endpoint(onward, "onward", node.words, point))
        return others

    def _max_edits(self, tree: Tree) -> int:
        """Return how many words a near prompt may change: any at first, few after a choice, fewer after refusals."""
        if not any(node.choice.kind == "choose" for node in tree.path()):
            return len(self._neighbourhood.template.groups)
        return max(MAX_EDITS - tree.refusals(), 1)


class PaperPolicy:
    """The published choice among images (arXiv 2308.12059): random prompts, at a constant weight.

    Args:
        config: the navigation's configuration.
        neighbourhood: the prompt neighbourhood.
        renderer: renders candidates.
    """

    def __init__(self, config: NavigateConfig, neighbourhood: PromptNeighbourhood, renderer: CandidateRenderer) -> None:
        self._prompts = draw_prompts(config.seed)
        self._neighbourhood = neighbourhood
        self._renderer = renderer

    def candidates(self, tree: Tree, count: int) -> Iterator[Candidate]:
        """Yield the candidates toward prompts that were not shown on the path to the current node."""
        node = tree.node()
        shown = {label for node in tree.path() if node.round for label in node.round.labels}
        unseen = [prompt for prompt in self._prompts if prompt not in shown]
        prompts = unseen or self._prompts
        endpoints = paper_endpoints(self._neighbourhood, _origin(node), count, prompts, node.seed)
        yield from [self._renderer.at(node.embedding, endpoint) for endpoint in endpoints]


def compare_rounds(tree: Tree) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return the points shown on the path to the current node, and what the choices say about them.

    Returns:
        Points (N, k), float64, and pairs of their rows, the preferred one first.
    """
    points: list[list[float]] = []
    comparisons: list[tuple[int, int]] = []
    for node in tree.path():
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


def _origin(node: Node) -> Origin:
    return Origin(node.embedding, node.words, torch.tensor(node.point, dtype=torch.float64))
