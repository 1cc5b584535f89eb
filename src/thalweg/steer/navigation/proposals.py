"""Where a navigation looks for candidates: near prompts, the embeddings' own spread, random directions, the paper's."""

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.generator import DirectedGenerator, Generator
from thalweg.notices import redirect_warnings
from thalweg.steer.image_features import max_min_subset
from thalweg.steer.interpolation import between
from thalweg.steer.navigation.prompt_edits import STYLE_WORDS, PromptTemplate
from thalweg.steer.path_methods import Method

COMBINATIONS = 150
"""Near prompts with more than one word changed, a round."""
MOST_CHANGES = 3
"""Words that a near prompt may change once something was chosen: much of what an image shows is then wanted."""
MIXTURES = 16
"""Directions drawn from the embeddings' own spread, a round."""
ISOTROPIC = 4
"""Directions in which every value moves for itself, a round."""
DIMENSIONS = 64
"""Most that the subspace of preferences may have."""
FLOOR = 0.05
"""Principal components shorter than this share of the longest are shrunk; longer ones count alike."""
DRAWN_PROMPTS = 500
"""Published: prompts of random characters to choose far-apart candidates from."""
ANGLE_WEIGHT = 0.28
"""Published: a move's weight is this over (1 - cosine), clipped to 1, so that its angle is about constant."""


@dataclass(frozen=True)
class Endpoint:
    """Somewhere to go from the current embedding.

    Attributes:
        embedding: what lies there.
        label: what it is, in words.
        words: the prompt's words by group there.
        point: where it lies in the subspace that preferences live in (k).
    """

    embedding: Embedding
    label: str
    words: Mapping[str, str]
    point: Tensor


@dataclass(frozen=True)
class ProposalPlan:
    """An endpoint before its prompt is encoded, which most never need.

    Attributes:
        wording: the near prompt.
        point: where it lies in the subspace.
    """

    wording: PromptTemplate
    point: Tensor


