"""Generator protocol, through which tools use a model: embedding and seeds in, images out, differentiable."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import ParamSpec, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.gradient_modes import Gradient
from thalweg.prompts import read_prompt

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
class ChunkedGenerator(Generator, Protocol):
    """A generator whose embeddings of long prompts have more rows than those of short ones."""

    def embed_like(self, prompt: str, embedding: Embedding) -> Embedding:
        """Return the embedding of `prompt` with as many rows as `embedding`."""
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


@runtime_checkable
class ThreadedGenerator(Generator, Protocol):
    """A generator that knows how many threads of the CPU suit its images, and renders several of them side by side."""

    @property
    def images_at_once(self) -> int:
        """Number of renderings that `render_each` makes side by side."""
        ...

    def threads(self) -> AbstractContextManager[None]:
        """Return a context that computes with as many threads as suit the model, and sets the former number back."""
        ...

    def render_each(self, points: Sequence[tuple[Embedding, Sequence[int]]]) -> list[Tensor]:
        """Return the images (S, 3, H, W) of each embedding and its seeds, as `render` does, without a gradient."""
        ...


def with_suitable_threads(tool: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a tool, whose first argument is a generator, compute with the threads that suit it."""

    @wraps(tool)
    def compute(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with suitable_threads(arguments[0]):
            return tool(*arguments, **named)

    return compute


def suitable_threads(generator: object) -> AbstractContextManager[None]:
    """Return the generator's context of threads; one without effect where it has none."""
    return generator.threads() if isinstance(generator, ThreadedGenerator) else nullcontext()


def render_all(generator: Generator, embeddings: Sequence[Embedding], seeds: Sequence[int]) -> Iterator[Tensor]:
    """Yield the images (S, 3, H, W) of each embedding on the same seeds, as `render_points` does."""
    return render_points(generator, [(embedding, seeds) for embedding in embeddings])


def render_points(generator: Generator, points: Sequence[tuple[Embedding, Sequence[int]]]) -> Iterator[Tensor]:
    """Yield the images (S, 3, H, W) of each embedding and its seeds, without a gradient.

    Groups of points are rendered side by side where the generator can; the images of a group come together.
    """
    at_once = generator.images_at_once if isinstance(generator, ThreadedGenerator) else 1
    if not isinstance(generator, ThreadedGenerator) or at_once == 1:
        for embedding, seeds in points:
            with torch.no_grad():
                images = generator.render(embedding, seeds)
            yield images
        return
    for first in range(0, len(points), at_once):
        yield from generator.render_each(points[first : first + at_once])


def embed_like(prompt: str, embedding: Embedding, generator: Generator) -> Embedding:
    """Return the embedding of a prompt, of as many rows as `embedding` if their number varies."""
    if isinstance(generator, ChunkedGenerator):
        return generator.embed_like(prompt, embedding)
    return generator.embed(prompt)


def read_ends(start: str, end: str, generator: Generator) -> tuple[Embedding, Embedding]:
    """Return the embeddings of the two ends of a path; a shorter prompt gets as many rows as the longer one.

    Raises:
        UsageError: as `read_embedding`.
    """
    first, last = (read_embedding(text, generator) for text in (start, end))
    sizes = [sum(tensor.numel() for tensor in each.tensors.values()) for each in (first, last)]
    if sizes[0] < sizes[1] and not isinstance(read_prompt(start), Path):
        first = embed_like(start, last, generator)
    elif sizes[1] < sizes[0] and not isinstance(read_prompt(end), Path):
        last = embed_like(end, first, generator)
    return first, last


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
