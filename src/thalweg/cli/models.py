"""What the image commands share: the model, where an embedding comes from, seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.diffusion.scorer import ClipScorer
    from thalweg.embedding import Embedding
    from thalweg.generator import Generator

Prompt = Annotated[str, typer.Argument(help="a prompt, or an embedding file (*.safetensors)")]
Folder = Annotated[Path, typer.Argument(help="run folder to write; an interrupted run goes on")]
Seeds = Annotated[str, typer.Option(help="seeds such as 3 or 0,4,7 or 0-7")]
Model = Annotated[
    str | None, typer.Option(help="a diffusers folder or a hub model's name; the shipped miniature by default")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
DenoisingSteps = Annotated[int | None, typer.Option("--steps", help="denoising steps; the model's default if left out")]
Guidance = Annotated[float | None, typer.Option(help="guidance scale; the model's default if left out")]
Scheduler = Annotated[str | None, typer.Option(help="scheduler, such as ddim or euler; the model's own if left out")]
GradientMode = Annotated[str, typer.Option("--gradient", help="full, last_k or one_step")]
Clip = Annotated[
    str | None, typer.Option(help="a CLIP model's folder or hub name, to score with; the miniature's by default")
]


@dataclass(frozen=True)
class ModelChoice:
    """Which model, where, and how it renders; settings left None are the model's own."""

    model: str | None = None
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    gradient: str | None = None

    def load(self) -> "DiffusionGenerator":
        """Load the model, the shipped miniature where none is named."""
        from thalweg import diffusion
        from thalweg.diffusion import miniature

        settings: dict[str, Any] = {"gradient": self.gradient}
        asked = {"steps": self.steps, "guidance_scale": self.guidance, "scheduler": self.scheduler}
        settings |= {name: value for name, value in asked.items() if value is not None}
        if self.model is None:
            return miniature.load(device=self.device, **settings)
        return diffusion.load(self.model, device=self.device, **settings)

    def load_scorer(self, clip: str | None) -> "ClipScorer":
        """Load the scorer `clip`, the miniature's where none is named.

        Raises:
            UsageError: another model is steered and no scorer is named: the miniature's knows its own world alone.
        """
        from thalweg.diffusion import miniature
        from thalweg.diffusion.scorer import load_scorer

        if clip is not None:
            return load_scorer(clip, self.device)
        if self.model is not None:
            raise UsageError(
                f"expected --clip to score images of {self.model} with, such as openai/clip-vit-base-patch32"
            )
        return miniature.load_scorer(device=self.device)


def read_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds written as 3, 0,4,7 or 0-7.

    Raises:
        UsageError: not seeds, or negative or repeated ones.
    """
    from thalweg.generator import check_seeds

    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first and dash:
            raise UsageError(f"expected seeds of 0 or more, got {part.strip()}")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"expected seeds such as 3 or 0,4,7 or 0-7, got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    return check_seeds(seeds)


def read_embedding(text: str, generator: "Generator") -> "Embedding":
    """Return the embedding in the file of that name, or of that prompt."""
    from thalweg.embedding import SUFFIX, Embedding

    if text.endswith((SUFFIX, ".pt")):
        return Embedding.load(text, generator.model).to("cpu")
    return generator.embed(text)
