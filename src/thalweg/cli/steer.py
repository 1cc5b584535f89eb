"""`thalweg steer`: optimize, navigate, path and imprint in the terminal, each in one run folder."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from thalweg.cli.common.models import SCORED, DenoisingSteps, Folder, Prompt, model_options
from thalweg.cli.common.progress import announce
from thalweg.cli.common.seed_options import SEED_FLAGS, Seeds
from thalweg.cli.steer_runs import render_path, run_imprint, run_navigate, run_optimize
from thalweg.errors import UsageError
from thalweg.limits import MAX_CANDIDATES, MAX_FRAMES, check_choice, check_count

if TYPE_CHECKING:
    from thalweg.diffusion.config import ModelConfig

steer = typer.Typer(no_args_is_help=True, help="Move a prompt embedding: by a metric, by choosing, by a seed.")

Iterations = Annotated[int | None, typer.Option(help="steps of the tool; its default if left out")]
Radius = Annotated[float | None, typer.Option(help="largest drift from the start; the tool's default if left out")]
PathMethod = Annotated[str, typer.Option("--method", help="lerp, slerp or transport")]


@steer.command()
@model_options(*SCORED)
def optimize(
    prompt: Prompt,
    out: Folder,
    metric: Annotated[str, typer.Option(help="such as sharpness, 'contrast + 0.5*blur' or 'text: a red ball'")],
    keep: Annotated[
        str | None,
        typer.Option(help="a metric that must not fall; the prompt's own text score if left out, none: no constraint"),
    ] = None,
    seeds: Seeds = "0-3",
    unseen: Annotated[str, typer.Option(help="seeds to evaluate the result on")] = "100-107",
    iterations: Iterations = None,
    radius: Radius = None,
    search: Annotated[str, typer.Option(help="gradient, or cma-es for a metric without one")] = "gradient",
    recipe: Annotated[str, typer.Option(help="thalweg, or paper for the published optimizer")] = "thalweg",
    move: Annotated[str, typer.Option(help="embedding, noise (of these seeds alone) or both")] = "embedding",
    restarts: Annotated[int, typer.Option(help="number of starts that share the iterations")] = 1,
    *,
    model_config: "ModelConfig",
) -> None:
    """Move the embedding until its images score high on a metric."""
    from dataclasses import replace

    from thalweg.prompts import check_prompt_or_file
    from thalweg.seeds import read_seeds
    from thalweg.steer.metrics.expression import with_absolute_files
    from thalweg.steer.optimization.optimize_config import Move, OptimizeConfig, Recipe, Search, constraint
    from thalweg.steer.runs import check_resumable, remove_failed_run

    check_prompt_or_file(prompt)
    config = OptimizeConfig(
        with_absolute_files(metric),
        read_seeds(seeds),
        prompt=prompt,
        keep=None if recipe == "paper" and not keep else constraint(keep, prompt, model_config.has_scorer),
        unseen=read_seeds(unseen),
        iterations=iterations,
        radius=radius,
        search=cast(Search, search),
        recipe=cast(Recipe, recipe),
        move=cast(Move, move),
        restarts=restarts,
    )
    for option, modes in (("search=cma-es", ["full"]), ("recipe=paper", ["full", "one_step"])):
        if option in (f"search={search}", f"recipe={recipe}") and model_config.gradient not in modes:
            raise UsageError(f"`{option}` does not use `gradient={model_config.gradient}`; leave out one of both")
    if search == "cma-es":
        model_config = replace(model_config, gradient=None)
    check_resumable(out, config.operation, config.record(), vars(model_config))
    announce(f"loading {model_config.name}")
    with_metrics = config.with_metrics(model_config.load_scorer, loaders=model_config.metric_loaders)
    generator = model_config.load()
    with remove_failed_run(out):
        run = config.begin_run(out, generator, vars(model_config))
        run_optimize(with_metrics, run, generator)


@steer.command()
@model_options()
def navigate(
    prompt: Annotated[str, typer.Argument(help="a prompt or an embedding file; ignored where a run is resumed")],
    out: Folder,
    candidates: Annotated[int, typer.Option(help="number of candidates per round")] = 5,
    seeds: Annotated[str, typer.Option(help="seeds of the images such as 3 or 0,4,7 or 0-7")] = "0",
    seed: Annotated[str, typer.Option(help="one seed, of all random draws")] = "0",
    recipe: Annotated[str, typer.Option(help="preference, paper or random")] = "preference",
    *,
    model_config: "ModelConfig",
) -> None:
    """Move by choosing: look at the sheet of each round, type the number of the image you like best.

    After the number a strength may follow ("2 0.5"). 0: none of these; u: undo; f: fork; q: quit, resume later.
    """
    from dataclasses import replace

    from thalweg.prompts import check_prompt_or_file
    from thalweg.seeds import read_seed, read_seeds
    from thalweg.steer.navigation.navigate_config import NavigateConfig, Recipe
    from thalweg.steer.runs import RECORD, Run, check_new_folder, remove_failed_run

    check_count("`candidates`", candidates, 1, MAX_CANDIDATES)
    config = NavigateConfig(prompt, read_seeds(seeds), read_seed(seed), cast(Recipe, recipe))
    is_begun = (out / RECORD).is_file()
    if is_begun:
        Run.open(out, "navigate")
    else:
        check_prompt_or_file(prompt)
        check_new_folder(out)
    announce(f"loading {model_config.name}")

    from thalweg.generator import read_embedding
    from thalweg.steer.navigation.navigation import Navigation

    generator = model_config.load()
    if is_begun:
        run_navigate(Navigation.open(out, generator), out, candidates)
        return
    start = read_embedding(prompt, generator)
    config = replace(config, prompt=start.lineage.prompt)
    with remove_failed_run(out):
        run_navigate(Navigation(generator, config, out, start, loading=vars(model_config)), out, candidates)


@steer.command("path")
@model_options()
def interpolate(
    start: Prompt,
    end: Prompt,
    out: Folder,
    count: Annotated[int, typer.Option(help="images on the strip, both ends included")] = 9,
    method: PathMethod = "slerp",
    around_empty: Annotated[bool, typer.Option(help="turn about the empty prompt rather than about zero")] = False,
    even: Annotated[bool, typer.Option(help="equal steps in the image rather than in the embedding")] = True,
    seeds: Seeds = "0",
    *,
    model_config: "ModelConfig",
) -> None:
    """Interpolate between two embeddings; writes the film strip, one row per seed."""
    from thalweg.prompts import check_prompt_or_file
    from thalweg.seeds import read_seeds
    from thalweg.steer.path_methods import METHODS, Method
    from thalweg.steer.runs import Run, check_resumable, remove_failed_run

    check_count("`count`", count, 2, MAX_FRAMES)
    check_choice("`method`", method, METHODS)
    for prompt in (start, end):
        check_prompt_or_file(prompt)
    numbers = read_seeds(seeds)
    settings = {"start": start, "end": end, "method": method, "count": count, "seeds": numbers}
    settings |= {"even": even, "around_empty": around_empty}
    check_resumable(out, "path", settings, vars(model_config))
    announce(f"loading {model_config.name}")

    import torch

    from thalweg.generator import embed_like, read_ends
    from thalweg.steer.interpolation import PathConfig
    from thalweg.steer.sheets import labelled_sheet

    generator = model_config.load()
    first, last = read_ends(start, end, generator)
    centre = embed_like("", first, generator) if around_empty else None
    with remove_failed_run(out):
        run = Run.resume_or_create(out, "path", generator.model, settings, vars(model_config))
        config = PathConfig(count, cast(Method, method), centre)
        images = render_path(run, generator, (first, last), numbers, config, even)
        labels = [f"{frame} of {count}, seed {seed}" for seed in numbers for frame in range(1, count + 1)]
        run.write_image("strip.png", labelled_sheet(torch.stack(images), count, labels))
    print(f"film strip: {out / 'strip.png'}")


@steer.command()
@model_options("clip", "gradient")
def imprint(
    prompt: Prompt,
    out: Folder,
    seed: Annotated[str, typer.Option(*SEED_FLAGS, help="the seed that shows what you like")],
    keep: Annotated[str | None, typer.Option(help="what of it, such as 'the colour'; all if left out")] = None,
    mask: Annotated[Path | None, typer.Option(help="an image, white where the target is to be copied")] = None,
    mode: Annotated[str, typer.Option(help="image, token (a textual inversion) or paper")] = "image",
    unseen: Annotated[int, typer.Option(help="number of unseen seeds to report on")] = 16,
    iterations: Iterations = None,
    radius: Radius = None,
    *,
    model_config: "ModelConfig",
) -> None:
    """Put what one seed shows into the embedding, so that other seeds show it too."""
    from thalweg.prompts import check_prompt_or_file
    from thalweg.seeds import read_seed
    from thalweg.steer.imprinting.imprint_config import ImprintConfig, Mode
    from thalweg.steer.runs import check_resumable, remove_failed_run

    check_prompt_or_file(prompt)
    if keep and mask is not None:
        raise UsageError("expected one of `keep` and `mask`, got both; leave one out")
    content = None if mask is None else _mask_content(mask)
    config = ImprintConfig(
        read_seed(seed),
        prompt,
        keep,
        cast(Mode, mode),
        unseen,
        iterations,
        radius,
        mask_hash=None if content is None else hashlib.sha256(content).hexdigest(),
    )
    check_resumable(out, config.operation, config.record(), vars(model_config))
    announce(f"loading {model_config.name}")

    from thalweg.steer.imprinting.imprint import MASK

    generator = model_config.load()
    with remove_failed_run(out):
        run = config.begin_run(out, generator, vars(model_config))
        if content is not None:
            run.write_bytes(MASK, content)
        run_imprint(config, run, generator, model_config)


def _mask_content(path: Path) -> bytes:
    """Return the bytes of a mask file that can be read as an image."""
    from thalweg.io.image_files import read_mask

    read_mask(path)
    return path.read_bytes()


@steer.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="a run folder of optimize, navigate or imprint")],
    candidates: Annotated[int, typer.Option(help="navigate: number of candidates per round")] = 5,
    device: Annotated[str | None, typer.Option(help="cpu, cuda ...; the run's own if left out")] = None,
) -> None:
    """Resume a run where it stopped, with the model and the settings it began with."""
    from dataclasses import replace

    from thalweg.diffusion.config import ModelConfig
    from thalweg.steer.imprinting.imprint_config import ImprintConfig
    from thalweg.steer.navigation.navigate_config import NavigateConfig
    from thalweg.steer.optimization.optimize_config import OptimizeConfig
    from thalweg.steer.runs import Run

    check_count("`candidates`", candidates, 1, MAX_CANDIDATES)
    run = Run.open_any(folder)
    configs: dict[str, Any] = {"optimize": OptimizeConfig, "navigate": NavigateConfig, "imprint": ImprintConfig}
    if run.operation not in configs:
        raise UsageError(f"{folder}: expected a run of optimize, navigate or imprint, got one of {run.operation}")
    config = configs[run.operation].read(run)
    config.check_files(run)
    model_config = ModelConfig.read(run.loading, str(folder))
    model_config = replace(model_config, device=device or model_config.device)
    announce(f"loading {model_config.name}")
    if run.operation == "navigate":
        from thalweg.steer.navigation.navigation import Navigation

        run_navigate(Navigation.open(folder, model_config.load()), folder, candidates)
    elif run.operation == "optimize":
        with_metrics = config.with_metrics(model_config.load_scorer, loaders=model_config.metric_loaders)
        run_optimize(with_metrics, run, model_config.load())
    else:
        run_imprint(config, run, model_config.load(), model_config)


@steer.command()
def export(
    run: Annotated[Path, typer.Argument(help="a run folder of optimize, navigate or imprint")],
    out: Annotated[Path, typer.Argument(help="embedding file to write (*.safetensors)")],
    node: Annotated[int | None, typer.Option(help="a node of a navigation's tree; the current one by default")] = None,
) -> None:
    """Copy the result of a run into one embedding file."""
    from thalweg.embedding import Embedding
    from thalweg.steer.navigation.history import Tree
    from thalweg.steer.runs import Run

    opened = Run.open_any(run)
    operation = opened.operation
    if operation == "navigate":
        tree = Tree.load(opened, opened.model)
        embedding = tree.node(tree.current if node is None else node).embedding
    else:
        names = dict.fromkeys(("imprint", "generate"), "embedding.safetensors") | {"optimize": "best.safetensors"}
        if operation not in names:
            raise UsageError(f"{run}: expected a run of navigate or {', '.join(names)}, got one of {operation}")
        embedding = Embedding.load(run / names[operation], opened.model)
    print(f"embedding: {embedding.save(out)}")


@steer.command()
def metrics() -> None:
    """List the metrics: how each is written, what it measures and which direction is better."""
    from thalweg.steer.metrics.expression import DESCRIPTIONS

    width = max(map(len, DESCRIPTIONS))
    for example, description in DESCRIPTIONS.items():
        print(f"{example:{width}}  {description}")
    print("\nJoined by +, - and * with numbers, such as 'contrast + 0.5*sharpness' or 'text: a ball - 0.1*blur'.")


@steer.command()
def demo(
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    iterations: Annotated[int | None, typer.Option(help="steps of the tools; 12 and 8 if left out")] = None,
    steps: DenoisingSteps = 12,
) -> None:
    """Run three tools offline on the shipped miniature: sharper, from one object to another, one seed for all."""
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    optimize("a ball", out / "optimize", "sharpness", keep="text: a ball", iterations=iterations or 12, steps=steps)
    interpolate("a red ball on a white background", "a blue cube on a black background", out / "path", steps=steps)
    imprint(
        "single colour ball", out / "imprint", "0", keep="the colour", iterations=iterations or 8, unseen=8, steps=steps
    )
    print(f"\nThe pictures are in {out}: optimize/before-after.png, path/strip.png, imprint/sheet.png.")
