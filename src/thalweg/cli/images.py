"""`thalweg generate` and `thalweg miniature`: images from prompts, and the model that ships."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.models import Device, Folder, Prompt, model_options
from thalweg.cli.common.progress import announce, progress
from thalweg.cli.common.seed_options import SEED_FLAGS, Seeds
from thalweg.cli.steer_runs import render_or_read
from thalweg.limits import MAX_IMAGES, check_count

if TYPE_CHECKING:
    from thalweg.diffusion.config import ModelConfig

miniature = typer.Typer(no_args_is_help=True, help="The small text-to-image model that ships: train it, evaluate it.")


@model_options()
def generate(
    prompt: Prompt,
    out: Folder,
    seeds: Seeds = "0",
    *,
    model_config: "ModelConfig",
) -> None:
    """Render a prompt or an embedding file; writes the images, a contact sheet and the embedding."""
    from thalweg.prompts import check_prompt_or_file, is_embedding_name
    from thalweg.seeds import read_seeds
    from thalweg.steer.runs import Run, check_resumable, remove_failed_run

    numbers = read_seeds(seeds)
    settings = {"prompt": prompt, "seeds": numbers}
    check_prompt_or_file(prompt)
    check_resumable(out, "generate", settings, vars(model_config))
    announce(f"loading {model_config.name}")

    import torch

    from thalweg.embedding import Embedding
    from thalweg.generator import read_embedding
    from thalweg.steer.sheets import labelled_sheet
    from thalweg.steer.tool_config import check_unchanged

    generator = model_config.load()
    file = out / "embedding.safetensors"
    is_begun = file.is_file()
    embedding = Embedding.load(file, generator.model) if is_begun else read_embedding(prompt, generator)
    if is_begun and is_embedding_name(prompt):
        check_unchanged(prompt, read_embedding(prompt, generator).hash, embedding.hash)
    with remove_failed_run(out):
        run = Run.resume_or_create(out, "generate", generator.model, settings, vars(model_config))
        if not is_begun:
            embedding.save(file)
        with progress("images") as show:
            files = {f"seed-{seed}.png": (embedding, seed) for seed in numbers}
            images = render_or_read(run, generator, files, lambda done: show(done, len(numbers)))
        labels = [f"seed {seed}" for seed in numbers]
        run.write_image("sheet.png", labelled_sheet(torch.stack(images), min(8, len(numbers)), labels))
    print(f"images: {out}")


@miniature.command()
def train(
    out: Annotated[Path, typer.Argument(help="folder to write; an interrupted training is resumed")],
    device: Device = "cpu",
    seed: Annotated[str, typer.Option(*SEED_FLAGS, help="seed of the dataset, the networks and the batches")] = "0",
    images: Annotated[int | None, typer.Option(help="renderings to train on; the recipe's if left out")] = None,
    denoiser_steps: Annotated[
        int | None, typer.Option(help="denoiser's training steps; the recipe's if left out")
    ] = None,
) -> None:
    """Train the miniature on its synthetic dataset: hours on a CPU, minutes on a GPU."""
    from dataclasses import replace

    from thalweg.devices import check_device_name
    from thalweg.seeds import read_seed

    counts = {"images": images, "denoiser_steps": denoiser_steps}
    given = {
        name: check_count(f"`{name}`", count, 1, MAX_IMAGES) for name, count in counts.items() if count is not None
    }
    number = read_seed(seed)
    check_device_name(device)
    announce("loading torch")
    from thalweg.diffusion.miniature.training import TrainingRecipe
    from thalweg.diffusion.miniature.training import train as train_all

    with progress("steps") as show:
        recipe = replace(TrainingRecipe(seed=number), **given)
        train_all(out, recipe, lambda stage, done, total, loss: show(done, total, stage), device)
    print(f"miniature: {out}")


@miniature.command()
def evaluate(
    model: Annotated[Path | None, typer.Option(help="a trained miniature; the shipped one by default")] = None,
    classifier: Annotated[
        Path | None,
        typer.Option("--reader", help="weights of a trained attribute classifier; the shipped ones by default"),
    ] = None,
    images: Annotated[int, typer.Option(help="images for unseen captions")] = 500,
    json_file: Annotated[Path | None, typer.Option("--json", help="file to write the figures to")] = None,
) -> None:
    """Measure adherence to captions and spread over seeds, as in the model card."""
    from thalweg.diffusion.miniature import ATTRIBUTE_CLASSIFIER, SHIPPED, check_attribute_classifier, check_folder

    count = check_count("`images`", images, 1, MAX_IMAGES)
    folder = check_folder(model or SHIPPED)
    weights = check_attribute_classifier(classifier or ATTRIBUTE_CLASSIFIER)
    announce(f"loading {folder}")
    from thalweg.diffusion.miniature.evaluation import evaluate as measure

    with progress("images") as show:
        figures = measure(folder, classifier_weights=weights, images=count, progress=show)
    text = json.dumps(figures, indent=2)
    if json_file is not None:
        json_file.write_text(text + "\n")
    print(text)
