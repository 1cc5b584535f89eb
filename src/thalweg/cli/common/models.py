"""Arguments and options of the image commands."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Prompt = Annotated[str, typer.Argument(help="a prompt, or an embedding file (*.safetensors)")]
Folder = Annotated[Path, typer.Argument(help="run folder to write; an interrupted run is resumed")]

DenoisingSteps = Annotated[int | None, typer.Option("--steps", help="denoising steps; the model's default if left out")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps ...: a device of this machine")]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "clip": (
        Annotated[
            str | None,
            typer.Option(help="a CLIP or SigLIP model's folder or hub name for scores; the miniature's by default"),
        ],
        None,
    ),
    "dino": (
        Annotated[str | None, typer.Option(help="a DINOv2 model's folder or hub name, for the metric dino")],
        None,
    ),
    "lpips": (
        Annotated[str | None, typer.Option(help="folder of LPIPS: trunk and heads, for the metric lpips")],
        None,
    ),
    "image_reward": (
        Annotated[str | None, typer.Option(help="folder of ImageReward, for the metric image_reward")],
        None,
    ),
    "dreamsim": (
        Annotated[str | None, typer.Option(help="folder of DreamSim's image encoders, for the metric dreamsim")],
        None,
    ),
    "model": (
        Annotated[
            str | None,
            typer.Option(help="a diffusers folder, a checkpoint file or a hub name; the shipped miniature by default"),
        ],
        None,
    ),
    "base": (
        Annotated[
            str | None,
            typer.Option(help="a model's folder or hub name, for the configs and tokenizers of a checkpoint file"),
        ],
        None,
    ),
    "device": (Device, "cpu"),
    "lora": (
        Annotated[
            list[str] | None,
            typer.Option(metavar="FILE[:STRENGTH]", help="LoRA to add, at strength 1 by default; may be given again"),
        ],
        None,
    ),
    "inversion": (
        Annotated[
            list[str] | None,
            typer.Option(metavar="FILE", help="textual inversion, whose word prompts may hold; may be given again"),
        ],
        None,
    ),
    "negative": (
        Annotated[str | None, typer.Option(help="what prompts are guided away from; nothing if left out")],
        None,
    ),
    "steps": (DenoisingSteps, None),
    "guidance": (Annotated[float | None, typer.Option(help="guidance scale; the model's default if left out")], None),
    "true_cfg_scale": (
        Annotated[float | None, typer.Option(help="FLUX: guidance with a negative prompt, above 1; none if left out")],
        None,
    ),
    "guidance_rescale": (
        Annotated[float | None, typer.Option(help="0 to 1, against overexposure at high guidance; 0 if left out")],
        None,
    ),
    "scheduler": (
        Annotated[str | None, typer.Option(help="scheduler, such as ddim or euler; the model's own if left out")],
        None,
    ),
    "width": (Annotated[int | None, typer.Option(help="of the images, pixels; the model's own if left out")], None),
    "height": (Annotated[int | None, typer.Option(help="of the images, pixels; the model's own if left out")], None),
    "clip_skip": (
        Annotated[int | None, typer.Option(help="last layers of the CLIP text encoder to leave out; A1111's less 1")],
        None,
    ),
    "prompt_syntax": (
        Annotated[str | None, typer.Option(help="weights in prompts as a1111 or compel write them; off if left out")],
        None,
    ),
    "long_prompts": (
        Annotated[str | None, typer.Option(help="chunks: encode long prompts in several; they are cut if left out")],
        None,
    ),
    "image": (
        Annotated[str | None, typer.Option(metavar="FILE", help="image to start from; noise alone if left out")],
        None,
    ),
    "strength": (
        Annotated[float | None, typer.Option(help="share of the steps that change the image, to 1; 0.6 if left out")],
        None,
    ),
    "image_mask": (
        Annotated[str | None, typer.Option(metavar="FILE", help="mask of the image: white is generated, black kept")],
        None,
    ),
    "gradient": (
        Annotated[str, typer.Option("--gradient", help="full, last_k, one_step, shortcut, random or auto")],
        "full",
    ),
}
"""Options that name a model and its sampling: type and default of each field of `ModelConfig`."""
SCORED = ("gradient", "clip", "dino", "lpips", "image_reward", "dreamsim")
"""Options of commands that compute gradients or scores."""


def model_options(*scored: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `model_config` by the options of a model and its sampling.

    Args:
        *scored: names of `SCORED`, for commands that compute gradients or scores.

    Returns:
        A decorator. The command gets a `ModelConfig`, which has checked the options without torch.
    """
    names = [name for name in _OPTIONS if name not in SCORED or name in scored]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(*arguments: Any, **given: Any) -> None:
            from thalweg.diffusion.config import ModelConfig

            options = {name: given.pop(name, _OPTIONS[name][1]) for name in names}
            options |= {name: tuple(options[name] or ()) for name in ("lora", "inversion")}
            command(*arguments, model_config=ModelConfig(**options), **given)

        own = inspect.signature(command)
        parameters = [parameter for name, parameter in own.parameters.items() if name != "model_config"]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in _OPTIONS.items()
            if name in names
        ]
        with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate
