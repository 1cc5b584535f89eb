"""Config of a model: folder or hub name, device and sampling; checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.devices import check_device_name
from thalweg.diffusion.adapter_files import LoraFile, check_inversion_file
from thalweg.diffusion.checkpoints.model_folder import find_folder
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import UsageError
from thalweg.io.json_files import read_as

if TYPE_CHECKING:
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.diffusion.image_encoders.dino import DinoEncoder


@dataclass(frozen=True)
class ModelConfig:
    """Model and sampling as a command, a run folder and the browser name them; None stands for the model's own.

    A folder's path is made absolute, so that a run can be resumed from anywhere.

    Attributes:
        model: a diffusers folder or a hub model's name; None: the shipped miniature.
        device: cpu, cuda, cuda:1, mps ...
        steps: denoising steps.
        guidance: guidance scale.
        scheduler: scheduler, such as ddim or euler.
        gradient: gradient mode; None: no gradient.
        clip: the CLIP or SigLIP model to score with; None: the miniature's.
        dino: the DINOv2 model that compares images; None: none.
        lora: LoRA files, each as "path" or "path:strength".
        inversion: files of textual inversions.
        negative: what prompts are guided away from.
        width: of the images, pixels.
        height: of the images, pixels.
        clip_skip: last layers of the CLIP text encoders to leave out.
        guidance_rescale: see `SamplingConfig`.

    Raises:
        UsageError: a value that no model takes, or a name of neither a folder nor a hub model.
    """

    model: str | None = None
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    gradient: str | None = None
    clip: str | None = None
    dino: str | None = None
    lora: tuple[str, ...] = ()
    inversion: tuple[str, ...] = ()
    negative: str | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    guidance_rescale: float | None = None

    def __post_init__(self) -> None:
        SamplingConfig().changed(**self._sampling())
        check_device_name(self.device)
        for name in ("model", "clip", "dino"):
            given = getattr(self, name)
            if given is not None and (folder := find_folder(given)) is not None:
                object.__setattr__(self, name, str(folder.resolve()))
        object.__setattr__(self, "lora", tuple(LoraFile.parse(text).absolute() for text in self.lora))
        files = tuple(str(check_inversion_file(Path(file))) for file in self.inversion)
        object.__setattr__(self, "inversion", files)

    @property
    def name(self) -> str:
        """Name of the model for users."""
        return self.model or "the miniature"

    @property
    def has_scorer(self) -> bool:
        """True where `load_scorer` loads a scorer without being told which."""
        return self.model is None or self.clip is not None

    @classmethod
    def read(cls, record: Mapping[str, Any], where: str) -> "ModelConfig":
        """Return the config in a run's record; `where` is the name of the record in messages.

        Raises:
            UsageError: it can't be read.
        """
        return read_as(cls, dict(record), f"{where}: its model config")

    def load(self) -> "DiffusionGenerator":
        """Return the model, loaded; the shipped miniature where none is named.

        Raises:
            UsageError: as `thalweg.diffusion.load`.
            ThalwegError: as `thalweg.diffusion.load`.
        """
        if self.model is None:
            from thalweg.diffusion import miniature

            generator = miniature.load(device=self.device, **self._sampling())
        else:
            from thalweg.diffusion.loading import load

            generator = load(self.model, device=self.device, **self._sampling())
        if self.lora or self.inversion:
            from thalweg.diffusion.adapters import add_inversions, add_loras

            add_inversions(generator, self.inversion)
            add_loras(generator, self.lora)
        return generator

    def load_scorer(self) -> "ClipScorer":
        """Return the scorer `clip`, loaded; the miniature's where none is named.

        Raises:
            UsageError: another model is used and no scorer is named: the miniature's scorer knows its own images alone.
        """
        from thalweg.diffusion import miniature
        from thalweg.diffusion.clip import load_scorer

        if self.clip is not None:
            return load_scorer(self.clip, self.device)
        if self.model is not None:
            raise UsageError(
                f"expected `clip` to score images of {self.model} with, such as openai/clip-vit-base-patch32"
            )
        return miniature.load_scorer(device=self.device)

    def load_dino(self) -> "DinoEncoder":
        """Return the encoder `dino`, loaded.

        Raises:
            UsageError: none is named.
        """
        from thalweg.diffusion.image_encoders.dino import load_dino

        if self.dino is None:
            raise UsageError("expected `dino` to compare images with, such as facebook/dinov2-small")
        return load_dino(self.dino, self.device)

    def _sampling(self) -> dict[str, Any]:
        """Return the sampling settings that are given, under the names of `SamplingConfig`."""
        given = {"steps": self.steps, "guidance_scale": self.guidance, "scheduler": self.scheduler}
        given |= {
            name: getattr(self, name) for name in ("negative", "width", "height", "clip_skip", "guidance_rescale")
        }
        return {"gradient": self.gradient} | {name: value for name, value in given.items() if value is not None}
