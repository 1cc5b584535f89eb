"""`thalweg steer`: the three tools in the terminal, each in one run folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from thalweg.cli.models import (
    Clip,
    DenoisingSteps,
    Device,
    Folder,
    GradientMode,
    Guidance,
    Model,
    ModelChoice,
    Prompt,
    Scheduler,
    Seeds,
    read_embedding,
    read_seeds,
)
from thalweg.cli.progress import progress
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    from thalweg.embedding import Embedding, ModelIdentity
    from thalweg.generator import Generator
    from thalweg.steer.navigate import Navigation
    from thalweg.steer.runs import Run

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
    from thalweg.steer import metrics
    from thalweg.steer.optimize import BEST, Method, Recipe
    from thalweg.steer.optimize import optimize as climb

    choice = ModelChoice(model, device, steps, guidance, scheduler, None if search == "cma-es" else gradient)
    training, held_out = read_seeds(seeds), read_seeds(unseen)
    aim = metrics.parse(metric, lambda: choice.load_scorer(clip))
    stay = metrics.parse(keep, lambda: choice.load_scorer(clip)) if keep else None
    generator = choice.load()
    start = read_embedding(prompt, generator)
    run = _run(out, "optimize", generator.model, _settings(choice, prompt=prompt, metric=metric, seeds=training))
    asked = {"steps": iterations, "radius": radius}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    total = options.get("steps", 30)
    with progress("steps") as show:
        result = climb(
            generator,
            start,
            aim,
            training,
            keep=stay,
            unseen_seeds=held_out,
            method=cast(Method, search),
            recipe=cast(Recipe, recipe),
            run=run,
            progress=lambda step, images: show(step.step + 1, total + 1),
            **options,
        )
    _before_and_after(run, generator, start, result.embedding, training)
    _draw_trace(run, "score")
    print(f"{aim.name}: {result.start_score:.4g} -> {result.score:.4g} at step {result.step} ({result.stopped})")
    print(f"on unseen seeds: {result.unseen_start_score:.4g} -> {result.unseen_score:.4g}")
    print(f"embedding: {out / BEST}; pictures: {out / 'before-after.png'}, {out / 'trace.png'}")
    if result.failed:
        raise ThalwegError(f"stopped early, the best so far is kept: {result.stopped}")


@steer.command()
def navigate(
    prompt: Annotated[str, typer.Argument(help="a prompt; of a run to go on with, anything")],
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
    from thalweg.steer.navigate import Navigation, Recipe, Settings
    from thalweg.steer.runs import RECORD

    generator = ModelChoice(model, device, steps, guidance, scheduler).load()
    if (out / RECORD).is_file():
        walk = Navigation.open(out, generator)
    else:
        settings = Settings(prompt, read_seeds(seeds), seed, cast(Recipe, recipe))
        walk = Navigation(generator, settings, out)
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

    from thalweg.steer import paths
    from thalweg.steer.runs import Run, contact_sheet

    choice = ModelChoice(model, device, steps, guidance, scheduler)
    numbers = read_seeds(seeds)
    generator = choice.load()
    first, last = read_embedding(start, generator), read_embedding(end, generator)
    centre = generator.embed("") if around_empty else None
    kind = cast(paths.Method, method)
    run = Run.create(out, "path", generator.model, _settings(choice, start=start, end=end, method=method))
    with progress("renders") as show:
        rendered = 0

        def count_render() -> None:
            nonlocal rendered
            rendered += 1
            show(rendered, 5 * count)

        if even:
            walk = paths.equal_image_steps(
                generator, first, last, count, numbers, kind, centre, renders=max(3, 4 * count), progress=count_render
            )
        else:
            walk = paths.path(first, last, count, kind, centre)
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
    from dataclasses import replace

    from thalweg.steer.aspects import vocabulary
    from thalweg.steer.imprint import DEFAULTS
    from thalweg.steer.imprint import imprint as put

    choice = ModelChoice(model, device, steps, guidance, scheduler, gradient)
    if keep:
        vocabulary(keep)  # refuses an unknown aspect before the run folder is made
    scorer = choice.load_scorer(clip) if keep else None
    generator = choice.load()
    start = read_embedding(prompt, generator)
    covered = _read_mask(mask) if mask else None
    asked: dict[str, Any] = {"steps": iterations, "radius": radius}
    if mode not in DEFAULTS:
        raise UsageError(f"expected a mode out of {', '.join(DEFAULTS)}, got {mode}")
    settings = replace(DEFAULTS[mode], **{name: value for name, value in asked.items() if value is not None})
    run = _run(out, "imprint", generator.model, _settings(choice, prompt=prompt, seed=seed, keep=keep, mode=mode))
    with progress("steps") as show:
        done = 0

        def count_step() -> None:
            nonlocal done
            done += 1
            show(done, settings.steps)

        result = put(
            generator,
            start,
            seed,
            mode=mode,
            keep=keep,
            mask=covered,
            scorer=scorer,
            unseen=unseen,
            settings=settings,
            run=run,
            progress=count_step,
        )
    _draw_trace(run, "judged")
    print(json.dumps({name: value for name, value in result.report.items() if name != "unseen"}, indent=2))
    print(f"embedding: {out / 'embedding.safetensors'}; sheet: {out / 'sheet.png'}")


@steer.command()
def export(
    run: Annotated[Path, typer.Argument(help="a run folder of optimize, navigate or imprint")],
    out: Annotated[Path, typer.Argument(help="embedding file to write (*.safetensors)")],
    node: Annotated[int | None, typer.Option(help="a node of a navigation's tree; the current one by default")] = None,
) -> None:
    """Copy what a run found into one embedding file."""
    from thalweg.embedding import Embedding
    from thalweg.steer.optimize import BEST
    from thalweg.steer.runs import RECORD, Run
    from thalweg.steer.tree import Tree

    if not (run / RECORD).is_file():
        raise UsageError(f"{run}: expected a run folder, found no {RECORD} in it")
    operation = json.loads((run / RECORD).read_text()).get("operation")
    opened = Run.open(run, operation)
    if operation == "navigate":
        tree = Tree.load(opened, opened.model)
        number = tree.current if node is None else node
        if number not in tree.nodes:
            raise UsageError(f"expected a node from 0 to {len(tree.nodes) - 1}, got {number}")
        embedding = tree.nodes[number].embedding
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


def _settings(choice: ModelChoice, **others: Any) -> dict[str, Any]:
    return {**vars(choice), **others}


def _run(out: Path, operation: str, model: "ModelIdentity", settings: dict[str, Any]) -> "Run":
    """Begin a run, or open the one that lies there to go on with it."""
    from thalweg.steer.runs import RECORD, Run

    if not (out / RECORD).is_file():
        return Run.create(out, operation, model, settings)
    run = Run.open(out, operation, model)
    given = json.loads(json.dumps(settings))
    for name, value in given.items():
        if run.settings.get(name) != value:
            raise UsageError(
                f"{out}: the run there has {name} {run.settings.get(name)!r}, asked for is {value!r}; "
                "choose another folder, or the same settings to go on"
            )
    return run


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

    rows = [row for row in run.read_trace() if row.get(column)]
    if not rows:
        return
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    score = figure.subplots()
    steps = [int(row["step"]) for row in rows]
    score.plot(steps, [float(row[column]) for row in rows], color="tab:blue")
    score.set(xlabel="step", ylabel=column)
    drift = score.twinx()
    drift.plot(steps, [float(row["drift"]) for row in rows], color="tab:grey", linestyle="--")
    drift.set_ylabel("drift (dashed)")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write_bytes("trace.png", content.getvalue())


def _read_mask(path: Path) -> Any:
    """Return a picture's brightness (H, W) in 0..1."""
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f"expected a picture as the mask, can't read {path} ({error})") from error
