"""Which text-to-image model is used and how it renders: what a command line, a run folder and the browser agree on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.diffusion.checkpoints.model_folder import find_folder
from thalweg.errors import UsageError
from thalweg.io.json_files import read_as

if TYPE_CHECKING:
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.generator import DiffusionGenerator


@dataclass(frozen=True)
class ModelConfig:
    """Which model, where, and how it renders; settings left None are the model's own.

    A folder's path is made absolute, so that a run can be resumed from anywhere.

    Attributes:
        model: a diffusers folder or a hub model's name; None: the shipped miniature.
        device: cpu, cuda, cuda:1, mps ...
        steps: denoising steps.
        guidance: guidance scale.
        scheduler: scheduler, such as ddim or euler.
        gradient: gradient mode; None: no gradient.
        clip: the CLIP model to score with; None: the miniature's.
    """

    model: str | None = None
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    gradient: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "clip"):
            given = getattr(self, name)
            if given is not None and (folder := find_folder(given)) is not None:
                object.__setattr__(self, name, str(folder.resolve()))

    @classmethod
    def read(cls, record: Mapping[str, Any], where: str) -> "ModelConfig":
        """Return the choice that a run's record holds; `where` is what a message names.

        Raises:
            UsageError: it can't be read.
        """
        return read_as(cls, dict(record), f"{where}: how its model was loaded")

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

    def load_scorer(self) -> "ClipScorer":
        """Load the scorer `clip`, the miniature's where none is named.

        Raises:
            UsageError: another model is steered and no scorer is named: the miniature's knows its own world alone.
        """
        from thalweg.diffusion import miniature
        from thalweg.diffusion.clip import load_scorer

        if self.clip is not None:
            return load_scorer(self.clip, self.device)
        if self.model is not None:
            raise UsageError(
                f"expected --clip to score images of {self.model} with, such as openai/clip-vit-base-patch32"
            )
        return miniature.load_scorer(device=self.device)
