"""Endpoints that a navigation may move toward: near prompts, mixed and random directions, and the published ones."""

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from thalweg.embedding import Embedding
from thalweg.generator import DirectedGenerator, Generator, embed_like
from thalweg.notices import redirect_warnings
from thalweg.steer.diverse_subset import max_min_subset
from thalweg.steer.interpolation import between
from thalweg.steer.navigation.prompt_edits import STYLE_WORDS, PromptTemplate
from thalweg.steer.path_methods import Method

NUM_COMBINATIONS = 150
"""Near prompts with several edits, per round."""
MAX_EDITS = 3
"""Edits of a near prompt after a choice: much of what an image shows is then wanted."""
NUM_MIXTURES = 16
"""Directions mixed from those of near prompts, per round."""
NUM_ISOTROPIC = 4
"""Directions in which every value moves independently, per round."""
MAX_DIMENSIONS = 64
"""Largest number of dimensions of the subspace of preferences."""
MIN_LENGTH_RATIO = 0.05
"""Ratio to the longest principal component below which components are shrunk; longer ones get equal length."""
NUM_PAPER_PROMPTS = 500
"""Published number of prompts of random characters from which candidates are chosen."""
ANGLE_WEIGHT = 0.28
"""Published: a move's weight is this over (1 - cosine), clipped to 1, so that its angle is nearly constant."""


@dataclass(frozen=True)
class Origin:
    """The current point of a navigation.

    Attributes:
        embedding: the current embedding.
        words: the words of its prompt by group.
        point: its coordinates (k) in the subspace of preferences, float64.
    """

    embedding: Embedding
    words: Mapping[str, str]
    point: Tensor


@dataclass(frozen=True)
class Endpoint:
    """An embedding to move toward from the current one.

    Attributes:
        embedding: the endpoint's embedding.
        label: its description.
        words: the words of its prompt by group.
        point: its coordinates (k) in the subspace of preferences, float64.
    """

    embedding: Embedding
    label: str
    words: Mapping[str, str]
    point: Tensor


@dataclass(frozen=True)
class ProposalPlan:
    """An endpoint before its prompt is encoded, which most endpoints never need.

    Attributes:
        template: the near prompt.
        point: its coordinates (k) in the subspace of preferences, float64.
    """

    template: PromptTemplate
    point: Tensor


