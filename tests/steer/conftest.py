"""A small analytic generator for the tools' tests: a smooth, seeded function from an embedding to images."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.gradient_modes import Gradient
from thalweg.seeds import check_seeds


class ToyGenerator:
    """Four denoising steps that pull start noise toward an image painted by a fixed random decoder."""

    model = ModelIdentity("toy", "0" * 64)
    steps = 4
    tokens, width, size = 5, 6, 16
    gradient: Gradient = "full"

    def __init__(self) -> None:
        self.calls = 0
        random = torch.Generator().manual_seed(0)
        self.paint = torch.randn(self.tokens * self.width, 3 * 4 * 4, generator=random) / 4
        self.words = torch.randn(256, self.width, generator=random)

    def embed(self, prompt: str) -> Embedding:
        rows = [torch.ones(self.width)] + [self.words[hash_word(word)] for word in prompt.split()[: self.tokens - 1]]
        rows += [torch.zeros(self.width)] * (self.tokens - len(rows))
        tensors = {"prompt": torch.stack(rows), "negative": torch.zeros(self.tokens, self.width)}
        return Embedding(tensors, Lineage(self.model, prompt))

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        rows = torch.arange(self.tokens)[:, None] > 0
        return {"prompt": rows, "negative": rows}

    def noise(self, seeds: Sequence[int]) -> Tensor:
        draws = [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in check_seeds(seeds)]
        return torch.stack(draws)

    def latents(self, embedding: Embedding, noise: Tensor, steps: int | None = None) -> Tensor:
        embedding.check_model(self.model)
        both = embedding.tensors["prompt"] - 0.5 * embedding.tensors["negative"]
        aim = torch.tanh(both.reshape(-1) @ self.paint).reshape(1, 3, 4, 4)
        latents = noise
        for _ in range(self.steps if steps is None else steps):
            self.calls += len(noise)
            latents = latents + 0.3 * (aim + 0.2 * torch.sin(3 * latents) - latents)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents, size=(self.size, self.size), mode="bilinear").sigmoid()

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        return self.decode(self.latents(embedding, self.noise(seeds)))

    def with_gradient(self, gradient: Gradient) -> "ToyGenerator":
        return self

    def token_vector(self, word: str) -> Tensor:
        return self.words[hash_word(word)]

    def embed_with(self, prompt: str, placeholder: str, vector: Tensor) -> Embedding:
        words = prompt.split()[: self.tokens - 1]
        start = self.embed(prompt)
        rows = list(start.tensors["prompt"])
        for position, word in enumerate(words):
            if word == placeholder:
                rows[position + 1] = vector
        return Embedding({**start.tensors, "prompt": torch.stack(rows)}, start.lineage)


def hash_word(word: str) -> int:
    return sum(word.encode()) % 256


@pytest.fixture
def toy() -> ToyGenerator:
    return ToyGenerator()


@pytest.fixture(scope="session")
def toy_class() -> type[ToyGenerator]:
    """The toy itself, for fixtures that outlive a test."""
    return ToyGenerator