class PromptNeighbourhood:
    """What lies around a prompt: near prompts, and the subspace that they span.

    Where the generator names directions of its own, moves along these stand for near prompts, and there are no words.

    Args:
        generator: the model; only its `embed` and `movable`, and its `directions` where it has any, are used.
        wording: the prompt that the navigation starts from.
    """

    def __init__(self, generator: Generator, wording: PromptTemplate) -> None:
        self._generator = generator
        self._known: dict[str, Embedding] = {}
        prompt = self.embed(wording.text)
        self.directions: dict[str, Tensor] = {}
        if isinstance(generator, DirectedGenerator):
            prompt.check_finite()
            moves = generator.directions(prompt)
            self.directions = {name: _flat_move(prompt, tensors) for name, tensors in moves.items()}
            wording = PromptTemplate(wording.text, groups=())
            near = [self.moved(prompt, shift) for shift in self.directions.values()]
        else:
            near = [self.embed(variation.text) for variation in wording.variations()]
        self.wording = wording
        shifts = [_flat(one) - _flat(prompt) for one in near]
        self.shifts = torch.stack([shift for shift in shifts if bool(shift.any())] or [torch.zeros_like(_flat(prompt))])
        self.spread = self.shifts.square().mean(dim=0).sqrt()
        self._centre = _pooled(prompt)
        pooled = torch.stack([_pooled(one) for one in near]) - _pooled(prompt)
        _, lengths, axes = torch.linalg.svd(pooled, full_matrices=False)
        count = min(DIMENSIONS, int((lengths > 1e-6 * lengths.max()).sum()))
        floor = FLOOR * float(lengths.max())
        self._axes = axes[:count] / (lengths[:count].square() + floor**2).sqrt()[:, None]
        self._unit = float((pooled @ self._axes.T).norm(dim=1).median().clamp(min=1e-9))
        self._of_words = {
            (group.name, variation.words.get(group.name)): self.coordinates(self.embed(variation.text))
            for group in wording.groups
            for variation in wording.variations(group)
        }

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of `prompt`, encoded once."""
        if prompt not in self._known:
            with torch.no_grad(), redirect_warnings(lambda warning: None):  # nobody wrote these prompts
                self._known[prompt] = self._generator.embed(prompt)
        return self._known[prompt]

    def coordinates(self, embedding: Embedding) -> Tensor:
        """Return where an embedding lies in the subspace, (k); near prompts lie about 1 from their prompt.

        The subspace is that of the near prompts' principal components, made equally long, over the mean of the token
        rows: a word says the same wherever it stands, and words that a model embeds far out count no more than others.
        """
        return (_pooled(embedding) - self._centre) @ self._axes.T / self._unit

    def point(self, words: Mapping[str, str]) -> Tensor:
        """Return where a prompt with `words` lies in the subspace, (k): the sum of what each of them does alone."""
        had = self.wording.words
        total = torch.zeros(len(self._axes), dtype=torch.float64)
        for group in self.wording.groups:
            word = words.get(group.name)
            if word != had.get(group.name):
                total += self._of_words[group.name, word]
        return total

    def toward(self, current: Embedding, goal: Embedding, weight: float, method: Method = "slerp") -> Embedding:
        """Return the embedding at `weight` on the way from `current` (0) to `goal` (1); what the model holds stays."""
        tensors = between(current, goal, weight, method)
        masks = self._generator.trainable_masks(current)
        kept = {name: torch.where(masks[name], tensor, current.tensors[name]) for name, tensor in tensors.items()}
        return current.derive(kept, "navigate", goal, weight=weight, method=method)

    def moved(self, embedding: Embedding, shift: Tensor) -> Embedding:
        """Return `embedding` moved by a flat `shift`; what the model holds stays."""
        masks = self._generator.trainable_masks(embedding)
        tensors, place = {}, 0
        for name, tensor in _ordered(embedding):
            part = shift[place : place + tensor.numel()].reshape(tensor.shape)
            place += tensor.numel()
            tensors[name] = torch.where(masks[name], tensor + part.to(tensor), tensor)
        return embedding.derive(tensors, "navigate")


def _ordered(embedding: Embedding) -> list[tuple[str, Tensor]]:
    """The floating tensors in the order of their names: files do not keep another."""
    return sorted(embedding.floating.items())


def _flat(embedding: Embedding) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for _, tensor in _ordered(embedding)]).cpu()


def _flat_move(embedding: Embedding, move: Mapping[str, Tensor]) -> Tensor:
    """A move of some tensors as a flat shift of all."""
    return torch.cat(
        [move.get(name, torch.zeros_like(tensor)).double().flatten() for name, tensor in _ordered(embedding)]
    )


def _pooled(embedding: Embedding) -> Tensor:
    """All floating tensors, token rows averaged, as one vector."""
    parts = [tensor.detach().double() for _, tensor in _ordered(embedding)]
    return torch.cat([part.mean(dim=0) if part.ndim == 2 else part.flatten() for part in parts]).cpu()


def near_plans(around: PromptNeighbourhood, words: Mapping[str, str], most: int, seed: int) -> list[ProposalPlan]:
    """Return near prompts of the prompt with `words`: every change of one word, and combinations of up to `most`."""
    wording = PromptTemplate(around.wording.head, words, around.wording.groups)
    draws = random.Random(seed)
    near = wording.variations()
    most = min(most, len(wording.groups))
    for _ in range(COMBINATIONS if most > 1 else 0):
        groups = draws.sample(wording.groups, draws.randint(2, most))
        near.append(wording.put({group.name: draws.choice(group.words) for group in groups}))
    distinct = {one.text: one for one in near if one.text != wording.text}
    return [ProposalPlan(one, around.point(one.words)) for one in distinct.values()]


def planned(
    around: PromptNeighbourhood, current: Embedding, words: Mapping[str, str], point: Tensor, plan: ProposalPlan
) -> Endpoint:
    """Encode a near prompt, and move the current embedding, whose prompt has `words`, by what tells the two apart.

    What choices between directions without words have added to the current embedding so far is kept.
    """
    near, prompt = plan.wording, PromptTemplate(around.wording.head, words, around.wording.groups)
    shift = _flat(around.embed(near.text)) - _flat(around.embed(prompt.text))
    there = point + plan.point - around.point(words)
    return Endpoint(around.moved(current, shift), near.text, near.words, there)


def spread_endpoints(
    around: PromptNeighbourhood, current: Embedding, words: Mapping[str, str], point: Tensor, seed: int
) -> list[Endpoint]:
    """Return endpoints in directions mixed from those of the near prompts: the embeddings' own spread."""
    generator = torch.Generator().manual_seed(seed)
    size = float(around.shifts.norm(dim=1).median())
    found = []
    for index in range(MIXTURES):
        mixture = torch.randn(len(around.shifts), generator=generator, dtype=torch.float64) @ around.shifts
        shift = mixture * (size / mixture.norm().clamp(min=1e-12))
        found.append(_shifted(around, current, shift, f"mixture {index + 1}", words, point))
    return found


