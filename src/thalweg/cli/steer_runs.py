"""Running of the steering tools by the command line: progress, the files of their run folders, and their results."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.cli.common.progress import announce, progress
from thalweg.errors import ThalwegError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.diffusion.config import ModelConfig
    from thalweg.diffusion.generator import DiffusionGenerator
    from thalweg.embedding import Embedding
    from thalweg.generator import Generator
    from thalweg.steer.imprinting.imprint_config import ImprintConfig
    from thalweg.steer.interpolation import PathConfig
    from thalweg.steer.navigation.navigation import Navigation
    from thalweg.steer.optimization.optimize import OptimizeResult
    from thalweg.steer.optimization.optimize_config import OptimizeConfig
    from thalweg.steer.runs import Run


def run_optimize(config: "OptimizeConfig", run: "Run", generator: "Generator") -> None:
    """Run or resume an optimization, and print its result."""
    from thalweg.steer.optimization.optimize import BATCH
    from thalweg.steer.optimization.optimize import optimize as search
    from thalweg.steer.optimization.report import REPORT, describe
    from thalweg.steer.optimization.search import BEST, NOISE
    from thalweg.steer.tool_config import start_of

    start = start_of(run, generator)
    with progress("steps") as show:
        result = search(
            generator,
            start,
            config,
            batch=BATCH,
            run=run,
            progress=lambda step, images: show(step.step + 1, config.steps + 1),
        )
    _write_before_and_after(run, generator, start, result, config)
    _draw_trace(run, "score")
    sentences = describe(result, config)
    run.write_json(REPORT, sentences)
    print("\n".join(sentences))
    print(f"embedding: {run.folder / BEST}; pictures: {run.folder / 'before-after.png'}, {run.folder / 'trace.png'}")
    if result.noise is not None:
        print(f"noise of the seeds: {run.folder / NOISE}")
    if result.failed:
        raise ThalwegError(f"stopped early, the best so far is kept: {result.stopped}")


def run_navigate(navigation: "Navigation", out: Path, candidates: int) -> None:
    """Ask for choices until the user quits."""
    while True:
        announce(f"rendering {candidates} candidates")
        shown = navigation.propose(candidates)
        print(f"\nround {navigation.node.number}: {out / 'rounds' / f'{navigation.node.number:03d}' / 'sheet.png'}")
        print("  the current image first, then " + ", ".join(f"{i + 1} {c.label}" for i, c in enumerate(shown)))
        try:
            answer = input(f"1-{len(shown)} [strength], 0 none, u undo, f fork, q quit: ").strip().lower()
        except EOFError:
            answer = "q"
        if answer in ("q", ""):
            break
        try:
            _apply(navigation, answer)
        except UsageError as error:
            print(f"  {error}")
    print(f"\nembedding: {navigation.current.save(out / 'embedding.safetensors')}")


def _apply(navigation: "Navigation", answer: str) -> None:
    """Apply the answer to a round."""
    if answer == "u":
        navigation.undo()
    elif answer == "f":
        navigation.fork()
    elif answer == "0":
        navigation.none()
    else:
        number, _, rest = answer.partition(" ")
        try:
            index, strength = int(number) - 1, float(rest or 1)
        except ValueError:
            raise UsageError(f"expected a number, u, f or q, got {answer!r}") from None
        navigation.choose(index, strength)


def render_or_read(
    run: "Run",
    generator: "DiffusionGenerator",
    images: "Mapping[str, tuple[Embedding, int]]",
    rendered: Callable[[int], None],
) -> "list[Tensor]":
    """Return the images (3, H, W) in a run's files; missing ones are rendered, each by itself, and written.

    Args:
        run: the run.
        generator: the model.
        images: embedding and seed of each file.
        rendered: called with the number of images that are written so far.
    """
    from thalweg.generator import render_points

    missing = [name for name in images if not (run.folder / name).is_file()]
    done = len(images) - len(missing)
    points = [(embedding, [seed]) for embedding, seed in map(images.__getitem__, missing)]
    for count, (name, image) in enumerate(zip(missing, render_points(generator, points), strict=True), done + 1):
        run.write_image(name, image[0])
        rendered(count)
    return _read_images([run.folder / name for name in images])


def _read_images(files: Sequence[Path]) -> "list[Tensor]":
    """Return the images (3, H, W) in the files of one run.

    Raises:
        UsageError: a file can't be read, or its image has another size than most.
    """
    from thalweg.io.image_files import read_image

    images: list[Tensor] = []
    for file in files:
        try:
            images.append(read_image(file))
        except UsageError as error:
            raise UsageError(f"{error}; remove the file to render it again") from error
    sizes = [tuple(image.shape[1:]) for image in images]
    height, width = max(sizes, key=sizes.count)
    for file, size in zip(files, sizes, strict=True):
        if size != (height, width):
            raise UsageError(
                f"{file}: expected an image of {width} x {height} as the run's others, got {size[1]} x {size[0]}; "
                "remove the file to render it again"
            )
    return images


def render_path(
    run: "Run",
    generator: "DiffusionGenerator",
    ends: "tuple[Embedding, Embedding]",
    seeds: tuple[int, ...],
    config: "PathConfig",
    even: bool,
) -> "list[Tensor]":
    """Write the embeddings of a path and its images, and return the images (3, H, W), seed by seed.

    Files that an interrupted run has written are read.
    """
    from thalweg.embedding import Embedding
    from thalweg.steer.interpolation import equal_image_steps, path

    files = [run.path(f"embeddings/{index:03d}.safetensors") for index in range(config.count)]
    with progress("renders") as show:
        rendered = 0

        def count_render() -> None:
            nonlocal rendered
            rendered += 1
            show(rendered, 5 * config.count)

        if all(file.is_file() for file in files):
            embeddings = [Embedding.load(file, generator.model) for file in files]
            _check_ends(run, embeddings, ends)
        elif even:
            embeddings = equal_image_steps(generator, *ends, seeds, config, count_render)
        else:
            embeddings = path(*ends, config.count, config.method, config.centre)
        for file, embedding in zip(files, embeddings, strict=True):
            embedding.save(file)
        images = {
            f"frames/{index:03d}-seed-{seed}.png": (embedding, seed)
            for seed in seeds
            for index, embedding in enumerate(embeddings)
        }
        spaced = 4 * config.count
        return render_or_read(
            run, generator, images, lambda done: show(spaced + round(done / len(seeds)), spaced + config.count)
        )


def _check_ends(run: "Run", embeddings: "Sequence[Embedding]", ends: "tuple[Embedding, Embedding]") -> None:
    """Refuse embeddings that a run has written where they are not of one path, or of other files than its ends now."""
    from thalweg.prompts import is_embedding_name
    from thalweg.steer.tool_config import check_unchanged

    parents = {embedding.lineage.parents for embedding in embeddings}
    begun = next(iter(parents))
    if len(parents) > 1 or len(begun) != len(ends):
        raise UsageError(
            f"{run.folder}: its embeddings are not all of one path: remove its folder embeddings to compute them again"
        )
    for end, found, hash_then in zip(("start", "end"), ends, begun, strict=True):
        if is_embedding_name(run.settings[end]):
            check_unchanged(run.settings[end], found.hash, hash_then)


def run_imprint(config: "ImprintConfig", run: "Run", generator: "Generator", model_config: "ModelConfig") -> None:
    """Run or resume an imprint, and print its report."""
    from thalweg.steer.imprinting.imprint import imprint as descend
    from thalweg.steer.tool_config import start_of

    scorer = model_config.load_scorer() if config.keep else None
    start, total = start_of(run, generator), config.descent.steps
    with progress("steps") as show:
        result = descend(
            generator, start, config, scorer=scorer, run=run, progress=lambda row: show(row["step"], total)
        )
    _draw_trace(run, "judged")
    print(json.dumps({name: value for name, value in result.report.items() if name != "unseen"}, indent=2))
    print(f"embedding: {run.folder / 'embedding.safetensors'}; sheet: {run.folder / 'sheet.png'}")


def _write_before_and_after(
    run: "Run", generator: "Generator", start: "Embedding", result: "OptimizeResult", config: "OptimizeConfig"
) -> None:
    """Write the images of both embeddings, those of the end from its noise where it moved."""
    import torch

    from thalweg.generator import ChainGenerator
    from thalweg.steer.metrics.metric import Metric
    from thalweg.steer.optimization.report import before_and_after

    assert isinstance(config.metric, Metric)  # with_metrics made it
    with torch.no_grad():
        before = generator.render(start, config.seeds)
        if result.noise is not None and isinstance(generator, ChainGenerator):
            after = generator.decode(generator.latents(result.embedding, result.noise))
        else:
            after = generator.render(result.embedding, config.seeds)
    run.write_image("before-after.png", before_and_after(config.metric, config.seeds, before, after))


def _draw_trace(run: "Run", column: str) -> None:
    """Draw a column of the trace, and the drift, against the step."""
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
