"""Result of an optimization, in words and as a sheet of images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.steer.metrics.metric import Metric
from thalweg.steer.optimization.optimize import OptimizeResult
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.sheets import labelled_sheet, score_labels

REPORT = "report.json"
"""File of the sentences in a run folder."""
DISTANCES = ((0.1, "next to the prompt"), (0.3, "near the prompt"), (0.6, "some way from the prompt"))
"""Largest drifts and their names."""
LOSSES = ((0.98, "next to nothing"), (0.9, "little"), (0.75, "some"))
"""Smallest retained fractions and the names of what was lost."""


def describe(result: OptimizeResult, config: OptimizeConfig) -> list[str]:
    """Return the result in words, one sentence per entry: score, unseen seeds, drift, losses, judge."""
    metric = config.metric.name if isinstance(config.metric, Metric) else config.metric
    sentences = [f"{metric}: {result.start_score:.4g} -> {result.score:.4g} at step {result.step} ({result.stopped})"]
    if result.unseen_score is not None and result.unseen_start_score is not None:
        sentences.append(_unseen(result, result.unseen_start_score, result.unseen_score))
    first, best = result.trace[0], result.trace[result.step]
    distance = next((name for limit, name in DISTANCES if best.drift <= limit), "far from the prompt")
    sentences.append(f"drift: {best.drift:.2g}, {distance}")
    if math.isfinite(best.kept):
        keep = config.keep.name if isinstance(config.keep, Metric) else config.keep
        sentences.append(f"lost of {keep}: {_loss(first.kept, best.kept, config)}")
    else:
        sentences.append(
            "lost: not measured; a constraint, such as the prompt's own text score, measures and limits it"
        )
    if math.isfinite(best.judge):
        judge = config.judge.name if isinstance(config.judge, Metric) else f"{metric} at half resolution"
        sentences.append(f"judge, which was not optimized, {judge}: {first.judge:.4g} -> {best.judge:.4g}")
    return sentences


def before_and_after(metric: Metric, seeds: Sequence[int], before: Tensor, after: Tensor) -> Tensor:
    """Return a sheet (3, H', W') of the same seeds before (above) and after (below), labelled by their scores."""
    with torch.no_grad():
        scores = [metric(images).tolist() for images in (before, after)]
    labels = [*score_labels(seeds, scores[0], "before, "), *score_labels(seeds, scores[1], "after, ")]
    return labelled_sheet(torch.cat([before, after]), len(seeds), labels)


def _unseen(result: OptimizeResult, before: float, after: float) -> str:
    gained, seen = after - before, result.score - result.start_score
    share = gained / seen if seen else 0.0
    verdict = f"{share:.0%} of the gain holds there" if share > 0 else "nothing of the gain holds there"
    return f"on unseen seeds: {before:.4g} -> {after:.4g}, {verdict}"


def _loss(before: float, after: float, config: OptimizeConfig) -> str:
    sign = config.keep.sign if isinstance(config.keep, Metric) else 1
    lost = sign * (before - after) / abs(before) if before else 0.0
    words = next((name for least, name in LOSSES if 1 - lost >= least), "much")
    return f"{'nothing' if lost <= 0 else words} ({before:.4g} -> {after:.4g})"