class PromptNeighbourhood:
    """The near prompts of a prompt, and the subspace of preferences that they span.

    For a generator that names directions, moves along these take the place of near prompts, and there is no text.

    Args:
        generator: the model; only `embed`, `trainable_masks` and, where it has them, `directions` are used.
        template: the prompt that the navigation starts from.
        like: embedding that the prompts' embeddings have as many rows as; None: as many as each prompt needs.

    Attributes:
        template: the prompt; without groups for a generator that names directions.
        directions: moves (n) that the generator names, float64, by name.
        shifts: moves (m, n) to the near prompts, float64.
        spread: root mean square (n) of the moves.
    """

    def __init__(self, generator: Generator, template: PromptTemplate, like: Embedding | None = None) -> None:
        self._generator = generator
        self._like = like
        self._known: dict[str, Embedding] = {}
        prompt = self.embed(template.text)
        self.directions: dict[str, Tensor] = {}
        if isinstance(generator, DirectedGenerator):
            prompt.check_finite()
            moves = generator.directions(prompt)
            self.directions = {name: _flatten_move(prompt, tensors) for name, tensors in moves.items()}
            template = PromptTemplate(template.text, groups=())
            near = [self.moved(prompt, shift) for shift in self.directions.values()]
        else:
            near = [self.embed(variation.text) for variation in template.variations()]
        self.template = template
        shifts = [_flatten(each) - _flatten(prompt) for each in near]
        nonzero = [shift for shift in shifts if bool(shift.any())]
        self.shifts = torch.stack(nonzero or [torch.zeros_like(_flatten(prompt))])
        self.spread = self.shifts.square().mean(dim=0).sqrt()
        self._centre = _pool(prompt)
        pooled = torch.stack([_pool(each) for each in near]) - _pool(prompt)
        _, lengths, axes = torch.linalg.svd(pooled, full_matrices=False)
        count = min(MAX_DIMENSIONS, int((lengths > 1e-6 * lengths.max()).sum()))
        min_length = MIN_LENGTH_RATIO * float(lengths.max())
        self._axes = axes[:count] / (lengths[:count].square() + min_length**2).sqrt()[:, None]
        self._unit = float((pooled @ self._axes.T).norm(dim=1).median().clamp(min=1e-9))
        self._of_words = {
            (group.name, variation.words.get(group.name)): self.coordinates(self.embed(variation.text))
            for group in template.groups
            for variation in template.variations(group)
        }

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of `prompt`, encoded once."""
        if prompt not in self._known:
            with torch.no_grad(), redirect_warnings(lambda warning: None):  # no user wrote these prompts
                like = self._like
                self._known[prompt] = (
                    self._generator.embed(prompt) if like is None else embed_like(prompt, like, self._generator)
                )
        return self._known[prompt]

    def coordinates(self, embedding: Embedding) -> Tensor:
        """Return an embedding's coordinates (k) in the subspace, float64; near prompts are about 1 from their prompt.

        The axes are the near prompts' principal components, scaled to equal length, of the mean over the token rows:
        a word then counts the same in every position, and words with large embeddings count no more than others.
        """
        return (_pool(embedding) - self._centre) @ self._axes.T / self._unit

    def point(self, words: Mapping[str, str]) -> Tensor:
        """Return the coordinates (k), float64, of a prompt with `words`: the sum of the effects of each word."""
        before = self.template.words
        total = torch.zeros(len(self._axes), dtype=torch.float64)
        for group in self.template.groups:
            word = words.get(group.name)
            if word != before.get(group.name):
                total += self._of_words[group.name, word]
        return total

    def toward(self, current: Embedding, goal: Embedding, weight: float, method: Method = "slerp") -> Embedding:
        """Return the embedding at `weight` on the path from `current` (0) to `goal` (1); frozen entries do not move."""
        tensors = between(current, goal, weight, method)
        masks = self._generator.trainable_masks(current)
        moved = {name: torch.where(masks[name], tensor, current.tensors[name]) for name, tensor in tensors.items()}
        return current.derive(moved, "navigate", goal, weight=weight, method=method)

    def moved(self, embedding: Embedding, shift: Tensor) -> Embedding:
        """Return `embedding` moved by a flat `shift` (n); frozen entries do not move."""
        masks = self._generator.trainable_masks(embedding)
        tensors, first = {}, 0
        for name, tensor in _ordered(embedding):
            part = shift[first : first + tensor.numel()].reshape(tensor.shape)
            first += tensor.numel()
            tensors[name] = torch.where(masks[name], tensor + part.to(tensor), tensor)
        return embedding.derive(tensors, "navigate")


def near_prompts(
    neighbourhood: PromptNeighbourhood, words: Mapping[str, str], max_edits: int, seed: int
) -> list[ProposalPlan]:
    """Return near prompts of the prompt with `words`: every single edit, and combinations of up to `max_edits`."""
    prompt = neighbourhood.template.with_words(words)
    draws = random.Random(seed)
    near = prompt.variations()
    max_edits = min(max_edits, len(prompt.groups))
    for _ in range(NUM_COMBINATIONS if max_edits > 1 else 0):
        groups = draws.sample(prompt.groups, draws.randint(2, max_edits))
        near.append(prompt.edited({group.name: draws.choice(group.words) for group in groups}))
    distinct = {each.text: each for each in near if each.text != prompt.text}
    return [ProposalPlan(each, neighbourhood.point(each.words)) for each in distinct.values()]


def prompt_endpoint(neighbourhood: PromptNeighbourhood, origin: Origin, plan: ProposalPlan) -> Endpoint:
    """Encode a near prompt, and move the current embedding by the difference of both prompts.

    Moves in directions without words, which earlier choices added to the current embedding, are kept.
    """
    near, prompt = plan.template, neighbourhood.template.with_words(origin.words)
    shift = _flatten(neighbourhood.embed(near.text)) - _flatten(neighbourhood.embed(prompt.text))
    point = origin.point + plan.point - neighbourhood.point(origin.words)
    return Endpoint(neighbourhood.moved(origin.embedding, shift), near.text, near.words, point)


def spread_endpoints(neighbourhood: PromptNeighbourhood, origin: Origin, seed: int) -> list[Endpoint]:
    """Return endpoints in directions mixed from those of the near prompts."""
    generator = torch.Generator().manual_seed(seed)
    shifts = neighbourhood.shifts
    size = float(shifts.norm(dim=1).median())
    found = []
    for index in range(NUM_MIXTURES):
        mixture = torch.randn(len(shifts), generator=generator, dtype=torch.float64) @ shifts
        shift = mixture * (size / mixture.norm().clamp(min=1e-12))
        found.append(_shifted(neighbourhood, origin, shift, f"mixture {index + 1}"))
    return found


def random_endpoints(neighbourhood: PromptNeighbourhood, origin: Origin, count: int, seed: int) -> list[Endpoint]:
    """Return endpoints in random directions; each value moves at the scale at which near prompts move it."""
    generator = torch.Generator().manual_seed(seed)
    spread = neighbourhood.spread
    draws = torch.randn(count, len(spread), generator=generator, dtype=torch.float64) * spread
    return [_shifted(neighbourhood, origin, shift, f"random {index + 1}") for index, shift in enumerate(draws)]


def directed_endpoints(neighbourhood: PromptNeighbourhood, origin: Origin) -> list[Endpoint]:
    """Return an endpoint in each direction that the generator names; an empty list if it names none."""
    return [_shifted(neighbourhood, origin, shift, name) for name, shift in neighbourhood.directions.items()]


def draw_prompts(seed: int) -> list[str]:
    """Return the published recipe's prompts: random characters with style words, the same for the same seed."""
    draws = random.Random(seed)
    characters = string.ascii_lowercase + string.digits
    return [
        "".join(draws.choices(characters, k=draws.randint(3, 12))) + " " + " ".join(draws.sample(STYLE_WORDS, 2))
        for _ in range(NUM_PAPER_PROMPTS)
    ]


