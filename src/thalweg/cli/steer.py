"""`thalweg steer`: the three tools in the terminal, each in one run folder."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from thalweg.cli.models import (
    Clip,
    DenoisingSteps,
    Device,
    Folder,
    GradientMode,
    Guidance,
    Model,
    Prompt,
    Scheduler,
    Seeds,
)
from thalweg.cli.progress import progress
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import MAX_CANDIDATES, MAX_FRAMES, check_count

if TYPE_CHECKING:
    from thalweg.diffusion.config import ModelConfig
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.embedding import Embedding
    from thalweg.generator import Generator
    from thalweg.steer.metrics.metric import Metric
    from thalweg.steer.navigation.navigation import Navigation
    from thalweg.steer.runs import Run
    from thalweg.steer.tasks import ImprintTask, OptimizeTask

steer = typer.Typer(no_args_is_help=True, help="Move a prompt embedding: by a metric, by choosing, by a seed.")

Iterations = Annotated[int | None, typer.Option(help="steps of the tool; its default if left out")]
Radius = Annotated[float | None, typer.Option(help="how far to drift from the start; the tool's default if left out")]
Spacing = Annotated[str, typer.Option("--method", help="lerp, slerp or transport")]


@steer.command()
def optimize(
    prompt: Prompt,
    out: Folder,
    metric: Annotated[str, typer.Option(help="such as sharpness, 'contrast + 0.5*blur' or 'text: a red ball'")],
    keep: Annotated[str | None, typer.Option(help="a metric that must stay, such as 'text: a ball'")] = None,
    seeds: Seeds = "0-3",
    unseen: Annotated[str, typer.Option(help="seeds to judge the result on")] = "100-107",
    iterations: Iterations = None,
    radius: Radius = None,
    search: Annotated[str, typer.Option(help="gradient, or cma-es for a metric without one")] = "gradient",
    recipe: Annotated[str, typer.Option(help="thalweg, or paper for the published optimiser")] = "thalweg",
    clip: Clip = None,
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    gradient: GradientMode = "full",
) -> None:
    """Tool 1: move the embedding until its images score high on a metric."""
    from thalweg.diffusion.config import ModelConfig
    from thalweg.seeds import read_seeds
    from thalweg.steer.metrics.expression import with_absolute_files
    from thalweg.steer.optimization.optimize import Method, Recipe
    from thalweg.steer.runs import remove_failed_run
    from thalweg.steer.tasks import OptimizeTask

    mode = None if search == "cma-es" else gradient
    choice = ModelConfig(model, device, steps, guidance, scheduler, mode, clip)
    by, how = cast(Method, search), cast(Recipe, recipe)
    metric, keep = with_absolute_files(metric), with_absolute_files(keep) if keep else None
    task = OptimizeTask(prompt, metric, keep, read_seeds(seeds), read_seeds(unseen), iterations, radius, by, how)
    aims = task.aims(choice.load_scorer)
    generator = choice.load()
    with remove_failed_run(out):
        _optimize(task, task.run_in(out, generator, vars(choice)), generator, aims)


def _optimize(
    task: "OptimizeTask", run: "Run", generator: "DiffusionGenerator", aims: "tuple[Metric, Metric | None]"
) -> None:
    """Do an optimisation in its run, and say what came of it."""
    from thalweg.steer.optimization.optimize import BEST
    from thalweg.steer.tasks import start_of

    with progress("steps") as show:
        result = task.do(generator, aims, run, lambda step, images: show(step.step + 1, task.steps + 1))
    _before_and_after(run, generator, start_of(run, generator), result.embedding, task.seeds)
    _draw_trace(run, "score")
    print(f"{aims[0].name}: {result.start_score:.4g} -> {result.score:.4g} at step {result.step} ({result.stopped})")
    print(f"on unseen seeds: {result.unseen_start_score:.4g} -> {result.unseen_score:.4g}")
    print(f"embedding: {run.folder / BEST}; pictures: {run.folder / 'before-after.png'}, {run.folder / 'trace.png'}")
    if result.failed:
        raise ThalwegError(f"stopped early, the best so far is kept: {result.stopped}")


@steer.command()
def navigate(
    prompt: Annotated[str, typer.Argument(help="a prompt or an embedding file; of a run to go on with, anything")],
    out: Folder,
    candidates: Annotated[int, typer.Option(help="how many to choose from")] = 5,
    seeds: Seeds = "0",
    seed: Annotated[int, typer.Option(help="of all random draws")] = 0,
    recipe: Annotated[str, typer.Option(help="preference, paper or random")] = "preference",
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
) -> None:
    """Tool 2: move by choosing: look at the sheet it writes, type the number of the image you like best.

    After the number a strength may follow ("2 0.5"). 0: none of these; u: undo; f: fork; q: stop, resume later.
    """
    from thalweg.diffusion.config import ModelConfig
    from thalweg.generator import read_embedding
    from thalweg.seeds import read_seeds
    from thalweg.steer.navigation.navigate_config import Recipe
    from thalweg.steer.navigation.navigation import NavigateConfig, Navigation
    from thalweg.steer.runs import RECORD, remove_failed_run

    check_count("--candidates", candidates, 1, MAX_CANDIDATES)
    choice = ModelConfig(model, device, steps, guidance, scheduler)
    generator = choice.load()
    if (out / RECORD).is_file():
        _navigate(Navigation.open(out, generator), out, candidates)
        return
    start = read_embedding(prompt, generator)
    settings = NavigateConfig(start.lineage.prompt, read_seeds(seeds), seed, cast(Recipe, recipe))
    with remove_failed_run(out):
        _navigate(Navigation(generator, settings, out, start, loading=vars(choice)), out, candidates)


def _navigate(walk: "Navigation", out: Path, candidates: int) -> None:
    """Ask for choices until there are no more."""
    while True:
        shown = walk.propose(candidates)
        print(f"\nround {walk.node.number}: {out / 'rounds' / f'{walk.node.number:03d}' / 'sheet.png'}")
        print("  the current image first, then " + ", ".join(f"{i + 1} {c.label}" for i, c in enumerate(shown)))
        try:
            answer = input(f"1-{len(shown)} [strength], 0 none, u undo, f fork, q quit: ").strip().lower()
        except EOFError:
            answer = "q"
        if answer in ("q", ""):
            break
        try:
            _answer(walk, answer)
        except UsageError as error:
            print(f"  {error}")
    print(f"\nembedding: {walk.current.save(out / 'embedding.safetensors')}")


def _answer(walk: "Navigation", answer: str) -> None:
    """Do what was typed."""
    if answer == "u":
        walk.undo()
    elif answer == "f":
        walk.fork()
    elif answer == "0":
        walk.none()
    else:
        number, _, strength = answer.partition(" ")
        try:
            index, length = int(number) - 1, float(strength or 1)
        except ValueError:
            raise UsageError(f"expected a number, u, f or q, got {answer!r}") from None
        walk.choose(index, length)


@steer.command("path")
def walk_path(
    start: Prompt,
    end: Prompt,
    out: Folder,
    count: Annotated[int, typer.Option(help="images on the strip, both ends included")] = 9,
    method: Spacing = "slerp",
    around_empty: Annotated[bool, typer.Option(help="turn about the empty prompt rather than about zero")] = False,
    even: Annotated[bool, typer.Option(help="equal steps in the image rather than in the embedding")] = True,
    seeds: Seeds = "0",
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
) -> None:
    """Walk from one embedding to another; writes the film strip, a row a seed."""
    import torch

    from thalweg.diffusion.config import ModelConfig
    from thalweg.generator import read_embedding
    from thalweg.seeds import read_seeds
    from thalweg.steer import interpolation
    from thalweg.steer.runs import Run, contact_sheet, remove_failed_run

    check_count("--count", count, 2, MAX_FRAMES)
    choice = ModelConfig(model, device, steps, guidance, scheduler)
    numbers = read_seeds(seeds)
    generator = choice.load()
    first, last = read_embedding(start, generator), read_embedding(end, generator)
    centre = generator.embed("") if around_empty else None
    kind = cast(interpolation.Method, method)
    with remove_failed_run(out):
        settings = {"start": start, "end": end, "method": method}
        run = Run.create(out, "path", generator.model, settings, vars(choice))
        with progress("renders") as show:
            rendered = 0

            def count_render() -> None:
                nonlocal rendered
                rendered += 1
                show(rendered, 5 * count)

            if even:
                walk = interpolation.equal_image_steps(
                    generator,
                    first,
                    last,
                    count,
                    numbers,
                    kind,
                    centre,
                    renders=max(3, 4 * count),
                    progress=count_render,
                )
            else:
                walk = interpolation.path(first, last, count, kind, centre)
            images = []
            for embedding in walk:
                images.append(generator.render(embedding, numbers))
                count_render()
        strip = torch.stack(images, dim=1).flatten(0, 1)
        run.write_image("strip.png", contact_sheet(strip, columns=len(walk)))
        for index, embedding in enumerate(walk):
            embedding.save(run.path(f"embeddings/{index:03d}.safetensors"))
    print(f"film strip: {out / 'strip.png'}")


@steer.command()
def imprint(
    prompt: Prompt,
    out: Folder,
    seed: Annotated[int, typer.Option(help="the seed that shows what you like")],
    keep: Annotated[str | None, typer.Option(help="what of it, such as 'the colour'; all if left out")] = None,
    mask: Annotated[Path | None, typer.Option(help="a picture, white where the image is to be kept")] = None,
    mode: Annotated[str, typer.Option(help="image, token (a textual inversion) or paper")] = "image",
    unseen: Annotated[int, typer.Option(help="how many unseen seeds to report on")] = 16,
    iterations: Iterations = None,
    radius: Radius = None,
    clip: Clip = None,
    model: Model = None,
    device: Device = "cpu",
    steps: DenoisingSteps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    gradient: GradientMode = "full",
) -> None:
    """Tool 3: put what one seed shows into the embedding, so that other seeds show it too."""
    from thalweg.diffusion.config import ModelConfig
    from thalweg.io.image_files import read_mask
    from thalweg.steer.imprinting.imprint import Mode
    from thalweg.steer.runs import remove_failed_run
    from thalweg.steer.tasks import MASK, ImprintTask

    choice = ModelConfig(model, device, steps, guidance, scheduler, gradient, clip)
    content = None
    if mask is not None:
        read_mask(mask)  # before the model is loaded
        content = mask.read_bytes()
    mask_hash = None if content is None else hashlib.sha256(content).hexdigest()
    task = ImprintTask(prompt, seed, keep, cast(Mode, mode), unseen, iterations, radius, mask_hash)
    generator = choice.load()
    with remove_failed_run(out):
        run = task.run_in(out, generator, vars(choice))
        if content is not None:
            run.write_bytes(MASK, content)
        _imprint(task, run, generator, choice)


def _imprint(task: "ImprintTask", run: "Run", generator: "DiffusionGenerator", choice: "ModelConfig") -> None:
    """Do an imprint in its run, and say what came of it."""
    scorer = choice.load_scorer() if task.keep else None
    with progress("steps") as show:
        result = task.do(generator, scorer, run, lambda row: show(row["step"], task.settings.steps))
    _draw_trace(run, "judged")
    print(json.dumps({name: value for name, value in result.report.items() if name != "unseen"}, indent=2))
    print(f"embedding: {run.folder / 'embedding.safetensors'}; sheet: {run.folder / 'sheet.png'}")


@steer.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="a run folder of optimize, navigate or imprint")],
    candidates: Annotated[int, typer.Option(help="navigate: how many to choose from")] = 5,
    device: Annotated[str | None, typer.Option(help="cpu, cuda ...; the run's own if left out")] = None,
) -> None:
    """Go on with a run where it stopped, with the model and the settings it began with."""
    from dataclasses import replace

    from thalweg.diffusion.config import ModelConfig
    from thalweg.steer.navigation.navigation import Navigation
    from thalweg.steer.runs import Run
    from thalweg.steer.tasks import ImprintTask, OptimizeTask

    check_count("--candidates", candidates, 1, MAX_CANDIDATES)
    run = Run.open_any(folder)
    choice = ModelConfig.read(run.loading, str(folder))
    choice = replace(choice, device=device or choice.device)
    if run.operation == "navigate":
        _navigate(Navigation.open(folder, choice.load()), folder, candidates)
    elif run.operation == "optimize":
        task = OptimizeTask.of(run)
        _optimize(task, run, choice.load(), task.aims(choice.load_scorer))
    elif run.operation == "imprint":
        _imprint(ImprintTask.of(run), run, choice.load(), choice)
    else:
        raise UsageError(f"{folder}: expected a run of optimize, navigate or imprint, got one of {run.operation}")


@steer.command()
def export(
    run: Annotated[Path, typer.Argument(help="a run folder of optimize, navigate or imprint")],
    out: Annotated[Path, typer.Argument(help="embedding file to write (*.safetensors)")],
    node: Annotated[int | None, typer.Option(help="a node of a navigation's tree; the current one by default")] = None,
) -> None:
    """Copy what a run found into one embedding file."""
    from thalweg.embedding import Embedding
    from thalweg.steer.navigation.history import Tree
    from thalweg.steer.optimization.optimize import BEST
    from thalweg.steer.runs import Run

    opened = Run.open_any(run)
    operation = opened.operation
    if operation == "navigate":
        tree = Tree.load(opened, opened.model)
        embedding = tree.node(tree.current if node is None else node).embedding
    else:
        names = {"optimize": BEST, "imprint": "embedding.safetensors", "generate": "embedding.safetensors"}
        if operation not in names:
            raise UsageError(f"{run}: expected a run of navigate or {', '.join(names)}, got one of {operation}")
        embedding = Embedding.load(run / names[operation], opened.model)
    print(f"embedding: {embedding.save(out)}")


@steer.command()
def demo(
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    iterations: Iterations = 12,
    steps: DenoisingSteps = None,
) -> None:
    """Run the three tools offline on the shipped miniature: sharper, from one object to another, one seed for all."""
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    optimize("a ball", out / "optimize", "sharpness", keep="text: a ball", iterations=iterations, steps=steps)
    walk_path("a red ball on a white background", "a blue cube on a black background", out / "path", steps=steps)
    imprint("single colour ball", out / "imprint", 0, keep="the colour", iterations=iterations, unseen=8, steps=steps)
    print(f"\nThe pictures lie in {out}: optimize/before-after.png, path/strip.png, imprint/sheet.png.")


def _before_and_after(
    run: "Run", generator: "Generator", start: "Embedding", end: "Embedding", seeds: tuple[int, ...]
) -> None:
    import torch

    from thalweg.steer.runs import contact_sheet

    with torch.no_grad():
        images = torch.cat([generator.render(embedding, seeds) for embedding in (start, end)])
    run.write_image("before-after.png", contact_sheet(images, columns=len(seeds)))


def _draw_trace(run: "Run", column: str) -> None:
    """Draw a column of the trace, and the drift, against the step."""
    import io

    from matplotlib.figure import Figure

    rows = [row for row in run.read_numbers(("step", column, "drift"), optional=(column,)) if column in row]
    if not rows:
        return
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    score = figure.subplots()
    steps = [row["step"] for row in rows]
    score.plot(steps, [row[column] for row in rows], color="tab:blue")
    score.set(xlabel="step", ylabel=column)
    drift = score.twinx()
    drift.plot(steps, [row["drift"] for row in rows], color="tab:grey", linestyle="--")
    drift.set_ylabel("drift (dashed)")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write_bytes("trace.png", content.getvalue())
