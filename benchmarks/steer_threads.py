"""Time of the miniature's images and gradients with the threads that are chosen for it, over that with torch's own.

Both are measured in turn in one process, in `--rounds` rounds; ratios are those of the medians, below 1 where the
choice is faster. The processor's seconds are of all threads, also of those that wait for each other, and depend less on
other work of the machine than the clock does. On a busy machine torch's threads take minutes: give fewer `--steps`.

- images: `--images` seeds, each rendered by itself as `thalweg generate` does: side by side, one thread each, against
  one after the other with torch's threads.
- gradient: one gradient through eight seeds, in groups side by side, against one batch with torch's threads.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from common import parser, report
from thalweg.diffusion import DiffusionGenerator, generator, miniature
from thalweg.embedding import Embedding
from thalweg.threads import available_cores


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a computation by the clock and by the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def gradient(model: DiffusionGenerator, embedding: Embedding) -> None:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in embedding.tensors.items()}
    images = model.render(Embedding(leaves, embedding.lineage), range(8))
    torch.autograd.grad(images.var(), list(leaves.values()))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=5)
    options.add_argument("--steps", type=int, default=20, help="denoising steps")
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    chosen = miniature.load(*([arguments.model] if arguments.model else []), steps=arguments.steps)
    generator.SMALL_DENOISER = 0  # a large model's way: torch's threads, one image or one batch after the other
    former = DiffusionGenerator(chosen.adapter.pipeline, "miniature", **vars(chosen.settings))
    assert former.images_at_once == 1  # keeps the choice
    generator.SMALL_DENOISER = 50_000_000
    embedding = chosen.embed("a glossy red ball")
    points = [(embedding, [seed]) for seed in range(arguments.images)]
    works: dict[str, Callable[[], object]] = {}
    for name, model in (("chosen", chosen), ("former", former)):
        works[f"images_{name}"] = partial(model.render_each, points)
        works[f"gradient_{name}"] = partial(gradient, model, embedding)
    chosen.render(embedding, [0])  # the first image takes longer
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(arguments.rounds):
        for name, work in works.items():
            seconds[name].append(measured(work))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()
    }
    results: dict[str, float] = {"cores": available_cores(), "threads_of_torch": torch.get_num_threads()}
    for what in ("images", "gradient"):
        for index, kind in enumerate(("clock", "processor")):
            ours, theirs = medians[f"{what}_chosen"][index], medians[f"{what}_former"][index]
            results |= {f"{what}_{kind}_s": ours, f"{what}_{kind}_ratio": ours / theirs}
    report(results, arguments.json)


if __name__ == "__main__":
    main()
