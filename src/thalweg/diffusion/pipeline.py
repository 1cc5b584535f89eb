"""What every model family shares: its settings, its frozen weights, guidance, the names of an embedding's tensors."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from thalweg.diffusion.checkpoints.identity import Identifier
from thalweg.diffusion.schedulers import SCHEDULERS
from thalweg.diffusion.text_inputs import TextInput, warn_of_text
from thalweg.embedding import ModelIdentity
from thalweg.errors import NotFiniteError, UsageError
from thalweg.generator import Gradient
from thalweg.limits import MAX_STEPS, check_count, check_number

MAX_GUIDANCE = 1000.0
"""Largest guidance scale; models are guided by 1 to 20."""
MAX_SIDE = 16_384
"""Largest height and width of an image, pixels."""


@dataclass(frozen=True)
class SamplingConfig:
    """How a generator renders; each family has its own defaults.

    Attributes:
        steps: the scheduler's number of steps.
        guidance_scale: of classifier-free guidance, 0 to 1,000; 1 or less: none. FLUX takes it as an input of its own.
        gradient: what the gradient passes through: "full", "last_k", "one_step" or None.
        last_k: denoiser calls that "last_k" passes through.
        height: of the images, pixels; None: what the model was trained for.
        width: of the images, pixels; None: what the model was trained for.
        scheduler: a name of `thalweg.diffusion.schedulers.SCHEDULERS`, a diffusers scheduler, or None: the model's own.
        eta: share of fresh noise, 0 to 1, for schedulers that take one; None: the scheduler's default.

    Raises:
        UsageError: a value that no model takes.
    """

    steps: int = 50
    guidance_scale: float = 7.5
    gradient: Gradient = "full"
    last_k: int = 5
    height: int | None = None
    width: int | None = None
    scheduler: Any = field(default=None, repr=False)
    eta: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "last_k"):
            check_count(name, getattr(self, name), 1, MAX_STEPS)
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, MAX_SIDE)
        check_number("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE)
        check_number("eta", 0 if self.eta is None else self.eta, 0, 1)
        if self.gradient not in ("full", "last_k", "one_step", None):
            raise UsageError(f"expected gradient full, last_k, one_step or None, got {self.gradient!r}")
        if isinstance(self.scheduler, str) and self.scheduler not in SCHEDULERS:
            raise UsageError(f"expected a scheduler, one of {', '.join(SCHEDULERS)}; got {self.scheduler!r}")

    def changed(self, **changes: Any) -> "SamplingConfig":
        """Return these settings with some others.

        Raises:
            UsageError: an unknown setting, or a value that no model takes.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise UsageError(f"expected settings {', '.join(self.__dataclass_fields__)}; got {unknown[0]}")
        return replace(self, **changes)


