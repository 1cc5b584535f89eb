"""Pipeline adapter of Lumina 2."""

from typing import Any

from torch import Tensor

from thalweg.diffusion.pipelines.language_models.masked_text import MaskedText
from thalweg.diffusion.pipelines.text_inputs import TextInput
from thalweg.diffusion.pipelines.time_shift import even_steps
from thalweg.diffusion.sampling_config import SamplingConfig


class Lumina2(MaskedText):
    """Lumina 2: the rows of Gemma 2 after the pipeline's instruction; guided outputs of the prompt's own length."""

    defaults = SamplingConfig(steps=30, guidance_scale=4.0)
    tokens = 256

    @property
    def patch(self) -> int:  # type: ignore[override]
        """Latent pixels per side of an image token."""
        return self.network.config.patch_size

    def widths(self) -> list[tuple[str, int, int]]:
        """Return the width of Gemma's rows."""
        return [("prompts", self.network.config.cap_feat_dim, self.pipeline.text_encoder.config.hidden_size)]

    def text_inputs(self) -> list[TextInput]:
        """Return Gemma's input, with the pipeline's instruction and without an end token."""

        def instructed(text: str, tokenizer: Any) -> str:
            return f"{self.pipeline.system_prompt} <Prompt Start> {text}"

        return [TextInput(self.pipeline.tokenizer, self.tokens, instructed, self.vocabulary, ends=0, kept_ends=0)]

    def encode(self, prompt: str, negative: str, clip_skip: int) -> dict[str, Tensor]:
        """Return Gemma's rows and their masks; the negative prompt has no instruction, as in diffusers."""
        found = self.pipeline.encode_prompt(
            prompt, negative_prompt=negative, device=self.device, max_sequence_length=self.tokens
        )
        return dict(zip(("prompt", "mask", "negative", "negative_mask"), found, strict=True))

    def schedule_arguments(self, scheduler: Any, settings: SamplingConfig) -> dict[str, Any]:
        """Return evenly spaced noise levels and a time shift; diffusers takes the channels for the image tokens."""
        return even_steps(scheduler, settings.steps, self.channels)

    def guide(self, settings: SamplingConfig, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the guided output, each row of latent pixels scaled to its length in the output for the prompt."""
        combined = super().guide(settings, positive, negative)
        return combined * (positive.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))

    def predict(self, settings: SamplingConfig, latents: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        """Return the transformer's output; its time runs from noise to the image."""
        prompt, mask = conditions
        time = 1 - timestep / self.pipeline.scheduler.config.num_train_timesteps
        return -self.network(latents, time.expand(len(latents)), prompt, mask, return_dict=False)[0]
