"""DiffusionGenerator: a diffusers pipeline behind the generator protocol, with exact gradients."""

import bisect
import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter
from thalweg.diffusion.pipelines.registry import PIPELINE_ADAPTERS
from thalweg.diffusion.pipelines.stable_diffusion import StableDiffusion
from thalweg.diffusion.sampling import Schedule, out_of_memory, sample
from thalweg.diffusion.schedulers import check_kind, make_scheduler
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import NotFiniteError, ThalwegError, UsageError
from thalweg.gradient_modes import Gradient
from thalweg.prompts import check_prompt
from thalweg.seeds import check_seeds

MAX_RENDERED_BYTES = 4 * 2**30
"""Largest memory of the images of one embedding where rendering can be interrupted."""


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
        other.settings = self.settings.changed(**settings)
        other._check(settings)
        return other

    def with_gradient(self, gradient: Gradient) -> Self:
        """Return the same model with another gradient mode; it shares weights and the count of calls."""
        return self.with_settings(gradient=gradient)

    def interruptible(self, check: Callable[[], None]) -> Self:
        """Return the same model, which calls `check` before each image and each denoiser call.

        An exception that `check` raises ends the rendering. Images without a gradient are rendered one at a time, so
        that `check` is called within the time of one image for any number of seeds.
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
        _ = self.schedule.calls

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
        arguments = self.adapter.schedule_arguments(scheduler, self.settings)
        return Schedule(scheduler, self.settings.steps, self.settings.eta, arguments, self.adapter.device)

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
        negative = self.settings.negative if negative is None else check_prompt(negative)
        given = {"negative": negative, "clip_skip": self.settings.clip_skip}
        parameters = {name: value for name, value in given.items() if value}
        tensors = self.adapter.embed(check_prompt(prompt), negative, self.settings.clip_skip or 0)
        embedding = Embedding(tensors, Lineage(self.model, prompt, parameters=parameters))
        embedding.check_finite()
        return embedding

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        """Return what a tool may move: all but the start token's row, the same for every prompt, and padding."""
        self._check_tensors(embedding)
        masks = self.adapter.trainable_masks(embedding.tensors)
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
        return self._latents(embedding, noise, steps, [f"image {index + 1}" for index in range(len(noise))])

    def _latents(self, embedding: Embedding, noise: Tensor, steps: int | None, names: Sequence[str]) -> Tensor:
        """Return the same as `latents`; `names` are the names of the images in messages."""
        self._check_embedding(embedding)
        if steps is not None and not 0 <= steps <= self.steps:
            raise UsageError(f"expected steps in 0..{self.steps}, got {steps}")
        adapter, settings, tensor_names = self.adapter, self.settings, self.adapter.names

        def denoise(latents: Tensor, timestep: Tensor, *tensors: Tensor) -> Tensor:
            self._check_interrupt()
            return adapter.denoise(settings, latents, timestep, dict(zip(tensor_names, tensors, strict=True)))

        tensors = [embedding.tensors[name].to(adapter.device) for name in tensor_names]
        tensors = [each.to(adapter.precision) if each.is_floating_point() else each for each in tensors]
        noise = noise.to(adapter.device, adapter.precision)

        def latents_after(calls: int | None, start: Tensor, gradient: Gradient) -> Tensor:
            return sample(denoise, self.schedule, start, tensors, gradient, settings.last_k, calls)

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
        with torch.set_grad_enabled(recorded), out_of_memory(len(latents)):
            return self.adapter.decode(latents)

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        """Return images (S, 3, H, W) in 0..1, one per seed; the settings name the gradient mode.

        Raises:
            UsageError: seeds negative or repeated, or an embedding of another model.
            NotFiniteError: an image holds NaN or infinity; the seeds are named.
            ThalwegError: out of memory.
        """
        seeds = check_seeds(seeds)
        moves = any(tensor.requires_grad for tensor in embedding.tensors.values())
        if self._interrupt is None or (moves and torch.is_grad_enabled() and self.settings.gradient is not None):
            return self._render(embedding, seeds)
        images: list[Tensor] = []
        for seed in seeds:
            images.append(self._render(embedding, [seed]))
            if images[0].nbytes * len(seeds) > MAX_RENDERED_BYTES:
                most = MAX_RENDERED_BYTES // images[0].nbytes
                raise ThalwegError(f"expected at most {most:,} seeds of images of this size, got {len(seeds):,}")
        return torch.cat(images)

    def _render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        names = [f"seed {seed}" for seed in seeds]
        latents = self._latents(embedding, self.noise(seeds), None, names)
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
        tensors = self._single_encoder().embed_with(
            check_prompt(prompt), placeholder, vector, self.settings.negative, self.settings.clip_skip or 0
        )
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
        missing = [name for name in self.adapter.names if name not in embedding.tensors]
        if missing:
            raise UsageError(f"expected an embedding with {', '.join(self.adapter.names)}; {missing[0]} is missing")
