"""Imprint: put what one seed shows into the embedding, so that unseen seeds show it too (2308.12059, tool 3)."""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import ChainGenerator, Generator, TokenGenerator, with_suitable_threads
from thalweg.io.hashing import file_hash
from thalweg.io.image_files import read_mask
from thalweg.steer.imprinting.aspect import Aspect
from thalweg.steer.imprinting.aspect_features import choose_aspect
from thalweg.steer.imprinting.aspect_objective import AspectObjective, diversity, squared_distances
from thalweg.steer.imprinting.imprint_config import DescentConfig, ImprintConfig
from thalweg.steer.imprinting.seed_invariant import LEARNING_RATE, LOSS_SCALE, LatentObjective, RepeatedMove
from thalweg.steer.imprinting.stochastic_descent import (
    Descent,
    DescentObjective,
    DescentState,
    Move,
    descend,
    restore_descent,
    save_descent,
)
from thalweg.steer.imprinting.textual_inversion import FILE as TOKEN_FILE
from thalweg.steer.imprinting.textual_inversion import TokenMove, save_textual_inversion
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.optimization.optimizers import Optimizer, PaperOptimizer
from thalweg.steer.runs import Run
from thalweg.steer.sheets import labelled_sheet
from thalweg.steer.trust_region import TrustRegion

MASK = "mask.png"
"""File of the mask in a run folder."""
SHEET_SEEDS = 8
"""Unseen seeds on the sheet."""


@dataclass(frozen=True)
class ImprintResult:
    """Result of an imprint.

    Attributes:
        embedding: the best by the held-out seeds; the mode's start if nothing was better.
        trace: one row per step: `step`, `loss` (of its batch), `gradient`, `judged` and `best` (losses on the held-out
            seeds), `drift`.
        report: figures of unseen seeds before and after, see `imprint`.
        vector: the learned token vector (width) in mode token.
    """

    embedding: Embedding
    trace: list[dict[str, Any]]
    report: dict[str, Any]
    vector: Tensor | None = None


