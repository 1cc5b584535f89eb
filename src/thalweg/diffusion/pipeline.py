"""Base of the pipeline adapters: frozen weights, guidance, the tensors of an embedding, decoding."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from thalweg.diffusion.checkpoints.identity import Identifier
from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.pipelines.text_inputs import TextInput, Vocabulary, warn_of_text
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.embedding import ModelIdentity
from thalweg.errors import NotFiniteError, UsageError
from thalweg.limits import shown

_counting = threading.Lock()


class PipelineAdapter(ABC):
    """Frozen diffusers pipeline with the conditioning, denoising and decoding of its class.

    Attributes:
        pipeline: the diffusers pipeline.
        name: name of the model: its folder's name or its hub id.
        calls: images that went through the denoiser so far.
        identifier: hashes of the weights, computed again where they have changed.
        vocabulary: words that the text encoders were trained on; None: all words that have tokens.
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
    clip_encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    long_encoders: ClassVar[tuple[str, ...]] = ()
    unread_layers: ClassVar[int] = 1
    takes_guidance_rescale: ClassVar[bool] = True
    takes_fragments: ClassVar[bool] = False
    takes_image: ClassVar[bool] = False
    takes_true_cfg_scale: ClassVar[bool] = False
    unguided_scale: ClassVar[float] = 1.0

    def __init__(self, pipeline: Any, name: str) -> None:
        """Freeze `pipeline`.

        Raises:
            UsageError: a part is missing, or the denoiser takes other inputs than a prompt, latents and the guidance
                scale (an IP-Adapter, a model for inpainting).
        """
        self.pipeline = pipeline
        self.name = name
        self.calls = 0
        self.identifier = Identifier()
        self.vocabulary: Vocabulary | None = None
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
        """Refuse a pipeline that lacks a part, or whose denoiser does not fit its latents."""
        tokenizers = [encoder.replace("text_encoder", "tokenizer") for encoder in self.encoders]
        needed = {*self.encoders, *tokenizers, self.denoiser, "vae", "scheduler"} - set(self.optional_parts)
        if missing := sorted(part for part in needed if getattr(self.pipeline, part, None) is None):
            raise UsageError(
                f"{self.name}: expected a whole {type(self.pipeline).__name__}, it has no {', '.join(missing)}"
                + ("; a refiner alone makes no images of prompts" if "text_encoder" in missing else "")
            )
        parts = {name: part for name, part in self.pipeline.components.items() if isinstance(part, torch.nn.Module)}
        absent = [name for name in needed & parts.keys() if any(weight.is_meta for weight in parts[name].parameters())]
        if absent:
            raise UsageError(
                f"{self.name}: the weights of {', '.join(sorted(absent))} are not in memory (meta tensors: "
                "offloaded, or never loaded); load the pipeline whole, without sequential CPU offload"
            )
        config, latent = self.network.config, self.latent_channels
        output = config.get("out_channels") or config.in_channels
        if self.channels != latent or output not in (latent, config.in_channels):
            raise UsageError(
                f"{self.name}: expected a denoiser with the {latent} channels of its latents as input and output, got "
                f"one with {self.channels}; models for inpainting, editing or depth take an image as well"
            )

    def _check_widths(self) -> None:
        """Refuse a denoiser and text encoders of different models, whose tensors do not fit each other."""
        for condition, taken, given in self.widths():
            if taken != given:
                raise UsageError(
                    f"{self.name}: expected parts of one model, its {self.denoiser} takes {condition} of width "
                    f"{taken}, its text encoders give {given}"
                )

    @abstractmethod
    def widths(self) -> list[tuple[str, int, int]]:
        """Return each condition's name, the width that the denoiser takes and the width that the encoders give."""

    def check_inputs(self) -> None:
        """Check that the denoiser takes a prompt alone; image adapters may be added to a pipeline at any time.

        Raises:
            UsageError: it takes images (an IP-Adapter) or labels as an input as well.
        """
        network, config = self.network, self.network.config
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
        """Name, and hashes of the current weights of text encoders and denoiser, their adapters included."""
        parts = {part: getattr(self.pipeline, part) for part in (*self.encoders, self.denoiser)}
        tokenizers = {part: getattr(self.pipeline, part.replace("text_encoder", "tokenizer")) for part in self.encoders}
        return self.identifier.identify(self.name, parts, tokenizers)

    @property
    def network(self) -> Any:
        """Module of the denoiser."""
        return getattr(self.pipeline, self.denoiser)

    @property
    def device(self) -> torch.device:
        """Device of the denoiser."""
        return self.network.device

    @property
    def precision(self) -> torch.dtype:
        """Floating type of embeddings, latents and images: float32, or float64 for a model in float64."""
        return torch.promote_types(self.network.dtype, torch.float32)

    @property
    def guided(self) -> bool:
        """True where embeddings have negative tensors, for classifier-free guidance."""
        return self.guidance_width is None

    @property
    def takes_guidance(self) -> bool:
        """True where the guidance scale changes the images."""
        return self.guided or self.guidance_width is not None

    @property
    def guidance_width(self) -> int | None:
        """Width of the guidance scale's encoding that a latent consistency model takes as an input; None: others."""
        return self.network.config.get("time_cond_proj_dim")

    def guidance_input(self, settings: SamplingConfig, latents: Tensor) -> Tensor | None:
        """Return the guidance scale's encoding (S, width) for latents (S, ...), None where it is no input."""
        if self.guidance_width is None:
            return None
        scales = torch.full((len(latents),), settings.guidance_scale - 1)
        return self.pipeline.get_guidance_scale_embedding(scales, embedding_dim=self.guidance_width).to(latents)

    def has_negative(self, settings: SamplingConfig) -> bool:
        """Return whether embeddings have negative tensors."""
        return self.guided

    def is_guided(self, settings: SamplingConfig) -> bool:
        """Return whether the denoiser runs for the negative prompt as well."""
        return self.guided and settings.guidance_scale > self.unguided_scale

    def names(self, settings: SamplingConfig) -> tuple[str, ...]:
        """Return the names of an embedding's tensors."""
        return self.conditions + tuple(map(negative_name, self.conditions)) * self.has_negative(settings)

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return each tokenizer with the number of tokens its encoder takes."""
        present = [encoder for encoder in self.encoders if getattr(self.pipeline, encoder) is not None]
        found = [getattr(self.pipeline, encoder.replace("text_encoder", "tokenizer")) for encoder in present]
        return [(tokenizer, tokenizer.model_max_length) for tokenizer in found]

    def text_inputs(self) -> list[TextInput]:
        """Return the input of each text encoder, with learned words expanded as the pipeline does."""
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)
        return [TextInput(tokenizer, limit, convert, self.vocabulary) for tokenizer, limit in self.tokenizers()]

    def check_settings(self, settings: SamplingConfig) -> None:
        """Refuse settings that this class of pipelines would ignore, or that leave no layer of a text encoder.

        Raises:
            UsageError: such a setting.
        """
        self._check_negative(settings.negative, settings)
        ignored = {
            "guidance_rescale": self.takes_guidance_rescale,
            "clip_skip": bool(self.clip_encoders),
            "prompt_syntax": self.takes_fragments,
            "long_prompts": self.takes_fragments,
            "image": self.takes_image,
            "true_cfg_scale": self.takes_true_cfg_scale,
        }
        for setting, is_taken in ignored.items():
            if getattr(settings, setting) and not is_taken:
                raise UsageError(
                    f"expected no `{setting}` for {self.name}: a {type(self.pipeline).__name__} has none; got "
                    f"{shown(getattr(settings, setting))}"
                )
        if settings.clip_skip:
            layers = min(getattr(self.pipeline, encoder).config.num_hidden_layers for encoder in self.clip_encoders)
            if settings.clip_skip > (most := layers - self.unread_layers):
                raise UsageError(
                    f"expected a `clip_skip` of at most {most} for {self.name}, whose text encoder has {layers} "
                    f"layers; got {settings.clip_skip}"
                )

    def _check_negative(self, negative: str, settings: SamplingConfig) -> None:
        if negative and not self.has_negative(settings):
            reason = "its guidance is distilled" if self.takes_guidance else "it is sampled without guidance"
            reason += ", and `true_cfg_scale` is not above 1" if self.takes_true_cfg_scale else ""
            raise UsageError(f"expected no negative prompt for {self.name}: {reason}; got {shown(negative)}")

    def embed(
        self, prompt: str, negative: str, settings: SamplingConfig, chunks: int | None = None
    ) -> dict[str, Tensor]:
        """Return an embedding's tensors for `prompt`, guided away from `negative`.

        Warns of parts of the two texts that the encoders do not see, see `thalweg.diffusion.pipelines.text_inputs`.

        Args:
            prompt: the prompt.
            negative: the negative prompt.
            settings: how both texts are read.
            chunks: number of chunks of the rows; None: as many as the longer text needs.
        """
        self._check_negative(negative, settings)
        with torch.no_grad(), quiet():
            for text in (prompt, negative):
                plain, unread, inputs = self.seen_text(text, settings, chunks)
                warn_of_text(plain, inputs, stacklevel=3, unread=unread)
            tensors = self.encode_texts(prompt, negative, settings, chunks)
        return {
            name: tensor[0].to(self.precision) if tensor.is_floating_point() else tensor[0]
            for name, tensor in tensors.items()
            if name in self.names(settings)
        }

    def seen_text(self, text: str, settings: SamplingConfig, chunks: int | None) -> tuple[str, str, list[TextInput]]:
        """Return a text as encoders see it, the part of it that may hold syntax that none reads, and their inputs."""
        return text, text, self.text_inputs()

    def encode_texts(
        self, prompt: str, negative: str, settings: SamplingConfig, chunks: int | None
    ) -> dict[str, Tensor]:
        """Return the encoding of both texts, each tensor (1, ...); the arguments are those of `embed`."""
        return self.encode(prompt, negative, settings.clip_skip or 0)

    @abstractmethod
    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return the pipeline's own encoding, each tensor (1, ...), without the encoders' last `clip_skip` layers."""

    def trainable_masks(self, tensors: Mapping[str, Tensor], settings: SamplingConfig) -> dict[str, Tensor]:
        """Return boolean masks of the trainable entries by tensor: all but the start token's row and unread rows."""
        masks = {}
        for name in self.names(settings):
            if not tensors[name].is_floating_point():
                continue
            masks[name] = torch.ones(1, dtype=torch.bool)
            if "pooled" not in name:
                # Each chunk of a long prompt begins with a start token.
                masks[name] = torch.arange(len(tensors[name]))[:, None] % self.tokens >= self.fixed_rows
                if "mask" in self.conditions:
                    read = tensors["mask" if name == "prompt" else negative_name("mask")]
                    masks[name] = masks[name] & read.bool().cpu()[:, None]
        return masks

    @property
    def tokens(self) -> int:
        """Number of rows of the prompt tensor."""
        return self.pipeline.tokenizer.model_max_length

    @property
    def channels(self) -> int:
        """Number of channels of the latents."""
        return self.network.config.in_channels

    @property
    def latent_pixels(self) -> int:
        """Pixels of an image per side of a latent pixel."""
        return self.pipeline.vae_scale_factor

    @property
    def latent_channels(self) -> int:
        """Number of channels of the decoder's latents."""
        return self.pipeline.vae.config.latent_channels

    @property
    def trained_size(self) -> tuple[int, int]:
        """Rows and columns of the latents that the model was trained for."""
        size = self.network.config.sample_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def latent_shape(self, settings: SamplingConfig) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of one image's latents.

        Raises:
            UsageError: a height or width that is no multiple of the latents' pixels.
        """
        scale = self.latent_pixels
        shape = []
        for name, trained in zip(("height", "width"), self.trained_size, strict=True):
            size = getattr(settings, name) or trained * scale
            if size < 1 or size % (scale * self.patch):
                raise UsageError(f"expected a {name} in multiples of {scale * self.patch} px, got {size}")
            shape.append(size // scale)
        return self.channels, shape[0], shape[1]

    def image_tokens(self, settings: SamplingConfig) -> int:
        """Return the number of image tokens, each of `patch` by `patch` latent pixels."""
        _, height, width = self.latent_shape(settings)
        return (height // self.patch) * (width // self.patch)

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return further arguments of the scheduler's `set_timesteps`, in addition to the number of steps."""
        return {}

    def denoise(
        self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, tensors: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the guided model output (S, C, h, w) for latents (S, C, h, w) at one timestep."""
        with _counting:
            self.calls += len(latents)
        sides = [tuple(map(negative_name, self.conditions))] * self.is_guided(settings) + [self.conditions]
        inputs = torch.cat([latents] * len(sides)).to(self.network.dtype)
        conditions = [
            torch.cat(
                [_as_input(tensors[name], inputs).expand(len(latents), *tensors[name].shape) for name in together]
            )
            for together in zip(*sides, strict=True)
        ]
        output = self.predict(settings, inputs, timestep, *conditions).to(latents.dtype)
        if len(sides) == 1:
            return output
        negative, positive = output.chunk(2)
        return self.guide(settings, positive, negative)

    def guide(self, settings: SamplingConfig, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the guided output (S, C, h, w) from the outputs for the prompt and for the negative prompt."""
        combined = negative + settings.guidance_scale * (positive - negative)
        if not settings.guidance_rescale:
            return combined
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

        return rescale_noise_cfg(combined, positive, settings.guidance_rescale)

    @abstractmethod
    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the denoiser's output for conditions (S, ...) in the order of `conditions`."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (S, 3, H, W) in 0..1 from latents (S, C, h, w).

        Raises:
            NotFiniteError: the decoder gives NaN or infinity.
        """
        images = self.pixels(self.unscale(latents))
        if not bool(images.detach().isfinite().all()):
            raise NotFiniteError(
                f"the decoder of {self.name} gives NaN or infinity: load the model in float32, or check its weights"
            )
        return (images / 2 + 0.5).clamp(0, 1).to(self.precision)

    def pixels(self, latents: Tensor) -> Tensor:
        """Return the decoder's images (S, 3, H, W) in -1..1, not clamped, from latents in its units."""
        vae = self.pipeline.vae
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0]

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder."""
        config = self.pipeline.vae.config
        return latents / config.scaling_factor + (config.get("shift_factor") or 0)


def _as_input(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor of an embedding on the device of `like` and, unless it is a mask, of its floating type."""
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def negative_name(name: str) -> str:
    """Return the name of the negative tensor that belongs to a positive one."""
    return "negative" if name == "prompt" else f"negative_{name}"
