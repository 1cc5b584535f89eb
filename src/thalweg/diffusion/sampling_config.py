"""Config of sampling: steps, guidance, gradient, image size, scheduler, reading of prompts; checked without torch."""

from dataclasses import dataclass, field, replace
from typing import Any

from thalweg.diffusion.schedulers import SCHEDULERS
from thalweg.errors import UsageError, unknown_name
from thalweg.gradient_modes import GRADIENTS, Gradient
from thalweg.limits import MAX_STEPS, check_count, check_number
from thalweg.prompts import check_prompt

MAX_GUIDANCE = 1000.0
"""Largest guidance scale; models are guided by 1 to 20."""
MAX_SIDE = 16_384
"""Largest height and width of an image, pixels."""
MAX_CLIP_SKIP = 40
"""Largest number of a text encoder's layers to leave out; whether the encoder has more is seen when it is loaded."""


@dataclass(frozen=True)
class SamplingConfig:
    """Sampling of images; each pipeline adapter has its own defaults.

    Attributes:
        steps: the scheduler's number of steps.
        guidance_scale: of classifier-free guidance, 0 to 1,000; 1 or less: none. FLUX takes it as an input of its own;
            Z-Image's is smaller by 1 than that of other models, and 0 is none.
        gradient: part of the chain that the gradient passes through. "full": all of it; "last_k": the last `last_k`
            denoiser calls; "one_step": the last call; "shortcut": one call past the middle of the chain, and from
            there to the images the scheduler's own sums only, as if later calls did not depend on their latents (arXiv
            2505.07477); "random": the last calls, their number drawn for each embedding, with weights that make the
            gradient of the embedding the full one on average; "auto": "full", until a tool measures which of them
            gains most per call; None: no gradient.
        last_k: denoiser calls that "last_k" passes through.
        height: of the images, pixels; None: the size that the model was trained for.
        width: of the images, pixels; None: the size that the model was trained for.
        scheduler: a name of `thalweg.diffusion.schedulers.SCHEDULERS`, a diffusers scheduler, or None: the model's own.
        eta: share of fresh noise, 0 to 1, for schedulers that take one; None: the scheduler's default.
        guidance_rescale: share, 0 to 1, of the guided output that gets the standard deviation of the output for the
            prompt alone (Lin et al. 2023, arXiv 2305.08891, section 3.4); 0: none.
        negative: what prompts are guided away from, where `embed` is given nothing else.
        clip_skip: last layers of the CLIP text encoders to leave out, in addition to those that the model leaves out;
            None or 0: none. diffusers counts so as well, A1111's "clip skip" is larger by 1.

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
    guidance_rescale: float = 0.0
    negative: str = ""
    clip_skip: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "last_k"):
            check_count(name, getattr(self, name), 1, MAX_STEPS)
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, MAX_SIDE)
        check_number("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE)
        check_number("eta", 0 if self.eta is None else self.eta, 0, 1)
        check_number("`guidance_rescale`", self.guidance_rescale, 0, 1)
        if self.clip_skip is not None:
            check_count("`clip_skip`", self.clip_skip, 0, MAX_CLIP_SKIP)
        check_prompt(self.negative)
        if self.gradient is not None and self.gradient not in GRADIENTS:
            raise UsageError(f"expected gradient {', '.join(GRADIENTS)} or None, got {self.gradient!r}")
        if isinstance(self.scheduler, str) and self.scheduler not in SCHEDULERS:
            raise unknown_name("scheduler", self.scheduler, SCHEDULERS)

    def changed(self, **changes: Any) -> "SamplingConfig":
        """Return these settings with some others.

        Raises:
            UsageError: an unknown setting, or a value that no model takes.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise unknown_name("setting", unknown[0], self.__dataclass_fields__)
        return replace(self, **changes)
