"""Arguments and options of the image commands."""

from pathlib import Path
from typing import Annotated

import typer

Prompt = Annotated[str, typer.Argument(help="a prompt, or an embedding file (*.safetensors)")]
Folder = Annotated[Path, typer.Argument(help="run folder to write; an interrupted run is resumed")]
Seeds = Annotated[str, typer.Option(help="seeds such as 3 or 0,4,7 or 0-7")]
Model = Annotated[
    str | None, typer.Option(help="a diffusers folder or a hub model's name; the shipped miniature by default")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps ...: a device of this machine")]
DenoisingSteps = Annotated[int | None, typer.Option("--steps", help="denoising steps; the model's default if left out")]
Guidance = Annotated[float | None, typer.Option(help="guidance scale; the model's default if left out")]
Scheduler = Annotated[str | None, typer.Option(help="scheduler, such as ddim or euler; the model's own if left out")]
GradientMode = Annotated[str, typer.Option("--gradient", help="full, last_k or one_step")]
Clip = Annotated[
    str | None, typer.Option(help="a CLIP model's folder or hub name for scores; the miniature's by default")
]