def random_endpoints(
    around: PromptNeighbourhood, current: Embedding, words: Mapping[str, str], point: Tensor, count: int, seed: int
) -> list[Endpoint]:
    """Return `count` endpoints in random directions, each value moving at the scale at which near prompts move it."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, len(around.spread), generator=generator, dtype=torch.float64) * around.spread
    return [_shifted(around, current, shift, f"random {index + 1}", words, point) for index, shift in enumerate(draws)]


def directed_endpoints(
    around: PromptNeighbourhood, current: Embedding, words: Mapping[str, str], point: Tensor
) -> list[Endpoint]:
    """Return an endpoint in each direction that the generator names; none where it names none."""
    return [_shifted(around, current, shift, name, words, point) for name, shift in around.directions.items()]


def _shifted(
    around: PromptNeighbourhood, current: Embedding, shift: Tensor, label: str, words: Mapping[str, str], point: Tensor
) -> Endpoint:
    moved = around.moved(current, shift)
    return Endpoint(moved, label, words, point + around.coordinates(moved) - around.coordinates(current))


def drawn_prompts(seed: int) -> list[str]:
    """Return the published recipe's prompts: random characters with style words, the same ones for one seed."""
    draws = random.Random(seed)
    characters = string.ascii_lowercase + string.digits
    return [
        "".join(draws.choices(characters, k=draws.randint(3, 12))) + " " + " ".join(draws.sample(STYLE_WORDS, 2))
        for _ in range(DRAWN_PROMPTS)
    ]


def paper_endpoints(
    around: PromptNeighbourhood,
    current: Embedding,
    words: Mapping[str, str],
    point: Tensor,
    count: int,
    prompts: Sequence[str],
    seed: int,
) -> list[Endpoint]:
    """Return the candidates of arXiv 2308.12059's choice among pictures.

    Of `prompts`, `count` are taken that are far apart by the cosine of their last token row. The published rule
    maximises the largest distance instead of the smallest, so that three of five may be alike; here it is mended. The
    current embedding moves toward each by a weight of 0.28 / (1 - cosine), then by the same rule toward the user's
    prompt with style words. The first row, which the model holds, stays.
    """
    draws = random.Random(seed)
    rows = torch.stack([_last_row(around.embed(prompt)) for prompt in prompts])
    first = draws.randrange(len(prompts))
    taken = max_min_subset(torch.nn.functional.normalize(rows, dim=1), min(count, len(prompts)), kept=first)
    home = around.embed(f"{around.wording.text} {' '.join(draws.sample(STYLE_WORDS, 2))}")
    return [
        Endpoint(
            _angled(around, _angled(around, current, around.embed(prompts[index])), home), prompts[index], words, point
        )
        for index in taken
    ]


def _last_row(embedding: Embedding) -> Tensor:
    """The last token row of the prompt's tensor."""
    floating = embedding.floating
    tensor = floating["prompt"] if "prompt" in floating else _ordered(embedding)[0][1]
    return tensor.detach().double().reshape(-1, tensor.shape[-1])[-1].cpu()


def _angled(around: PromptNeighbourhood, current: Embedding, goal: Embedding) -> Embedding:
    """Move toward `goal` by the published weight."""
    cosine = float(torch.nn.functional.cosine_similarity(_last_row(current), _last_row(goal), dim=0))
    return around.toward(current, goal, min(ANGLE_WEIGHT / max(1 - cosine, 1e-6), 1.0))
