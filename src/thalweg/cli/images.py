"""`thalweg generate` and `thalweg miniature`: images from prompts, and the model that ships."""

import json
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.models import DenoisingSteps, Device, Folder, Guidance, Model, Prompt, Scheduler, Seeds
from thalweg.cli.progress import progress
from thalweg.limits import MAX_IMAGES, check_count

miniature = typer.Typer(no_args_is_help=True, help="The small text-to-image model that ships: train it, measure it.")


def generate(
    prompt: Prompt,
    out: Folder,
    seeds: Seeds = "0",
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
) -> None:
    """Render a prompt or an embedding file; writes the images, a sheet of them and the embedding."""
    import torch

    from thalweg.diffusion.config import ModelConfig
    from thalweg.generator import read_embedding
    from thalweg.seeds import read_seeds
    from thalweg.steer.runs import Run, contact_sheet, remove_failed_run

    numbers = read_seeds(seeds)
    choice = ModelConfig(model, device, steps, guidance, scheduler)
    generator = choice.load()
    embedding = read_embedding(prompt, generator)
    with remove_failed_run(out):
        run = Run.create(out, "generate", generator.model, {"prompt": prompt, "seeds": numbers}, vars(choice))
        with progress("images") as show:
            images = []
            for index, seed in enumerate(numbers):
                images.append(generator.render(embedding, [seed])[0])
                run.write_image(f"seed-{seed}.png", images[-1])
                show(index + 1, len(numbers))
        run.write_image("sheet.png", contact_sheet(torch.stack(images), columns=min(8, len(images))))
        embedding.save(run.path("embedding.safetensors"))
    print(f"images: {out}")


@miniature.command()
def train(
    out: Annotated[Path, typer.Argument(help="folder to write; an interrupted training goes on")],
    device: Device = "cpu",
    seed: Annotated[int, typer.Option(help="seed of the world, the networks and the batches")] = 0,
    images: Annotated[int | None, typer.Option(help="renderings to train on; the recipe's if left out")] = None,
    denoiser_steps: Annotated[
        int | None, typer.Option(help="denoiser's training steps; the recipe's if left out")
    ] = None,
) -> None:
    """Train the miniature from its world: hours on a CPU, minutes on a GPU."""
    from dataclasses import replace

    from thalweg.diffusion.miniature.training import TrainingRecipe
    from thalweg.diffusion.miniature.training import train as train_all
    from thalweg.seeds import check_seeds

    for name, count in (("--images", images), ("--denoiser-steps", denoiser_steps)):
        check_count(name, 1 if count is None else count, 1, MAX_IMAGES)
    check_seeds([seed])
    asked = {"images": images, "denoiser_steps": denoiser_steps}
    recipe = replace(TrainingRecipe(seed=seed), **{name: value for name, value in asked.items() if value is not None})
    with progress("steps") as show:
        train_all(out, recipe, lambda stage, done, total, loss: show(done, total), device)
    print(f"miniature: {out}")


@miniature.command()
def evaluate(
    model: Annotated[Path | None, typer.Option(help="a trained miniature; the shipped one by default")] = None,
    reader: Annotated[Path | None, typer.Option(help="a trained reader's weights; the shipped ones by default")] = None,
    images: Annotated[int, typer.Option(help="images for unseen captions")] = 500,
    json_file: Annotated[Path | None, typer.Option("--json", help="where to write the figures")] = None,
) -> None:
    """Measure adherence to captions and spread over seeds, as in the model card."""
    from thalweg.diffusion.miniature import READER, SHIPPED
    from thalweg.diffusion.miniature.evaluation import evaluate as measure

    check_count("--images", images, 1, MAX_IMAGES)
    with progress("images") as show:
        figures = measure(model or SHIPPED, reader_weights=reader or READER, images=images, progress=show)
    text = json.dumps(figures, indent=2)
    if json_file is not None:
        json_file.write_text(text + "\n")
    print(text)
