"""Metrics made of the text that a user writes."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import UsageError
from thalweg.prompts import read_prompt
from thalweg.steer.metrics.expression import FILE_METRICS, MODEL_METRICS, SCORER_METRICS, Factor, read_expression
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.scorer import Scorer

LoadScorer = Callable[[], Scorer]
Loaders = Mapping[str, Callable[[], Any]]
"""Functions that load the models of metrics, by the metric's name: `ImageEncoder`, `ImageDistance`, `RewardModel`."""


def parse(
    text: str,
    load_scorer: LoadScorer | None = None,
    read_files: bool = True,
    loaders: Loaders | None = None,
) -> Metric:
    """Return the metric that a user writes, such as `0.5*sharpness + text: a red ball` (see `read_expression`).

    Names, arguments and files are checked before the scorer is loaded.

    Args:
        text: the metric.
        load_scorer: loads the scorer; called once, where the text needs one. None: there is no scorer.
        read_files: whether terms that name a file (image, aesthetics, dino, lpips, dreamsim) may read it.
        loaders: load the models of the metrics of `MODEL_METRICS`, where the text needs them.

    Raises:
        UsageError: the text is no metric, a file is missing, invalid or may not be read, or there is no scorer.
    """
    terms = read_expression(text)
    makers = [
        [_maker(factor, load_scorer is not None, read_files, loaders or {}) for factor in term.factors]
        for term in terms
    ]
    scorer = functools.cache(load_scorer or _no_scorer)
    total: Metric | None = None
    for term, made in zip(terms, makers, strict=True):
        product = functools.reduce(Metric.__mul__, [make(scorer) for make in made])
        weighted = product if term.weight == 1 else term.weight * product
        if total is None:
            total = weighted if term.sign > 0 else -1 * weighted
        else:
            total = total + weighted if term.sign > 0 else total - weighted
    assert total is not None  # an expression has at least one term
    return total


def _maker(factor: Factor, has_scorer: bool, read_files: bool, loaders: Loaders) -> Callable[[LoadScorer], Metric]:
    """Check a metric's argument and file; return a function that makes the metric with a scorer where it needs one."""
    from thalweg.steer.metrics import clip_metrics, image_statistics

    name, argument = factor.name, factor.argument
    if name == "palette":
        return lambda scorer: image_statistics.palette(argument.split())
    if name not in (*SCORER_METRICS, *MODEL_METRICS):
        make = getattr(image_statistics, name)
        return lambda scorer: make(argument) if argument else make()
    if name in FILE_METRICS and not read_files:
        raise UsageError(f"metric {name} reads a file of this machine, which is not allowed here; take others")
    if name in ("text", "image_reward"):
        _check_text(name, argument, read_files)
    if name in MODEL_METRICS:
        return _model_maker(factor, loaders)
    if not has_scorer:
        raise UsageError(f"metric {name!r} needs a scorer of texts and images, and this model has none")
    if name == "image":
        from thalweg.io.image_files import read_image

        image = read_image(argument)
        return lambda scorer: clip_metrics.image_similarity(scorer(), image, f"image: {argument}")
    if name == "aesthetics":
        head = clip_metrics.read_head(argument)
        return lambda scorer: clip_metrics.aesthetics(scorer(), head)
    return lambda scorer: clip_metrics.text_similarity(scorer(), argument)


def _model_maker(factor: Factor, loaders: Loaders) -> Callable[[LoadScorer], Metric]:
    """Return a function that makes a metric with a model of its own; a reference image is read at once."""
    from thalweg.io.image_files import read_image
    from thalweg.steer.metrics import clip_metrics, model_metrics

    name, argument = factor.name, factor.argument
    if name not in loaders:
        raise UsageError(f"metric {name!r} needs {MODEL_METRICS[name]}, and there is none")
    load = loaders[name]
    if name == "image_reward":
        return lambda scorer: model_metrics.image_reward(load(), argument)
    image = read_image(argument)
    if name == "lpips":
        return lambda scorer: model_metrics.lpips(load(), image, f"lpips: {argument}")
    return lambda scorer: clip_metrics.image_similarity(load(), image, f"{name}: {argument}")


def _check_text(metric: str, argument: str, read_files: bool) -> None:
    """Refuse the name of a file as a text; without `read_files` no file is looked for."""

    def refuse(name: str) -> Path:
        raise UsageError(f"metric {metric}: expected a text, got {name!r}, the name of a file")

    if isinstance(read_prompt(argument, Path if read_files else refuse), Path):
        refuse(argument)


def _no_scorer() -> Scorer:
    raise UsageError("expected a scorer of texts and images, and this model has none")
