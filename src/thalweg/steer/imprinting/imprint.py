"""Tool 3: put what one seed shows into the embedding, so that seeds never used show it too (2308.12059, tool 3)."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import ChainGenerator, Generator, TokenGenerator
from thalweg.limits import MAX_SEEDS, check_count
from thalweg.seeds import check_seeds
from thalweg.steer.imprinting.aspects import Aspect, AspectObjective, choose_aspect, diversity, squared_distances
from thalweg.steer.imprinting.seed_invariant import (
    BATCH,
    LEARNING_RATE,
    LOSS_SCALE,
    STEPS,
    LatentObjective,
    RepeatedMove,
)
from thalweg.steer.imprinting.stochastic_descent import (
    Descent,
    DescentConfig,
    DescentObjective,
    Move,
    Search,
    descend,
    load_state,
    save_state,
)
from thalweg.steer.imprinting.textual_inversion import FILE as TOKEN_FILE
from thalweg.steer.imprinting.textual_inversion import TokenMove, save_textual_inversion
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.optimization.optimizers import Optimizer, PaperOptimizer
from thalweg.steer.runs import Run, contact_sheet
from thalweg.steer.trust_region import TrustRegion

Mode = Literal["image", "token", "paper"]
MODES: tuple[Mode, ...] = ("image", "token", "paper")

SHOWN = 8
"""Unseen seeds on the sheet."""


DEFAULTS: dict[Mode, DescentConfig] = {
    "image": DescentConfig(),
    "token": DescentConfig(steps=40, radius=2.0),
    "paper": DescentConfig(steps=STEPS, batch=BATCH, judge_every=10, patience=None),
}
"""Mode paper has the published numbers of iterations and seeds; words lie further apart than prompts."""


@dataclass(frozen=True)
class ImprintResult:
    """What an imprint gives.

    Attributes:
        embedding: the best by the seeds held out; where the mode began if nothing was better.
        trace: a row a step: `step`, `loss` (of its batch), `drift`, `judged` and `best` (on the seeds held out).
        report: what unseen seeds show before and after, see `imprint`.
        vector: the learned token vector (width) in mode token.
    """

    embedding: Embedding
    trace: list[dict[str, Any]]
    report: dict[str, Any]
    vector: Tensor | None = None


def imprint(
    generator: Generator,
    start: Embedding,
    target_seed: int,
    *,
    mode: Mode = "image",
    keep: str | Sequence[str] | Aspect | None = None,
    mask: Tensor | None = None,
    scorer: Scorer | None = None,
    seeds: Sequence[int] | None = None,
    unseen: Sequence[int] | int = 16,
    settings: DescentConfig | None = None,
    prompt: str | None = None,
    placeholder: str = "<imprint>",
    word: str | None = None,
    run: Run | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> ImprintResult:
    """Move `start` until other seeds show what `target_seed` shows under it.

    Mode "image": all movable tensors, an image loss, the gradient through the generator's whole chain (see
    `AspectObjective`). Mode "token": the same loss, but one token vector in the prompt moves, the text encoder's input.
    Mode "paper": the published schedule (see `seed_invariant`), which copies all the target's latents show.

    The report tells, on `unseen` seeds under the start and under the result: `share_before` and `share_after`, of seeds
    that show the target's aspect (read as its name; without names: that are at most half as far from the target as
    seeds are under the start); `distance_before` and `distance_after` from the target (root mean square, in the
    aspect's features); `diversity_before` and `diversity_after` (root mean square distance of two seeds in the rest)
    and their ratio, `diversity_kept`; and `rest_moved`: how far each seed is, in the rest, from what it was, as a share
    of `diversity_before`.

    With a run, these files are written: `embedding.safetensors`, `trace.csv`, `report.json`, `target.png`, `sheet.png`
    (above: the target, then unseen seeds before; below: the same seeds after), `learned_embeds.safetensors` in mode
    token; and `state.safetensors` on the way, from which a run that was cut off goes on to the same result.

    Args:
        generator: the model; mode paper needs a ChainGenerator, mode token a TokenGenerator.
        start: the embedding under which the target seed shows what is wanted.
        target_seed: the seed.
        mode: what moves, and by which loss.
        keep: what of it is wanted: an aspect's name ("the colour"), texts that differ in it alone, or an Aspect with
            features of its own; all where neither this nor a mask is given.
        mask: (H, W) in 0..1: what lies where it is 1 is wanted.
        scorer: sees texts and images in one space; needed for `keep` in words.
        seeds: training seeds; None: fresh ones at each step.
        unseen: seeds to report on, or how many.
        settings: steps, seeds and lengths; None: those of the mode.
        prompt: mode token: a prompt with the placeholder; None: the start's prompt after the placeholder.
        placeholder: mode token: the word that stands for the vector.
        word: mode token: the word or words whose vector it begins as; None: the start's prompt.
        run: folder to write into, and to go on with.
        progress: called with each row of the trace.

    Raises:
        UsageError: an unknown mode or aspect, an embedding of another model, seeds negative or repeated, the target's
            seed among the training or unseen ones, a generator that can't do the mode.
        ThalwegError: a zero gradient at the first step.
    """
    if mode not in MODES:
        raise UsageError(f"expected a mode out of {', '.join(MODES)}, got {mode}")
    start.check_model(generator.model)
    start.check_finite()
    check_seeds([target_seed])
    settings = settings or DEFAULTS[mode]
    aspect = choose_aspect(keep, mask, scorer)
    reported = _unseen(unseen, settings, target_seed, seeds)
    training = None if seeds is None else _training(seeds, target_seed, reported)
    used = {target_seed, *reported, *(training or ())}
    held_out = draw_seeds(settings.held_out, settings.random, "held out", used)

    with torch.no_grad():
        target = generator.render(start, [target_seed])[0]
    move: Move
    objective: DescentObjective
    climber: Optimizer
    if mode == "paper":
        move, objective, climber = _published(generator, start, target_seed, held_out, settings)
    else:
        if mode == "token":
            move = _token_move(generator, start, prompt, placeholder, word, settings.radius)
        else:
            move = TrustRegion(generator, start, settings.radius)
        objective = AspectObjective(generator, start, aspect, target, held_out, settings.rest_weight)
        climber = Descent(move, settings)

    fingerprint = {
        "start": start.hash,
        "mode": mode,
        "target_seed": target_seed,
        "aspect": aspect.name,
        "seeds": training,
        "unseen": reported,
        "prompt": prompt,
        "placeholder": placeholder,
        "word": word,
        **vars(settings),
    }
    search = load_state(run, fingerprint, climber, move.spread.device) if run is not None else None
    if search is None:
        best = climber.ask().clone()
        score = objective.judge(move.embedding(best))
        if not math.isfinite(score):
            raise ThalwegError(f"expected a finite loss at the start, got {score}; look at what is to be kept")
        search = Search(best, score, score)

    def seeds_of(step: int) -> Sequence[int]:
        if training is None:
            return draw_seeds(settings.batch, settings.random, f"step {step}", {*used, *held_out})
        return random.Random(f"{settings.random} step {step}").sample(training, min(settings.batch, len(training)))

    def keep_state() -> None:
        if run is not None:
            save_state(run, fingerprint, search, climber)

    descend(search, move, objective, climber, settings, seeds_of, keep_state, progress)

    parameters = {"mode": mode, "target_seed": target_seed, "aspect": aspect.name, "best_step": search.best_step}
    vector = None
    if isinstance(move, TokenMove):
        vector = move.vector(search.best)
        parameters["placeholder"] = placeholder
    with torch.no_grad():
        embedding = start.derive(move.embedding(search.best).floating, "imprint", **parameters)
    before, after = (_render(generator, some, reported, settings.batch) for some in (start, embedding))
    report = parameters | {
        "stopped": search.stopped,
        "score_start": search.start_score,
        "score_best": search.best_score,
        "unseen": reported,
        **compare(aspect, target, before, after),
    }
    result = ImprintResult(embedding, search.trace, report, vector)
    if run is not None:
        with torch.no_grad():
            again = generator.render(embedding, [target_seed])
        _write(run, result, target, torch.cat([target[None], before[:SHOWN], again, after[:SHOWN]]))
    return result


def _write(run: Run, result: ImprintResult, target: Tensor, shown: Tensor) -> None:
    result.embedding.save(run.path("embedding.safetensors"))
    run.write_trace(result.trace)
    run.write_json("report.json", result.report)
    run.write_image("target.png", target)
    run.write_image("sheet.png", contact_sheet(shown, len(shown) // 2))
    if result.vector is not None:
        save_textual_inversion(run.path(TOKEN_FILE), result.report["placeholder"], result.vector)


def compare(aspect: Aspect, target: Tensor, before: Tensor, after: Tensor) -> dict[str, Any]:
    """Return what images (S, 3, H, W) of the same seeds show before and after, as `imprint` reports it.

    Args:
        aspect: what was to be kept.
        target: the image (3, H, W) that shows it.
        before: under the start.
        after: under the result.
    """
    with torch.no_grad():
        goal = aspect.kept(target[None])
        ways = [squared_distances(aspect.kept(images), goal) for images in (before, after)]
        if aspect.read is None:
            shown = [way <= float(ways[0].mean()) / 4 for way in ways]
        else:
            name = aspect.read(target[None])[0]
            shown = [torch.tensor([read == name for read in aspect.read(images)]) for images in (before, after)]
        found: dict[str, Any] = {}
        for when, way, seeds in zip(("before", "after"), ways, shown, strict=True):
            found[f"share_{when}"] = float(seeds.float().mean())
            found[f"distance_{when}"] = float(way.mean().sqrt())
        if aspect.read is not None:
            found["shows"] = name
        if aspect.rest is not None:
            rests = [aspect.rest(images) for images in (before, after)]
            spreads = [diversity(rest) ** 0.5 for rest in rests]
            found |= {"diversity_before": spreads[0], "diversity_after": spreads[1]}
            if spreads[0] > 0:
                found["diversity_kept"] = spreads[1] / spreads[0]
                found["rest_moved"] = float(squared_distances(*rests).mean().sqrt()) / spreads[0]
    return found


def draw_seeds(count: int, seed: int, purpose: str, excluded: Collection[int]) -> tuple[int, ...]:
    """Return `count` distinct seeds out of 0..2^31 that are not excluded; the same for the same seed and purpose."""
    draws = random.Random(f"{seed} {purpose}")
    found: dict[int, None] = {}
    while len(found) < count:
        drawn = draws.randrange(2**31)
        if drawn not in excluded:
            found[drawn] = None
    return tuple(found)


def _unseen(
    unseen: Sequence[int] | int, settings: DescentConfig, target_seed: int, seeds: Sequence[int] | None
) -> list[int]:
    if isinstance(unseen, int):
        check_count("the number of unseen seeds", unseen, 1, MAX_SEEDS)
        return list(draw_seeds(unseen, settings.random, "unseen", {target_seed, *(seeds or ())}))
    if target_seed in unseen:
        raise UsageError(f"seed {target_seed} is the target: it has been seen; leave it out of the unseen seeds")
    return list(check_seeds(unseen))


def _training(seeds: Sequence[int], target_seed: int, unseen: Sequence[int]) -> list[int]:
    checked = check_seeds(seeds)
    if target_seed in checked:
        raise UsageError(f"seed {target_seed} is the target: it shows it already; leave it out of the training seeds")
    if both := set(checked) & set(unseen):
        raise UsageError(f"expected training seeds apart from the unseen ones, got {min(both)} among both")
    return list(checked)


def _published(
    generator: Generator, start: Embedding, target_seed: int, held_out: Sequence[int], settings: DescentConfig
) -> tuple[RepeatedMove, LatentObjective, PaperOptimizer]:
    if not isinstance(generator, ChainGenerator):
        raise UsageError("mode paper needs a model that shows its latents between steps; take mode image")
    move = RepeatedMove(generator, start)
    objective = LatentObjective(generator, start, target_seed, held_out, settings.steps)
    # The climber looks at nothing but the spread of its region.
    return move, objective, PaperOptimizer(cast("TrustRegion", move), LEARNING_RATE, LOSS_SCALE, keep_moments=False)


def _render(generator: Generator, embedding: Embedding, seeds: Sequence[int], batch: int) -> Tensor:
    parts = [seeds[first : first + batch] for first in range(0, len(seeds), batch)]
    with torch.no_grad():
        return torch.cat([generator.render(embedding, part) for part in parts])


def _token_move(
    generator: Generator, start: Embedding, prompt: str | None, placeholder: str, word: str | None, radius: float
) -> TokenMove:
    if not isinstance(generator, TokenGenerator):
        raise UsageError("mode token needs a model whose text encoder takes token vectors; take mode image")
    text = start.lineage.prompt
    if not text and (prompt is None or word is None):
        raise UsageError("the start embedding has no prompt: give one with the placeholder, and a word to begin at")
    return TokenMove(generator, prompt or f"{placeholder} {text}", placeholder, word or text, radius)