@with_suitable_threads
def imprint(
    generator: Generator,
    start: Embedding,
    config: ImprintConfig,
    *,
    mask: Tensor | None = None,
    scorer: Scorer | None = None,
    run: Run | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> ImprintResult:
    """Move `start` until other seeds show what the target seed shows under it.

    The report holds figures of unseen seeds under the start and under the result: `share_before` and `share_after`, the
    fraction of seeds that show the target's aspect (by its name; without names: at most half as far from the target as
    seeds are under the start); `distance_before` and `distance_after` from the target (root mean square, in the
    aspect's features); `diversity_before` and `diversity_after` (root mean square distance of two seeds in the rest)
    and their ratio, `diversity_kept`; and `rest_moved`: each seed's distance, in the rest, from its image before, as a
    fraction of `diversity_before`.

    With a run, these files are written: `embedding.safetensors`, `trace.csv`, `report.json`, `target.png`, `sheet.png`
    (first row: the target, then unseen seeds before; second row: the same seeds after), in mode token
    `learned_embeds.safetensors`; and during the run `state.safetensors`, from which an interrupted run resumes with the
    same result.

    Args:
        generator: the model; mode paper needs a ChainGenerator, mode token a TokenGenerator.
        start: the embedding under which the target seed shows what is wanted.
        config: target seed, aspect, mode, seeds and limits.
        mask: (H, W) in 0..1, 1 where the target is copied; None: the run's mask where `config.mask_hash` names one.
        scorer: model that maps texts and images to one space; needed for aspects given as texts.
        run: run folder to write, and to resume from.
        progress: called with each row of the trace.

    Raises:
        UsageError: an embedding of another model, a generator that does not support the mode, an aspect that needs a
            scorer, a missing mask, or a run of another configuration.
        ThalwegError: a zero gradient at the first step.
    """
    start.check_model(generator.model)
    start.check_finite()
    if mask is None and config.mask_hash is not None:
        mask = _read_mask(run, config.mask_hash)
    descent = config.descent
    aspect = choose_aspect(config.keep or None, mask, scorer)
    unseen = _unseen_seeds(config)
    used = {config.seed, *unseen, *(config.seeds or ())}
    held_out = draw_seeds(descent.held_out, descent.random_seed, "held out", used)

    with torch.no_grad():
        target = generator.render(start, [config.seed])[0]
    move, objective, optimizer = _mode(generator, start, config, aspect, target, held_out)
    request = _request(config, start, aspect, unseen)
    state = restore_descent(run, request, optimizer, move.spread.device) if run is not None else None
    if state is None:
        first = optimizer.ask().clone()
        score = objective.evaluate(move.embedding(first))
        if not math.isfinite(score):
            raise ThalwegError(f"expected a finite loss at the start, got {score}; check the aspect to keep")
        state = DescentState(first, score, score)

    def seeds_of(step: int) -> Sequence[int]:
        if config.seeds is None:
            return draw_seeds(descent.batch, descent.random_seed, f"step {step}", {*used, *held_out})
        draws = random.Random(f"{descent.random_seed} step {step}")
        return draws.sample(list(config.seeds), min(descent.batch, len(config.seeds)))

    def save() -> None:
        if run is not None:
            save_descent(run, request, state, optimizer)

    descend(state, move, objective, optimizer, descent, seeds_of, save, progress)
    result, before, after = _result(generator, start, config, aspect, target, unseen, move, state)
    if run is not None:
        with torch.no_grad():
            target_after = generator.render(result.embedding, [config.seed])
        shown = sheet_seeds(config)
        images = torch.cat([target[None], before[:SHEET_SEEDS], target_after, after[:SHEET_SEEDS]])
        labels = [f"{when}, seed {seed}" for when in ("before", "after") for seed in shown]
        _write(run, result, target, labelled_sheet(images, len(shown), labels))
    return result


def _mode(
    generator: Generator,
    start: Embedding,
    config: ImprintConfig,
    aspect: Aspect,
    target: Tensor,
    held_out: Sequence[int],
) -> tuple[Move, DescentObjective, Optimizer]:
    """Return the offsets, the loss and the optimizer of the configuration's mode."""
    descent = config.descent
    if config.mode == "paper":
        return _paper_mode(generator, start, config.seed, held_out, descent)
    move: Move
    if config.mode == "token":
        move = _token_move(generator, start, config)
    else:
        move = TrustRegion(generator, start, descent.radius)
    objective = AspectObjective(generator, start, aspect, (config.seed, target), held_out, descent)
    return move, objective, Descent(move, descent)


def _request(config: ImprintConfig, start: Embedding, aspect: Aspect, unseen: Sequence[int]) -> dict[str, Any]:
    """Return the parameters that a state holds, under the names of its format."""
    descent = config.descent
    return {
        "start": start.hash,
        "mode": config.mode,
        "target_seed": config.seed,
        "aspect": aspect.name,
        "seeds": config.seeds,
        "unseen": unseen,
        "prompt": config.template,
        "placeholder": config.placeholder,
        "word": config.word,
        "steps": descent.steps,
        "batch": descent.batch,
        "length": descent.step_length,
        "radius": descent.radius,
        "rest_weight": descent.rest_weight,
        "held_out": descent.held_out,
        "judge_every": descent.evaluate_every,
        "patience": descent.patience,
        "random": descent.random_seed,
    }


def _result(
    generator: Generator,
    start: Embedding,
    config: ImprintConfig,
    aspect: Aspect,
    target: Tensor,
    unseen: Sequence[int],
    move: Move,
    state: DescentState,
) -> tuple[ImprintResult, Tensor, Tensor]:
    """Return the result, and the images (S, 3, H, W) of unseen seeds before and after."""
    parameters = {
        "mode": config.mode,
        "target_seed": config.seed,
        "aspect": aspect.name,
        "best_step": state.best_step,
    }
    vector = None
    if isinstance(move, TokenMove):
        vector = move.vector(state.best)
        parameters["placeholder"] = config.placeholder
    with torch.no_grad():
        embedding = start.derive(move.embedding(state.best).floating, "imprint", **parameters)
    before, after = (_render(generator, each, unseen, config.descent.batch) for each in (start, embedding))
    report = parameters | {
        "stopped": state.stopped,
        "score_start": state.start_score,
        "score_best": state.best_score,
        "unseen": unseen,
        **compare(aspect, target, before, after),
    }
    return ImprintResult(embedding, state.trace, report, vector), before, after


def _write(run: Run, result: ImprintResult, target: Tensor, sheet: Tensor) -> None:
    result.embedding.save(run.path("embedding.safetensors"))
    run.write_trace(result.trace)
    run.write_json("report.json", result.report)
    run.write_image("target.png", target)
    run.write_image("sheet.png", sheet)
    if result.vector is not None:
        save_textual_inversion(run.path(TOKEN_FILE), result.report["placeholder"], result.vector)


def compare(aspect: Aspect, target: Tensor, before: Tensor, after: Tensor) -> dict[str, Any]:
    """Return the report's figures of the same seeds before and after, see `imprint`.

    Args:
        aspect: the aspect that was copied.
        target: the target's image (3, H, W) in 0..1.
        before: images (S, 3, H, W) under the start.
        after: images (S, 3, H, W) under the result.
    """
    with torch.no_grad():
        goal = aspect.kept(target[None])
        distances = [squared_distances(aspect.kept(images), goal) for images in (before, after)]
        if aspect.read is None:
            shown = [each <= float(distances[0].mean()) / 4 for each in distances]
        else:
            name = aspect.read(target[None])[0]
            shown = [torch.tensor([read == name for read in aspect.read(images)]) for images in (before, after)]
        found: dict[str, Any] = {}
        for when, distance, shows in zip(("before", "after"), distances, shown, strict=True):
            found[f"share_{when}"] = float(shows.float().mean())
            found[f"distance_{when}"] = float(distance.mean().sqrt())
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


def _unseen_seeds(config: ImprintConfig) -> list[int]:
    if isinstance(config.unseen, int):
        excluded = {config.seed, *(config.seeds or ())}
        return list(draw_seeds(config.unseen, config.random_seed, "unseen", excluded))
    return list(config.unseen)


def sheet_seeds(config: ImprintConfig) -> list[int]:
    """Return the seeds in a row of the sheet: the target, then unseen ones."""
    return [config.seed, *_unseen_seeds(config)[:SHEET_SEEDS]]


def _read_mask(run: Run | None, mask_hash: str) -> Tensor:
    """Return the mask that the run stores.

    Raises:
        UsageError: the mask is missing or was changed.
    """
    if run is None:
        raise UsageError("`mask_hash` names a mask in a run folder: give `run`, or `mask` instead")
    file = run.folder / MASK
    if not file.is_file() or file_hash(file) != mask_hash:
        raise UsageError(f"{run.folder}: its {MASK} is missing or was changed; repeat the command that began the run")
    return read_mask(file)


def _paper_mode(
    generator: Generator, start: Embedding, target_seed: int, held_out: Sequence[int], descent: DescentConfig
) -> tuple[RepeatedMove, LatentObjective, PaperOptimizer]:
    if not isinstance(generator, ChainGenerator):
        raise UsageError("`mode=paper` needs a model that shows its latents between steps; use `mode=image`")
    move = RepeatedMove(generator, start)
    objective = LatentObjective(generator, start, target_seed, held_out, descent.steps)
    return move, objective, PaperOptimizer(move, LEARNING_RATE, LOSS_SCALE, keep_moments=False)


def _render(generator: Generator, embedding: Embedding, seeds: Sequence[int], batch: int) -> Tensor:
    parts = [seeds[first : first + batch] for first in range(0, len(seeds), batch)]
    with torch.no_grad():
        return torch.cat([generator.render(embedding, part) for part in parts])


def _token_move(generator: Generator, start: Embedding, config: ImprintConfig) -> TokenMove:
    if not isinstance(generator, TokenGenerator):
        raise UsageError("`mode=token` needs a model whose text encoder takes token vectors; use `mode=image`")
    text = start.lineage.prompt
    if not text and (config.template is None or config.word is None):
        raise UsageError("the start embedding has no prompt: give `template` with the placeholder, and `word`")
    template, word = config.template or f"{config.placeholder} {text}", config.word or text
    return TokenMove(generator, template, config.placeholder, word, config.descent.radius)