class PipelineAdapter(ABC):
    """A pipeline's weights, frozen, and how its family conditions, denoises and decodes.

    Attributes:
        pipeline: the diffusers pipeline.
        name: of the model: its folder's name or its id.
        calls: images that went through the denoiser so far.
        identifier: hashes the weights, again where they have changed.
    """

    defaults: ClassVar[SamplingConfig]
    half: ClassVar[torch.dtype] = torch.float16
    conditions: ClassVar[tuple[str, ...]] = ("prompt", "pooled")
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    denoiser: ClassVar[str] = "transformer"
    fixed_rows: ClassVar[int] = 1
    patch: ClassVar[int] = 1
    left_out: ClassVar[tuple[str, ...]] = ("safety_checker", "feature_extractor", "image_encoder")
    optional_parts: ClassVar[tuple[str, ...]] = ()
    added_condition: ClassVar[str | None] = None

    def __init__(self, pipeline: Any, name: str) -> None:
        """Freeze `pipeline`.

        Raises:
            UsageError: a part is missing, or the denoiser takes other inputs than a prompt and latents (a latent
                consistency model, an IP-Adapter, a model for inpainting).
        """
        self.pipeline = pipeline
        self.name = name
        self.calls = 0
        self.identifier = Identifier()
        self._check_parts()
        self.check_inputs()
        self._check_widths()
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.requires_grad_(False).eval()
        if pipeline.vae.dtype == torch.float16:
            # SDXL's decoder overflows in float16, and the gradient of a mean over pixels underflows in all of them.
            with quiet():
                pipeline.vae.to(torch.float32)

    def _check_parts(self) -> None:
        """Refuse a pipeline without a part that every prompt or every image needs."""
        tokenizers = [encoder.replace("text_encoder", "tokenizer") for encoder in self.encoders]
        needed = {*self.encoders, *tokenizers, self.denoiser, "vae", "scheduler"} - set(self.optional_parts)
        if missing := sorted(part for part in needed if getattr(self.pipeline, part, None) is None):
            raise UsageError(
                f"{self.name}: expected a whole {type(self.pipeline).__name__}, it has no {', '.join(missing)}"
                + ("; a refiner alone makes no images of prompts" if "text_encoder" in missing else "")
            )
        absent = [part for part in needed if any(weight.is_meta for weight in _weights(getattr(self.pipeline, part)))]
        if absent:
            raise UsageError(
                f"{self.name}: the weights of {', '.join(sorted(absent))} are not in memory (meta tensors: "
                "offloaded, or never loaded); load the pipeline whole, without sequential CPU offload"
            )
        config = self.network.config
        made = config.get("out_channels") or config.in_channels
        latent = self.pipeline.vae.config.latent_channels
        if self.channels != latent or made not in (latent, config.in_channels):
            raise UsageError(
                f"{self.name}: expected a denoiser that takes and makes the {latent} channels of its latents, got one "
                f"of {self.channels}; models for inpainting, editing or depth take an image as well"
            )

    def _check_widths(self) -> None:
        """Refuse a denoiser and encoders of different models, whose tensors do not fit each other."""
        for what, taken, given in self.widths():
            if taken != given:
                raise UsageError(
                    f"{self.name}: expected parts of one model, its {self.denoiser} takes {what} of width {taken}, its "
                    f"text encoders give {given}"
                )

    @abstractmethod
    def widths(self) -> list[tuple[str, int, int]]:
        """Return what the denoiser is conditioned on, the width it takes and the width that the encoders give."""

    def check_inputs(self) -> None:
        """Refuse a denoiser that takes more inputs than a prompt; adapters may be added to a pipeline at any time.

        Raises:
            UsageError: it is guided by images (an IP-Adapter), by labels, or by the guidance scale itself.
        """
        network, config = self.network, self.network.config
        if config.get("time_cond_proj_dim") is not None:
            raise UsageError(
                f"{self.name}: expected a denoiser guided by two conditions, got a latent consistency model"
            )
        projections = [getattr(network, part, None) for part in ("encoder_hid_proj", "image_proj")]
        if config.get("encoder_hid_dim_type") or any(part is not None for part in projections):
            raise UsageError(
                f"{self.name}: expected a denoiser guided by prompts alone, got one that takes image prompts as well "
                "(an IP-Adapter); unload it with unload_ip_adapter()"
            )
        if config.get("class_embed_type") or config.get("num_class_embeds"):
            raise UsageError(f"{self.name}: expected a denoiser guided by prompts alone, got one that takes labels")
        if config.get("addition_embed_type") != self.added_condition:
            raise UsageError(
                f"{self.name}: expected a denoiser with the added condition {self.added_condition}, got one with "
                f"{config.get('addition_embed_type')}"
            )

    @property
    def model(self) -> ModelIdentity:
        """Name, and hashes of the text encoders' and the denoiser's weights as they are now, adapters included."""
        parts = {part: getattr(self.pipeline, part) for part in (*self.encoders, self.denoiser)}
        tokenizers = {part: getattr(self.pipeline, part.replace("text_encoder", "tokenizer")) for part in self.encoders}
        return self.identifier.identify(self.name, parts, tokenizers)

    @property
    def network(self) -> Any:
        """The denoiser's module."""
        return getattr(self.pipeline, self.denoiser)

    @property
    def device(self) -> torch.device:
        """Where the denoiser lies."""
        return self.network.device

    @property
    def precision(self) -> torch.dtype:
        """The type of embeddings, latents and images: float32, or float64 for a model in float64."""
        return torch.promote_types(self.network.dtype, torch.float32)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance may be asked for: the embedding has negative tensors."""
        return True

    @property
    def takes_guidance(self) -> bool:
        """Whether the guidance scale changes what is sampled."""
        return self.guided

    @property
    def names(self) -> tuple[str, ...]:
        """The names of an embedding's tensors."""
        return self.conditions + tuple(map(negative, self.conditions)) if self.guided else self.conditions

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return each tokenizer with the number of tokens its encoder takes."""
        present = [encoder for encoder in self.encoders if getattr(self.pipeline, encoder) is not None]
        found = [getattr(self.pipeline, encoder.replace("text_encoder", "tokenizer")) for encoder in present]
        return [(tokenizer, tokenizer.model_max_length) for tokenizer in found]

    def text_inputs(self) -> list[TextInput]:
        """Return how each text encoder takes a text, learned words spelled out as the pipeline does."""
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)
        return [TextInput(tokenizer, limit, convert) for tokenizer, limit in self.tokenizers()]

    def embed(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return an embedding's tensors for `prompt`, guided away from `against`.

        Warns of what of the two texts is not seen as it is written, see `thalweg.diffusion.text_inputs`.
        """
        with torch.no_grad(), quiet():
            for text in (prompt, against):
                warn_of_text(text, self.text_inputs(), stacklevel=3)
            tensors = self.encode(prompt, against)
        return {name: tensor[0].to(self.precision) for name, tensor in tensors.items() if name in self.names}

    @abstractmethod
    def encode(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return the pipeline's own encoding, each tensor (1, ...)."""

    def trainable_masks(self) -> dict[str, Tensor]:
        """Return masks of what a tool may move: all but the rows of the start token."""
        masks = {}
        for name in self.names:
            masks[name] = torch.ones(1, dtype=torch.bool)
            if "pooled" not in name and self.fixed_rows:
                masks[name] = torch.arange(self.tokens)[:, None] >= self.fixed_rows
        return masks

    @property
    def tokens(self) -> int:
        """Rows of the prompt tensor."""
        return self.pipeline.tokenizer.model_max_length

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.network.config.in_channels

    @property
    def trained_size(self) -> tuple[int, int]:
        """Latent rows and columns that the model was trained for."""
        size = self.network.config.sample_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def latent_shape(self, settings: SamplingConfig) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of one image's latents.

        Raises:
            UsageError: a height or width the model can't make.
        """
        scale = self.pipeline.vae_scale_factor
        shape = []
        for name, trained in zip(("height", "width"), self.trained_size, strict=True):
            size = getattr(settings, name) or trained * scale
            if size < 1 or size % (scale * self.patch):
                raise UsageError(f"expected a {name} in multiples of {scale * self.patch} px, got {size}")
            shape.append(size // scale)
        return self.channels, shape[0], shape[1]

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return what the scheduler's `set_timesteps` takes beside the number of steps."""
        return {}

    def denoise(
        self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, tensors: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the guided model output (S, C, h, w) for latents (S, C, h, w) at one timestep."""
        self.calls += len(latents)
        guided = self.guided and settings.guidance_scale > 1
        sides = ([tuple(map(negative, self.conditions))] if guided else []) + [self.conditions]
        inputs = torch.cat([latents] * len(sides)).to(self.network.dtype)
        conditions = [
            torch.cat([tensors[name].to(inputs).expand(len(latents), *tensors[name].shape) for name in together])
            for together in zip(*sides, strict=True)
        ]
        output = self.predict(settings, inputs, timestep, *conditions).to(latents.dtype)
        if not guided:
            return output
        away, toward = output.chunk(2)
        return away + settings.guidance_scale * (toward - away)

    @abstractmethod
    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the denoiser's output for conditions (S, ...) in the order of `conditions`."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (S, 3, H, W) in 0..1 from latents (S, C, h, w).

        Raises:
            NotFiniteError: the decoder gives NaN or infinity.
        """
        vae = self.pipeline.vae
        images = vae.decode(self.unscale(latents).to(vae.dtype), return_dict=False)[0]
        if not bool(images.detach().isfinite().all()):
            raise NotFiniteError(
                f"the decoder of {self.name} gives NaN or infinity, nothing is drawn: load the model in float32, or "
                "look at its weights"
            )
        return (images / 2 + 0.5).clamp(0, 1).to(self.precision)

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder."""
        config = self.pipeline.vae.config
        return latents / config.scaling_factor + (config.get("shift_factor") or 0)


def _weights(part: Any) -> list[Tensor]:
    """Return the weights of a pipeline's part; a tokenizer or a scheduler has none."""
    return list(part.parameters()) if isinstance(part, torch.nn.Module) else []


def negative(name: str) -> str:
    """Return the name of the tensor that guidance leads away from, for the one it leads toward."""
    return "negative" if name == "prompt" else f"negative_{name}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of diffusers, transformers and the hub, and the first two's progress bars, in the block."""
    import diffusers.utils.logging
    import huggingface_hub.utils.logging as hub
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    hub_verbosity = hub.get_verbosity()
    hub.set_verbosity(logging.ERROR)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.ERROR)
        library.disable_progress_bar()
    try:
        yield
    finally:
        hub.set_verbosity(hub_verbosity)
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
