"""DiffusionGenerator: a diffusers pipeline behind the generator protocol, with exact gradients."""

import bisect
import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.pipelines.image_encoding import EncodesImages, read_start
from thalweg.diffusion.pipelines.registry import PIPELINE_ADAPTERS
from thalweg.diffusion.pipelines.stable_diffusion import StableDiffusion
from thalweg.diffusion.render_groups import differentiable_groups
from thalweg.diffusion.sampling import Schedule, StartImage, out_of_memory, sample
from thalweg.diffusion.schedulers import check_kind, make_scheduler
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import NotFiniteError, ThalwegError, UsageError
from thalweg.gradient_modes import Gradient
from thalweg.prompts import check_prompt
from thalweg.seeds import check_seeds
from thalweg.threads import available_cores, one_thread, side_by_side

MAX_RENDERED_BYTES = 4 * 2**30
"""Largest memory of the images of one embedding where rendering can be interrupted."""
SMALL_DENOISER = 50_000_000
"""Largest number of weights of a denoiser whose operations are too small to be shared by several threads."""
GROUP = 4
"""Images that a small denoiser makes in one call on a CPU; groups of them are rendered side by side."""


class DiffusionGenerator:
    """Generator of a diffusers pipeline of a supported class; its weights are frozen.

    Attributes:
        adapter: the pipeline with the conditioning and denoising of its class.
        settings: steps, guidance, gradient mode, image size and scheduler.
    """

    def __init__(self, pipeline: Any, name: str, **settings: Any) -> None:
        """Freeze and wrap `pipeline` under the model's `name`; `settings` replace the adapter's defaults.

        Raises:
            UsageError: a pipeline of an unsupported class, or settings that it does not take.
        """
        class_name = type(pipeline).__name__
        if class_name not in PIPELINE_ADAPTERS:
            raise UsageError(f"{name}: expected a pipeline of {', '.join(PIPELINE_ADAPTERS)}; got {class_name}")
        self.adapter: PipelineAdapter = PIPELINE_ADAPTERS[class_name](pipeline, name)
        self.settings = self.adapter.defaults.changed(**settings)
        self._interrupt: Callable[[], None] | None = None
        self._check(settings)

    def with_settings(self, **settings: Any) -> Self:
        """Return the same model with other settings; it shares weights and the count of calls.

        Raises:
            UsageError: settings that the model does not take.
        """
        other = copy.copy(self)
        other.__dict__.pop("schedule", None)
        if {"image", "image_mask", "strength", "width", "height"} & set(settings):
            other.__dict__.pop("start_image", None)
        other.settings = self.settings.changed(**settings)
        other._check(settings)
        return other

    def with_gradient(self, gradient: Gradient) -> Self:
        """Return the same model with another gradient mode; it shares weights and the count of calls."""
        return self.with_settings(gradient=gradient)

    def interruptible(self, check: Callable[[], None]) -> Self:
        """Return the same model, which calls `check` before each image and each denoiser call.

        An exception that `check` raises ends the rendering. Images without a gradient are rendered one at a time (those
        of a small model in groups), so that `check` is called within the time of one image for any number of seeds.
        """
        other = copy.copy(self)
        other._interrupt = check
        return other

    def _check_interrupt(self) -> None:
        if self._interrupt is not None:
            self._interrupt()

    def _check(self, given: Mapping[str, Any]) -> None:
        """Raise a UsageError where the model does not take its settings, or would ignore a given one."""
        guidance = given.get("guidance_scale", 0)
        if guidance > 1 and not self.adapter.takes_guidance:
            raise UsageError(
                f"expected no guidance_scale above 1 for {self.adapter.name}, which is sampled without guidance; "
                f"got {guidance:g}"
            )
        self.adapter.check_settings(self.settings)
        self.adapter.latent_shape(self.settings)
        _ = self.schedule.calls, self.start_image

    @cached_property
    def schedule(self) -> Schedule:
        """Scheduler and number of steps of a chain."""
        own, scheduler = self.adapter.pipeline.scheduler, self.settings.scheduler
        if scheduler is None:
            scheduler = own
        elif isinstance(scheduler, str):
            scheduler = make_scheduler(scheduler, own)
        else:
            check_kind(scheduler, own)
        settings, adapter, first = self.settings, self.adapter, 0
        if settings.image is not None and isinstance(adapter, EncodesImages):
            first = adapter.first_step(settings)
        if first == settings.steps:
            raise UsageError(
                f"expected a `strength` that leaves a step of {settings.steps}, got {settings.image_strength:g}; set "
                "more `steps` or more strength"
            )
        arguments = adapter.schedule_arguments(scheduler, settings)
        return Schedule(scheduler, settings.steps, settings.eta, arguments, adapter.device, first)

    @cached_property
    def start_image(self) -> StartImage | None:
        """Image that chains start from; None: they start from noise alone."""
        if self.settings.image is None:
            return None
        with out_of_memory(1):
            latents, mask = read_start(self.adapter, self.settings)
        return StartImage(latents, mask, mask is not None and self.settings.image_strength == 1)

    @property
    def model(self) -> ModelIdentity:
        """Name of the model and hashes of the weights of its text encoders and its denoiser, adapters included."""
        return self.adapter.model

    @property
    def steps(self) -> int:
        """Denoiser calls of a whole chain: the settings' steps, nearly twice as many for second-order schedulers."""
        return self.schedule.calls

    @property
    def gradient(self) -> Gradient:
        """Gradient mode of the settings."""
        return self.settings.gradient

    @property
    def calls(self) -> int:
        """Images that went through the denoiser so far, recomputation in backward passes included.

        An image with guidance counts once, though the denoiser takes it with two conditions.
        """
        return self.adapter.calls

    def embed(self, prompt: str, negative: str | None = None) -> Embedding:
        """Return the embedding of `prompt`, guided away from `negative`; None: the settings' negative prompt.

        Its tensors are float32 (float64 for a model in float64) without a batch dimension: `prompt` (tokens, width),
        `negative` of the same shape; SDXL and SD3 add `pooled` and `negative_pooled` (width); FLUX has `prompt` and
        `pooled`; models that mask padding add `mask` and `negative_mask` (tokens), integers.

        Warns (PromptCut, UnknownWords, PromptSyntax) of parts of the two texts that the model does not see.

        Raises:
            UsageError: a text that no model takes, see `thalweg.prompts.check_prompt`.
            NotFiniteError: a text encoder gives NaN or infinity.
        """
        self._check_interrupt()
        negative = self.settings.negative if negative is None else negative
        for text in (prompt, negative):
            self.settings.check_text(text)
        tensors = self.adapter.embed(prompt, negative, self.settings)
        return self._embedding(prompt, negative, tensors)

    def embed_like(self, prompt: str, embedding: Embedding) -> Embedding:
        """Return the embedding of `prompt` with as many chunks as `embedding`, which was made of a long prompt.

        Raises:
            UsageError: as `embed`.
            NotFiniteError: as `embed`.
        """
        self._check_interrupt()
        self.settings.check_text(prompt)
        self._check_tensors(embedding)
        chunks = max(1, len(embedding.tensors["prompt"]) // self.adapter.tokens)
        negative = self.settings.negative
        return self._embedding(prompt, negative, self.adapter.embed(prompt, negative, self.settings, chunks))

    def _embedding(self, prompt: str, negative: str, tensors: Mapping[str, Tensor]) -> Embedding:
        """Return tensors with their provenance."""
        given = {name: getattr(self.settings, name) for name in ("clip_skip", "prompt_syntax", "long_prompts")}
        parameters = {name: value for name, value in {"negative": negative, **given}.items() if value}
        embedding = Embedding(tensors, Lineage(self.model, prompt, parameters=parameters))
        embedding.check_finite()
        return embedding

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return what a tool may move: all but the start token's row, the same for every prompt, and padding."""
        self._check_tensors(embedding)
        masks = self.adapter.trainable_masks(embedding.tensors, self.settings)
        return {name: mask.to(embedding.tensors[name].device) for name, mask in masks.items()}

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Return the start noise (S, C, h, w) of each seed, the same on every device and in every precision."""
        shape = self.adapter.latent_shape(self.settings)
        draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in check_seeds(seeds)]
        return torch.stack(draws).to(self.adapter.device, self.adapter.precision)

    def latents(self, embedding: Embedding, noise: Tensor, steps: int | None = None) -> Tensor:
        """Return the latents (S, C, h, w) after the first `steps` denoiser calls; None: after the whole chain.

        Raises:
            UsageError: an embedding of another model or without a tensor this one needs, or too many steps.
            NotFiniteError: the embedding or the latents hold NaN or infinity.
            ThalwegError: out of memory.
        """
        names = [f"image {index + 1}" for index in range(len(noise))]
        with self.threads():
            return self._latents(self._conditions(embedding), noise, steps, names)

    def _conditions(self, embedding: Embedding) -> list[Tensor]:
        """Return an embedding's tensors as the denoiser takes them, in the order of the adapter's names."""
        self._check_embedding(embedding)
        adapter = self.adapter
        tensors = [embedding.tensors[name].to(adapter.device) for name in adapter.names(self.settings)]
        return [each.to(adapter.precision) if each.is_floating_point() else each for each in tensors]

    @cached_property
    def _is_small(self) -> bool:
        """True where a call of the denoiser is too little work for several threads."""
        network = self.adapter.network
        return network.device.type == "cpu" and sum(each.numel() for each in network.parameters()) <= SMALL_DENOISER

    @property
    def images_at_once(self) -> int:
        """Number of renderings that `render_each` makes side by side: 1, except for a small model."""
        return available_cores() if self._is_small else 1

    def threads(self) -> AbstractContextManager[None]:
        """Return a context that computes with one thread for a small model, with torch's number for others."""
        return one_thread() if self._is_small else nullcontext()

    def _latents(self, tensors: Sequence[Tensor], noise: Tensor, steps: int | None, names: Sequence[str]) -> Tensor:
        """Return the latents under conditions; `names` are the names of the images in messages."""
        if steps is not None and not 0 <= steps <= self.steps:
            raise UsageError(f"expected steps in 0..{self.steps}, got {steps}")
        adapter, settings, tensor_names = self.adapter, self.settings, self.adapter.names(self.settings)

        def denoise(latents: Tensor, timestep: Tensor, *tensors: Tensor) -> Tensor:
            self._check_interrupt()
            return adapter.denoise(settings, latents, timestep, dict(zip(tensor_names, tensors, strict=True)))

        noise = noise.to(adapter.device, adapter.precision)

        def latents_after(calls: int | None, start: Tensor, gradient: Gradient) -> Tensor:
            return sample(denoise, self.schedule, start, tensors, gradient, settings.last_k, calls, self.start_image)

        with out_of_memory(len(noise)):
            latents = latents_after(steps, noise, settings.gradient)
            finite = latents.detach().isfinite().flatten(1).all(1)
            if not bool(finite.all()):
                index = int((~finite).nonzero()[0])
                first = bisect.bisect_left(
                    range(1, self.steps),
                    True,
                    key=lambda calls: not bool(latents_after(calls, noise[index : index + 1], None).isfinite().all()),
                )
                raise NotFiniteError(self._not_finite(names[index], first + 1))
        return latents

    def _not_finite(self, image: str, step: int) -> str:
        """Return the message for NaN or infinity in an image from a step on."""
        settings, precision = self.settings, str(self.adapter.network.dtype).removeprefix("torch.")
        return (
            f"{image}: NaN or infinity from denoising step {step} of {self.steps} on "
            f"({type(self.schedule.scheduler).__name__}, guidance {settings.guidance_scale:g}, {precision}); choose "
            "another scheduler, less guidance or float32, or check the model's weights"
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (S, 3, H, W) in 0..1 from latents (S, C, h, w).

        Raises:
            NotFiniteError: an image holds NaN or infinity.
            ThalwegError: out of memory.
        """
        self._check_interrupt()
        recorded = torch.is_grad_enabled() and self.settings.gradient is not None
        with self.threads(), torch.set_grad_enabled(recorded), out_of_memory(len(latents)):
            return self.adapter.decode(latents)

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Return images (S, 3, H, W) in 0..1, one per seed; the settings name the gradient mode.

        A small model on a CPU renders groups of `GROUP` seeds, several at a time on several cores; the images do not
        depend on the number of cores.

        Raises:
            UsageError: seeds negative or repeated, or an embedding of another model.
            NotFiniteError: an image holds NaN or infinity; the seeds are named.
            ThalwegError: out of memory.
        """
        seeds = check_seeds(seeds)
        tensors = self._conditions(embedding)
        moves = any(tensor.requires_grad for tensor in tensors)
        records = moves and torch.is_grad_enabled() and self.settings.gradient is not None
        if self._is_small:
            return self._render_groups(tensors, seeds, records)
        if self._interrupt is None or records:
            return self._render(tensors, seeds)
        images: list[Tensor] = []
        for seed in seeds:
            images.append(self._render(tensors, [seed]))
            self._check_memory(images[0].nbytes, len(seeds))
        return torch.cat(images)

    def render_each(self, points: Sequence[tuple[Embedding, Sequence[int]]]) -> list[Tensor]:
        """Return the images (S, 3, H, W) of each embedding and its seeds, as `render` does, without a gradient.

        They are the same to the last bit whatever the other points are. A small model renders several points at a time.

        Raises:
            UsageError: as `render`.
            NotFiniteError: as `render`.
            ThalwegError: as `render`.
        """

        def render_point(point: tuple[Embedding, Sequence[int]]) -> Tensor:
            return self.render(*point)

        with torch.no_grad():
            return side_by_side(render_point, points) if self._is_small else [render_point(point) for point in points]

    def _render_groups(self, tensors: Sequence[Tensor], seeds: Sequence[int], records: bool) -> Tensor:
        """Render groups of seeds side by side; with a gradient where `records`."""
        groups = [seeds[first : first + GROUP] for first in range(0, len(seeds), GROUP)]
        if records:
            return differentiable_groups(self._render, tensors, groups)
        height, width = self.adapter.latent_shape(self.settings)[1:]
        self._check_memory(12 * height * width * self.adapter.latent_pixels**2, len(seeds))
        with torch.no_grad():
            return torch.cat(side_by_side(lambda group: self._render(tensors, group), groups))

    def _check_memory(self, image: int, count: int) -> None:
        """Refuse more seeds than fit in memory where rendering can be interrupted: by users who share a machine."""
        if self._interrupt is not None and image * count > MAX_RENDERED_BYTES:
            most = MAX_RENDERED_BYTES // image
            raise ThalwegError(f"expected at most {most:,} seeds of images of this size, got {count:,}")

    def _render(self, tensors: Sequence[Tensor], seeds: Sequence[int]) -> Tensor:
        names = [f"seed {seed}" for seed in seeds]
        latents = self._latents(tensors, self.noise(seeds), None, names)
        try:
            return self.decode(latents)
        except NotFiniteError as error:
            raise NotFiniteError(f"{', '.join(names)}: {error}") from error

    def token_vector(self, word: str) -> Tensor:
        """Return the mean input vector (width) of the tokens of `word`.

        Raises:
            UsageError: the model has several text encoders, or the word has no token.
        """
        return self._single_encoder().token_vector(word)

    def embed_with(self, prompt: str, placeholder: str, vector: Tensor) -> Embedding:
        """Embed `prompt` with `vector` (width) at each `placeholder` in it; differentiable in `vector`.

        Raises:
            UsageError: the model has several text encoders, or the prompt does not hold the placeholder.
        """
        tensors = self._single_encoder().embed_with(check_prompt(prompt), placeholder, vector, self.settings)
        return Embedding(tensors, Lineage(self.model, prompt, parameters={"placeholder": placeholder}))

    def _single_encoder(self) -> StableDiffusion:
        if not isinstance(self.adapter, StableDiffusion):
            raise UsageError(
                f"expected a model with a single text encoder (Stable Diffusion 1 or 2) for token vectors, "
                f"got {self.adapter.name} with {len(self.adapter.encoders)}"
            )
        return self.adapter

    def _check_embedding(self, embedding: Embedding) -> None:
        self.adapter.check_inputs()
        embedding.check_model(self.model)
        self._check_tensors(embedding)
        embedding.check_finite()

    def _check_tensors(self, embedding: Embedding) -> None:
        names = self.adapter.names(self.settings)
        missing = [name for name in names if name not in embedding.tensors]
        if missing:
            raise UsageError(f"expected an embedding with {', '.join(names)}; {missing[0]} is missing")
