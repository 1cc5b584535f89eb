"""Config of a model: folder or hub name, device and sampling; checked before anything is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.devices import check_device_name
from thalweg.diffusion.adapter_files import LoraFile, check_inversion_file
from thalweg.diffusion.checkpoints.model_folder import find_folder
from thalweg.diffusion.checkpoints.single_file import find_model
from thalweg.diffusion.sampling_config import SamplingConfig
from thalweg.errors import UsageError
from thalweg.io.hashing import file_hash, json_hash
from thalweg.io.json_files import read_as
from thalweg.limits import shown

if TYPE_CHECKING:
    from thalweg.diffusion.clip import ClipScorer
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.diffusion.image_encoders.dino import DinoEncoder
    from thalweg.diffusion.image_encoders.dreamsim import DreamSim
    from thalweg.diffusion.image_encoders.image_reward import ImageReward
    from thalweg.diffusion.image_encoders.lpips import Lpips

_SAMPLING = (
    *("negative", "width", "height", "clip_skip", "guidance_rescale", "prompt_syntax", "long_prompts"),
    *("image", "strength", "image_mask", "true_cfg_scale"),
)
"""Fields of `SamplingConfig` that a model config has under the same name."""


@dataclass(frozen=True)
class ModelConfig:
    """Model and sampling as a command, a run folder and the browser name them; None stands for the model's own.

    A folder's path is made absolute, so that a run can be resumed from anywhere.

    Attributes:
        model: a diffusers folder, a single-file checkpoint or a hub model's name; None: the shipped miniature.
        base: folder or hub name of the model whose configs and tokenizers a single-file checkpoint takes.
        device: cpu, cuda, cuda:1, mps ...
        steps: denoising steps.
        guidance: guidance scale.
        scheduler: scheduler, such as ddim or euler.
        gradient: gradient mode; None: no gradient.
        clip: the CLIP or SigLIP model to score with; None: the miniature's.
        dino: the DINOv2 model that compares images; None: none.
        lpips: the folder of the LPIPS distance; None: none.
        image_reward: the folder of ImageReward; None: none.
        dreamsim: the folder of DreamSim's image encoders; None: none.
        lora: LoRA files, each as "path" or "path:strength".
        inversion: files of textual inversions.
        negative: what prompts are guided away from.
        width: of the images, pixels.
        height: of the images, pixels.
        clip_skip: last layers of the CLIP text encoders to leave out.
        guidance_rescale: see `SamplingConfig`.
        prompt_syntax: weights that prompts hold: a1111 or compel.
        long_prompts: chunks, for prompts beyond the text encoder's length.
        true_cfg_scale: guidance scale of FLUX with a negative prompt.
        image: file of an image that chains start from.
        strength: share of the steps that are taken from it.
        image_mask: file of a mask of the image: white is generated.
        image_hash: hash of both files' content; a config with another one is refused.

    Raises:
        UsageError: a value that no model takes, or a name of neither a folder nor a hub model.
    """

    model: str | None = None
    base: str | None = None
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    gradient: str | None = None
    clip: str | None = None
    dino: str | None = None
    lpips: str | None = None
    image_reward: str | None = None
    dreamsim: str | None = None
    lora: tuple[str, ...] = ()
    inversion: tuple[str, ...] = ()
    negative: str | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    guidance_rescale: float | None = None
    prompt_syntax: str | None = None
    long_prompts: str | None = None
    true_cfg_scale: float | None = None
    image: str | None = None
    strength: float | None = None
    image_mask: str | None = None
    image_hash: str | None = None

    def __post_init__(self) -> None:
        SamplingConfig().changed(**self._sampling())
        self._find_images()
        check_device_name(self.device)
        for name in ("model", "base", "clip", "dino", "lpips", "image_reward", "dreamsim"):
            given = getattr(self, name)
            if given is not None and name not in ("model", "base"):
                _check_no_file(name, given)
            find = find_model if name == "model" else find_folder
            if given is not None and (path := find(given)) is not None:
                object.__setattr__(self, name, str(path.resolve()))
        if self.base is not None and not (self.model and Path(self.model).is_file()):
            raise UsageError(f"expected no `base` for {self.name}: only a single-file checkpoint needs one")
        object.__setattr__(self, "lora", tuple(LoraFile.parse(text).absolute() for text in self.lora))
        files = tuple(str(check_inversion_file(Path(file))) for file in self.inversion)
        object.__setattr__(self, "inversion", files)

    def _find_images(self) -> None:
        """Make the image's and the mask's paths absolute, and hash the files.

        Raises:
            UsageError: the hash of the files is not the config's.
        """
        names = [name for name in ("image", "image_mask") if getattr(self, name) is not None]
        if not names:
            return
        for name in names:
            object.__setattr__(self, name, str(Path(getattr(self, name)).resolve()))
        files = [Path(getattr(self, name)) for name in names]
        found = json_hash([file_hash(file) for file in files])
        if self.image_hash not in (None, found):
            changed = " or ".join(file.name for file in files)
            raise UsageError(f"{changed} was changed since the run began: restore it, or begin a new run")
        object.__setattr__(self, "image_hash", found)

    @property
    def name(self) -> str:
        """Name of the model for users."""
        return self.model or "the miniature"

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

            generator = load(self.model, base=self.base, device=self.device, **self._sampling())
        if self.lora or self.inversion:
            from thalweg.diffusion.adapters import add_inversions, add_loras

            add_inversions(generator, self.inversion)
            add_loras(generator, self.lora)
        return generator

    @property
    def has_scorer(self) -> bool:
        """True where there is a scorer of texts and images: one is named, or the model is the miniature."""
        return self.clip is not None or self.model is None

    def load_scorer(self) -> "ClipScorer":
        """Return the scorer `clip`, loaded; the miniature's where none is named.

        Raises:
            UsageError: another model is used and no scorer is named: the miniature's scorer knows its own images alone.
        """
        from thalweg.diffusion import miniature
        from thalweg.diffusion.clip import load_scorer

        if self.clip is not None:
            return load_scorer(self.clip, self.device)
        if not self.has_scorer:
            raise UsageError(
                f"expected `clip` to score images of {self.model} with, such as openai/clip-vit-base-patch32"
            )
        return miniature.load_scorer(device=self.device)

    def _named(self, name: str, use: str) -> str:
        """Return the folder or hub name of a metric's model.

        Args:
            name: the field that holds it.
            use: what it is expected for, for the message.

        Raises:
            UsageError: none is named.
        """
        given: str | None = getattr(self, name)
        if given is None:
            raise UsageError(f"expected `{name}` to {use}")
        return given

    def load_dino(self) -> "DinoEncoder":
        """Return the encoder `dino`, loaded.

        Raises:
            UsageError: none is named.
        """
        from thalweg.diffusion.image_encoders.dino import load_dino

        source = self._named("dino", "compare images with, such as facebook/dinov2-small")
        return load_dino(source, self.device)

    def load_lpips(self) -> "Lpips":
        """Return the distance `lpips`, loaded.

        Raises:
            UsageError: none is named.
        """
        from thalweg.diffusion.image_encoders.lpips import load_lpips

        source = self._named("lpips", "compare images with, a folder with its trunk and heads")
        return load_lpips(source, self.device)

    def load_image_reward(self) -> "ImageReward":
        """Return the model `image_reward`, loaded.

        Raises:
            UsageError: none is named.
        """
        from thalweg.diffusion.image_encoders.image_reward import load_image_reward

        source = self._named("image_reward", "score images with, the folder of ImageReward")
        return load_image_reward(source, self.device)

    def load_dreamsim(self) -> "DreamSim":
        """Return the encoder `dreamsim`, loaded.

        Raises:
            UsageError: none is named.
        """
        from thalweg.diffusion.image_encoders.dreamsim import load_dreamsim

        source = self._named("dreamsim", "compare images with, the folder of DreamSim's image encoders")
        return load_dreamsim(source, self.device)

    @property
    def metric_loaders(self) -> dict[str, Callable[[], Any]]:
        """Functions that load the models of metrics other than the scorer, by the metric's name."""
        return {
            "dino": self.load_dino,
            "lpips": self.load_lpips,
            "image_reward": self.load_image_reward,
            "dreamsim": self.load_dreamsim,
        }

    def _sampling(self) -> dict[str, Any]:
        """Return the sampling settings that are given, under the names of `SamplingConfig`."""
        given = {"steps": self.steps, "guidance_scale": self.guidance, "scheduler": self.scheduler}
        given |= {name: getattr(self, name) for name in _SAMPLING}
        return {"gradient": self.gradient} | {name: value for name, value in given.items() if value is not None}


def _check_no_file(name: str, given: str) -> None:
    """Refuse a file, or nothing, where a metric's model is expected, which is a folder.

    Raises:
        UsageError: `given` is empty or the name of a file.
    """
    try:
        is_file = Path(given).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # `find_folder` says what is wrong
        return
    if is_file or not given.strip():
        got = f"the file {shown(given)}" if is_file else "nothing"
        raise UsageError(f"expected a model's folder as `{name}`, got {got}: give the folder with its files")
