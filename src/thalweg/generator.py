"""Generator protocol, through which tools use a model: embedding and seeds in, images out, differentiable."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.gradient_modes import Gradient
from thalweg.prompts import read_prompt


@runtime_checkable
class Generator(Protocol):
    """A continuous function from an embedding to images."""

    @property
    def model(self) -> ModelIdentity:
        """The model's name and hash."""
        ...

    def embed(self, prompt: str) -> Embedding:
        """Return the embedding of `prompt`."""
        ...

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Return images (S, 3, H, W) in 0..1, one per seed, differentiable in every floating tensor of `embedding`.

        The same seed gives the same image regardless of the other seeds.

        Raises:
            UsageError: an embedding of another model, or invalid seeds.
            NotFiniteError: an image holds NaN or infinity.
        """
        ...

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return boolean masks by name that broadcast to the floating tensors: True where entries are trainable.

        Other entries are frozen: for Stable Diffusion row 0, the start token.
        """
        ...


@runtime_checkable
class ChainGenerator(Generator, Protocol):
    """A generator that denoises start noise in steps, and exposes the latents between the steps."""

    @property
    def steps(self) -> int:
        """Number of denoising steps of a whole chain."""
        ...

    @property
    def calls(self) -> int:
        """Denoiser evaluations so far, one per image, including those repeated in backward passes."""
        ...

    @property
    def gradient(self) -> Gradient:
        """Gradient mode; a tool that computes gradients replaces "auto" by the mode that it measures to be best."""
        ...

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Return the start noise (S, C, h, w) of each seed, unit variance."""
        ...

    def latents(self, embedding: Embedding, noise: Tensor, steps: int | None = None) -> Tensor:
        """Return the latents (S, C, h, w) after the first `steps` denoising steps; None: after the whole chain."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (S, 3, H, W) in 0..1 from latents (S, C, h, w)."""
        ...

    def with_gradient(self, gradient: Gradient) -> Self:
        """Return the same model with another gradient mode; it shares weights and the count of calls."""
        ...


@runtime_checkable
class TokenGenerator(Generator, Protocol):
    """A generator whose text encoder takes token vectors, as a textual inversion learns them."""

    def token_vector(self, word: str) -> Tensor:
        """Return the mean input vector (width) of the tokens of `word`."""
        ...

    def embed_with(self, prompt: str, placeholder: str, vector: Tensor) -> Embedding:
        """Embed `prompt` with `vector` (width) at each `placeholder` in it; differentiable in `vector`.

        Raises:
            UsageError: the prompt does not hold the placeholder.
        """
        ...


@runtime_checkable
class DirectedGenerator(Generator, Protocol):
    """A generator that navigates without text: it names directions to move along."""

    def directions(self, embedding: Embedding) -> Mapping[str, Mapping[str, Tensor]]:
        """Return, by name, moves of floating tensors, of their shapes; tensors that are left out do not move."""
        ...


@runtime_checkable
class InterruptibleGenerator(Generator, Protocol):
    """A generator whose work can be interrupted."""

    def interruptible(self, check: Callable[[], None]) -> Self:
        """Return the same model, which calls `check` at least once within the time of one image.

        An exception of `check` ends the work.
        """
        ...


def read_embedding(text: str, generator: Generator) -> Embedding:
    """Return the embedding in a file, or of a prompt.

    Args:
        text: a prompt, or the name of an embedding file.
        generator: the model.

    Raises:
        UsageError: as `thalweg.prompts.read_prompt` and `Embedding.load`.
    """
    found = read_prompt(text)
    if isinstance(found, Path):
        return Embedding.load(found, generator.model).to("cpu")
    return generator.embed(found)
