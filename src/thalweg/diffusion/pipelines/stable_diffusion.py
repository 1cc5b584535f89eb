"""Stable Diffusion 1/2, SDXL, SD3 and FLUX behind one conditioning value: what differs between them."""

import copy
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter, SamplingConfig, quiet
from thalweg.diffusion.text_inputs import TextInput, warn_of_text
from thalweg.errors import UsageError
from thalweg.limits import shown

STAND_IN = "<thalweg>"
"""The token that stands where a vector of one's own goes; it is in no model's vocabulary."""


class StableDiffusion(PipelineAdapter):
    """Stable Diffusion 1 and 2: one text encoder."""

    defaults = SamplingConfig(steps=50, guidance_scale=7.5)
    conditions = ("prompt",)
    encoders = ("text_encoder",)
    denoiser = "unet"
    _copied: Any = None

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the encoder's rows."""
        return [("prompts", self.network.config.cross_attention_dim, self.pipeline.text_encoder.config.hidden_size)]

    def encode(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return the encoder's last layer for both texts."""
        toward, away = self.pipeline.encode_prompt(prompt, self.device, 1, True, against)
        return {"prompt": toward, "negative": away}

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the UNet's output."""
        return self.network(latents, timestep, conditions[0], return_dict=False)[0]

    def token_vector(self, word: str) -> Tensor:
        """Return the mean input vector (width) of the tokens of `word`."""
        ids = self.pipeline.tokenizer(word, add_special_tokens=False).input_ids
        if not ids:
            raise UsageError(f"expected a word with at least one token, got {word!r}")
        return self.pipeline.text_encoder.get_input_embeddings().weight[ids].mean(0).to(self.precision)

    @property
    def _tokenizer_with_stand_in(self) -> Any:
        """The pipeline's tokenizer with one token more, made again where words were added to the pipeline's."""
        if self._copied is None or len(self._copied) != len(self.pipeline.tokenizer) + 1:
            self._copied = copy.deepcopy(self.pipeline.tokenizer)
            self._copied.add_tokens([STAND_IN])
        return self._copied

    def embed_with(self, prompt: str, placeholder: str, vector: Tensor) -> dict[str, Tensor]:
        """Return the tensors for `prompt` with `vector` at each `placeholder` in it; differentiable in `vector`."""
        text, count = re.subn(rf"(?<!\w){re.escape(placeholder)}(?!\w)", STAND_IN, prompt)
        if not placeholder or not count:
            raise UsageError(f"expected the placeholder {placeholder!r} in the prompt, got {prompt!r}")
        tokenizer, encoder = self._tokenizer_with_stand_in, self.pipeline.text_encoder
        width = encoder.get_input_embeddings().embedding_dim
        if vector.shape != (width,):
            raise UsageError(f"expected a vector of shape {(width,)}, got {tuple(vector.shape)}")
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)
        seen = TextInput(tokenizer, self.tokens, convert)
        with quiet():
            warn_of_text(text, [seen], stacklevel=3)
            text = seen.converted(text)
        inputs = tokenizer(text, padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt").to(
            self.device
        )
        places = inputs.input_ids == tokenizer.convert_tokens_to_ids(STAND_IN)
        if not places.any():
            raise UsageError(
                f"expected the placeholder {placeholder!r} within its first {self.tokens} tokens, got {prompt!r}"
            )
        mask = inputs.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None

        def put(module: torch.nn.Module, arguments: Any, output: Tensor) -> Tensor:
            return torch.where(places[..., None], vector.to(output), output)

        hook = encoder.get_input_embeddings().register_forward_hook(put)
        try:
            encoded = encoder(inputs.input_ids.masked_fill(places, 0), attention_mask=mask)[0]
        finally:
            hook.remove()
        return {"prompt": encoded[0].to(self.precision), "negative": self.embed("", "")["negative"]}