def paper_endpoints(
    neighbourhood: PromptNeighbourhood, origin: Origin, count: int, prompts: Sequence[str], seed: int
) -> list[Endpoint]:
    """Return the candidates of arXiv 2308.12059's choice among images.

    `count` of the prompts are chosen as a max-min diverse subset by the cosine of their last token row. (The published
    rule maximises the largest distance instead of the smallest, so that three of five may be similar.) The current
    embedding moves toward each by a weight of 0.28 / (1 - cosine), then by the same rule toward the user's prompt with
    style words. The first row, which the model keeps frozen, does not move.
    """
    draws = random.Random(seed)
    rows = torch.stack([_last_row(neighbourhood.embed(prompt)) for prompt in prompts])
    first = draws.randrange(len(prompts))
    chosen = max_min_subset(normalize(rows, dim=1), min(count, len(prompts)), required=first)
    home = neighbourhood.embed(f"{neighbourhood.template.text} {' '.join(draws.sample(STYLE_WORDS, 2))}")
    found = []
    for index in chosen:
        toward_prompt = _toward_by_angle(neighbourhood, origin.embedding, neighbourhood.embed(prompts[index]))
        embedding = _toward_by_angle(neighbourhood, toward_prompt, home)
        found.append(Endpoint(embedding, prompts[index], origin.words, origin.point))
    return found


def _shifted(neighbourhood: PromptNeighbourhood, origin: Origin, shift: Tensor, label: str) -> Endpoint:
    moved = neighbourhood.moved(origin.embedding, shift)
    point = origin.point + neighbourhood.coordinates(moved) - neighbourhood.coordinates(origin.embedding)
    return Endpoint(moved, label, origin.words, point)


def _ordered(embedding: Embedding) -> list[tuple[str, Tensor]]:
    """Return the floating tensors sorted by name: files do not keep another order."""
    return sorted(embedding.floating.items())


def _flatten(embedding: Embedding) -> Tensor:
    """Return the floating tensors as one vector (n), float64."""
    return torch.cat([tensor.detach().double().flatten() for _, tensor in _ordered(embedding)]).cpu()


def _flatten_move(embedding: Embedding, move: Mapping[str, Tensor]) -> Tensor:
    """Return a move of some floating tensors as a shift (n) of all of them, float64."""
    return torch.cat(
        [move.get(name, torch.zeros_like(tensor)).double().flatten() for name, tensor in _ordered(embedding)]
    )


def _pool(embedding: Embedding) -> Tensor:
    """Return the floating tensors, token rows averaged, as one vector, float64."""
    parts = [tensor.detach().double() for _, tensor in _ordered(embedding)]
    return torch.cat([part.mean(dim=0) if part.ndim == 2 else part.flatten() for part in parts]).cpu()


def _last_row(embedding: Embedding) -> Tensor:
    """Return the last token row (width) of the prompt's tensor, float64."""
    floating = embedding.floating
    tensor = floating["prompt"] if "prompt" in floating else _ordered(embedding)[0][1]
    return tensor.detach().double().reshape(-1, tensor.shape[-1])[-1].cpu()


def _toward_by_angle(neighbourhood: PromptNeighbourhood, current: Embedding, goal: Embedding) -> Embedding:
    """Return `current` moved toward `goal` by the published weight."""
    cosine = float(cosine_similarity(_last_row(current), _last_row(goal), dim=0))
    return neighbourhood.toward(current, goal, min(ANGLE_WEIGHT / max(1 - cosine, 1e-6), 1.0))
