"""Config of sampling: steps, guidance, gradient, image size, scheduler, reading of prompts; checked without torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from thalweg.diffusion.prompting.prompt_syntax import SYNTAXES, SyntaxName, parse_prompt
from thalweg.diffusion.schedulers import SCHEDULERS
from thalweg.errors import MissingPathError, UsageError, unknown_name
from thalweg.gradient_modes import GRADIENTS, Gradient
from thalweg.limits import MAX_STEPS, check_choice, check_count, check_number, shown
from thalweg.prompts import check_prompt

MAX_GUIDANCE = 1000.0
"""Largest guidance scale; models are guided by 1 to 20."""
MAX_SIDE = 16_384
"""Largest height and width of an image, pixels."""
MAX_CLIP_SKIP = 40
"""Largest number of a text encoder's layers to leave out; whether the encoder has more is seen when it is loaded."""
DEFAULT_STRENGTH = 0.6
"""Share of the steps that are taken from an image to start from, where none is given."""
MIN_IMAGE_STRENGTH = 1e-6
"""Smallest share of the steps; whether it leaves a step is seen when their number is known."""


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
        prompt_syntax: weights that prompts hold, as "a1111" or "compel" write and apply them (Stable Diffusion 1 and 2
            and SDXL); None: prompts are plain text.
        long_prompts: "chunks": prompts beyond the encoder's length are encoded in chunks of it, whose rows are
            concatenated (Stable Diffusion 1 and 2 and SDXL); None: they are cut.
        true_cfg_scale: scale of guidance with a negative prompt for FLUX, whose own guidance scale is an input; 1 or
            less, or None: none.
        image: file of an image that chains start from, resized to the images' size (Stable Diffusion 1, 2 and 3, SDXL
            and FLUX); None: they start from noise alone.
        strength: share of the steps, above 0 to 1, that are taken from the image with noise of the first of them; 1:
            all. None: 0.6.
        image_mask: file of a mask of the image's size: white is generated, black is kept; None: all is generated.

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
    prompt_syntax: SyntaxName | None = None
    long_prompts: Literal["chunks"] | None = None
    true_cfg_scale: float | None = None
    image: str | None = None
    strength: float | None = None
    image_mask: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "last_k"):
            check_count(name, getattr(self, name), 1, MAX_STEPS)
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, MAX_SIDE)
        check_number("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE)
        check_number("`true_cfg_scale`", self.true_cfg_scale or 0, 0, MAX_GUIDANCE)
        check_number("eta", 0 if self.eta is None else self.eta, 0, 1)
        check_number("`guidance_rescale`", self.guidance_rescale, 0, 1)
        if self.clip_skip is not None:
            check_count("`clip_skip`", self.clip_skip, 0, MAX_CLIP_SKIP)
        self._check_image()
        if self.prompt_syntax is not None:
            check_choice("`prompt_syntax`", self.prompt_syntax, SYNTAXES)
        if self.long_prompts is not None:
            check_choice("`long_prompts`", self.long_prompts, ("chunks",))
        self.check_text(self.negative)
        if self.gradient is not None and self.gradient not in GRADIENTS:
            raise UsageError(f"expected gradient {', '.join(GRADIENTS)} or None, got {self.gradient!r}")
        if isinstance(self.scheduler, str) and self.scheduler not in SCHEDULERS:
            raise unknown_name("scheduler", self.scheduler, SCHEDULERS)

    @property
    def image_strength(self) -> float:
        """Share of the steps that are taken from the image."""
        return DEFAULT_STRENGTH if self.strength is None else self.strength

    def _check_image(self) -> None:
        for name in ("strength", "image_mask"):
            if getattr(self, name) is not None and self.image is None:
                raise UsageError(f"expected an `image` with a `{name}`, got none")
        for name in ("image", "image_mask"):
            check_image_file(name, getattr(self, name))
        check_number("`strength`", self.image_strength, MIN_IMAGE_STRENGTH, 1)

    def check_text(self, text: str) -> None:
        """Refuse a text that is no prompt in these settings' syntax.

        Raises:
            UsageError: as `thalweg.prompts.check_prompt` and `thalweg.diffusion.prompting.parse_prompt`; or a part
                that begins a new chunk where long prompts are cut.
        """
        parts = parse_prompt(check_prompt(text), self.prompt_syntax)
        if len(parts) > 1 and self.long_prompts is None:
            raise UsageError(
                "expected a prompt of one chunk, got BREAK in it: set `long_prompts=chunks` for prompts of several"
            )

    def changed(self, **changes: Any) -> "SamplingConfig":
        """Return these settings with some others.

        Raises:
            UsageError: an unknown setting, or a value that no model takes.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise unknown_name("setting", unknown[0], self.__dataclass_fields__)
        return replace(self, **changes)


def check_image_file(name: str, file: str | None) -> None:
    """Refuse the name of a file that is not there.

    Args:
        name: name of the parameter in the message.
        file: the file; None: none is given.

    Raises:
        MissingPathError: there is no such file.
    """
    if file is None:
        return
    try:
        is_file = isinstance(file, str | Path) and Path(file).is_file()
    except (OSError, ValueError):  # too long, a null character
        is_file = False
    if not is_file:
        raise MissingPathError(f"expected an image file as `{name}`, found no {shown(str(file))}")