class StableDiffusionXL(PipelineAdapter):
    """Stable Diffusion XL: two encoders side by side and a pooled vector; the UNet is told the image's size."""

    defaults = SamplingConfig(steps=50, guidance_scale=5.0)
    denoiser = "unet"
    added_condition = "text_time"

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of both encoders' rows side by side."""
        encoders = (self.pipeline.text_encoder, self.pipeline.text_encoder_2)
        given = sum(encoder.config.hidden_size for encoder in encoders)
        return [("prompts", self.network.config.cross_attention_dim, given)]

    def encode(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return both encoders' rows and the second's pooled vector."""
        found = self.pipeline.encode_prompt(prompt, device=self.device, negative_prompt=against or None)
        return dict(zip(("prompt", "negative", "pooled", "negative_pooled"), found, strict=True))

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the UNet's output for an image that is neither scaled nor cropped."""
        prompt, pooled = conditions
        scale = self.pipeline.vae_scale_factor
        height, width = (scale * size for size in latents.shape[-2:])
        sizes = latents.new_tensor([height, width, 0, 0, height, width]).expand(len(latents), 6)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.network(latents, timestep, prompt, added_cond_kwargs=added, return_dict=False)[0]

    def unscale(self, latents: Tensor) -> Tensor:
        """Return latents in the units of the decoder; some models give a mean and a spread per channel."""
        config = self.pipeline.vae.config
        if config.get("latents_mean") is None or config.get("latents_std") is None:
            return super().unscale(latents)
        mean, spread = (latents.new_tensor(config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
        return latents * spread / config.scaling_factor + mean


class StableDiffusion3(PipelineAdapter):
    """Stable Diffusion 3: the rows of two CLIP encoders, then those of T5, and a pooled vector; flow matching."""

    defaults = SamplingConfig(steps=28, guidance_scale=7.0)
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional_parts = ("text_encoder_3", "tokenizer_3")
    text_length = 256

    @property
    def tokens(self) -> int:
        """Rows of the prompt tensor."""
        return self.pipeline.tokenizer_max_length + self.text_length

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Latent pixels on a side of a patch."""
        return self.pipeline.patch_size

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return each tokenizer with the number of tokens its encoder takes."""
        found = super().tokenizers()
        return [*found[:2], *((tokenizer, self.text_length) for tokenizer, _ in found[2:])]

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of the CLIP encoders' pooled vectors side by side, and of T5's rows where it is there."""
        config, pipeline = self.network.config, self.pipeline
        pooled = sum(encoder.config.projection_dim for encoder in (pipeline.text_encoder, pipeline.text_encoder_2))
        found = [("pooled prompts", config.pooled_projection_dim, pooled)]
        if pipeline.text_encoder_3 is not None:
            found.append(("prompts", config.joint_attention_dim, pipeline.text_encoder_3.config.d_model))
        return found

    def encode(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return the three encoders' rows and the CLIP encoders' pooled vectors."""
        found = self.pipeline.encode_prompt(
            prompt, None, None, self.device, negative_prompt=against, max_sequence_length=self.text_length
        )
        return dict(zip(("prompt", "negative", "pooled", "negative_pooled"), found, strict=True))

    def latent_shape(self, settings: SamplingConfig) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of one image's latents.

        Raises:
            UsageError: a height or width the model can't make: its table of positions has an end.
        """
        shape = super().latent_shape(settings)
        limit = self.network.config.pos_embed_max_size
        if limit and max(shape[1:]) // self.patch > limit:
            most = limit * self.patch * self.pipeline.vae_scale_factor
            height, width = (size * self.pipeline.vae_scale_factor for size in shape[1:])
            raise UsageError(f"expected height and width of at most {most} for {self.name}, got {height} x {width}")
        return shape

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return the time shift for the image's size, where the scheduler takes one."""
        return flow_shift(scheduler, self.latent_shape(settings), self.patch, longest=1.16)

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output."""
        prompt, pooled = conditions
        times = timestep.expand(len(latents))
        return self.network(latents, prompt, pooled, times, return_dict=False)[0]


class Flux(PipelineAdapter):
    """FLUX: the rows of T5 and CLIP's pooled vector; distilled guidance, so no negative tensors; flow matching."""

    defaults = SamplingConfig(steps=28, guidance_scale=3.5)
    half = torch.bfloat16
    fixed_rows = 0
    patch = 2
    guided = False

    @property
    def takes_guidance(self) -> bool:
        """Whether the guidance scale is an input of the model; FLUX.1 schnell has none."""
        return bool(self.network.config.guidance_embeds)

    @property
    def tokens(self) -> int:
        """Rows of the prompt tensor: the length the model was trained with."""
        return 512 if self.takes_guidance else 256

    @property
    def channels(self) -> int:
        """Channels of the latents, before two by two of them become one row."""
        return self.network.config.in_channels // 4

    @property
    def trained_size(self) -> tuple[int, int]:
        """Latent rows and columns that the model was trained for."""
        return self.pipeline.default_sample_size, self.pipeline.default_sample_size

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Return T5's tokenizer: CLIP's sees the beginning of the prompt only, by design."""
        return [(self.pipeline.tokenizer_2, self.tokens)]

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of T5's rows and of CLIP's pooled vector."""
        config, pipeline = self.network.config, self.pipeline
        return [
            ("prompts", config.joint_attention_dim, pipeline.text_encoder_2.config.d_model),
            ("pooled prompts", config.pooled_projection_dim, pipeline.text_encoder.config.hidden_size),
        ]

    def encode(self, prompt: str, against: str) -> dict[str, Tensor]:
        """Return T5's rows and CLIP's pooled vector."""
        if against:
            sampled = "FLUX models are sampled without a second condition here"
            why = "its guidance is distilled" if self.takes_guidance else sampled
            raise UsageError(f"expected no negative prompt for {self.name}: {why}; got {shown(against)}")
        rows, pooled, _ = self.pipeline.encode_prompt(prompt, device=self.device, max_sequence_length=self.tokens)
        return {"prompt": rows, "pooled": pooled}

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and the time shift for the image's size, where the scheduler takes them."""
        shift = flow_shift(scheduler, self.latent_shape(settings), self.patch, longest=1.15)
        if "sigmas" not in _takes(scheduler.set_timesteps) or scheduler.config.get("use_flow_sigmas"):
            return shift
        return {"sigmas": [1 - index / settings.steps for index in range(settings.steps)], **shift}

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output, from rows of two by two latent pixels and back."""
        prompt, pooled = conditions
        count, channels, height, width = latents.shape
        rows = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        places = torch.cartesian_prod(torch.zeros(1), torch.arange(height // 2.0), torch.arange(width // 2.0))
        guidance = None
        if self.takes_guidance:
            guidance = torch.full((count,), settings.guidance_scale, dtype=torch.float32, device=latents.device)
        output = self.network(
            rows.reshape(count, -1, channels * 4),
            encoder_hidden_states=prompt,
            pooled_projections=pooled,
            timestep=timestep.expand(count).to(latents.dtype) / 1000,
            img_ids=places.to(latents),
            txt_ids=latents.new_zeros(prompt.shape[1], 3),
            guidance=guidance,
            return_dict=False,
        )[0]
        patches = output.reshape(count, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(latents.shape)


FAMILIES: Mapping[str, type[PipelineAdapter]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}
"""Families by the pipeline class that a model's folder names in its model_index.json."""


def flow_shift(scheduler: Any, shape: tuple[int, int, int], patch: int, longest: float) -> dict[str, float]:
    """Return the time shift `mu` of flow-matching schedulers, linear in the number of image tokens."""
    config = scheduler.config
    if "mu" not in _takes(scheduler.set_timesteps) or not config.get("use_dynamic_shifting"):
        return {}
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", longest)
    tokens = (shape[1] // patch) * (shape[2] // patch)
    return {"mu": low + (high - low) * (tokens - few) / (many - few)}


def _takes(function: Any) -> frozenset[str]:
    """Return the names of a function's parameters."""
    return frozenset(inspect.signature(function).parameters)
