"""Metrics made of the text that a user writes."""

import functools
from collections.abc import Callable
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.prompts import read_prompt
from thalweg.steer.metrics.expression import FILE_METRICS, SCORER_METRICS, Factor, read_expression
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.scorer import ImageEncoder, Scorer

LoadScorer = Callable[[], Scorer]
LoadImageEncoder = Callable[[], ImageEncoder]


def parse(
    text: str,
    load_scorer: LoadScorer | None = None,
    read_files: bool = True,
    load_dino: LoadImageEncoder | None = None,
) -> Metric:
    """Return the metric that a user writes, such as `0.5*sharpness + text: a red ball` (see `read_expression`).

    Names, arguments and files are checked before the scorer is loaded.

    Args:
        text: the metric.
        load_scorer: loads the scorer; called once, where the text needs one. None: there is no scorer.
        read_files: whether terms that name a file (image, aesthetics, dino) may read it.
        load_dino: loads the DINOv2 encoder, where the text needs one. None: there is none.

    Raises:
        UsageError: the text is no metric, a file is missing, invalid or may not be read, or there is no scorer.
    """
    terms = read_expression(text)
    makers = [
        [_maker(factor, load_scorer is not None, read_files, load_dino) for factor in term.factors] for term in terms
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


def _maker(
    factor: Factor, has_scorer: bool, read_files: bool, load_dino: LoadImageEncoder | None
) -> Callable[[LoadScorer], Metric]:
    """Check a metric's argument and file; return a function that makes the metric with a scorer where it needs one."""
    from thalweg.steer.metrics import clip_metrics, image_statistics

    name, argument = factor.name, factor.argument
    if name == "palette":
        return lambda scorer: image_statistics.palette(argument.split())
    if name not in SCORER_METRICS:
        make = getattr(image_statistics, name)
        return lambda scorer: make(argument) if argument else make()
    if name in FILE_METRICS and not read_files:
        raise UsageError(f"metric {name} reads a file of this machine, which is not allowed here; take others")
    if name == "dino":
        return _dino_maker(argument, load_dino)
    if name == "text":
        _check_text(argument, read_files)
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


def _dino_maker(argument: str, load_dino: LoadImageEncoder | None) -> Callable[[LoadScorer], Metric]:
    """Read the reference image of the metric dino; return a function that makes the metric."""
    from thalweg.io.image_files import read_image
    from thalweg.steer.metrics import clip_metrics

    if load_dino is None:
        raise UsageError("metric 'dino' needs a DINOv2 model, and there is none")
    image = read_image(argument)
    return lambda scorer: clip_metrics.image_similarity(load_dino(), image, f"dino: {argument}")


def _check_text(argument: str, read_files: bool) -> None:
    """Refuse the name of a file as a text; without `read_files` no file is looked for."""

    def refuse(name: str) -> Path:
        raise UsageError(f"metric text: expected a text, got {name!r}, the name of a file")

    if isinstance(read_prompt(argument, Path if read_files else refuse), Path):
        refuse(argument)


def _no_scorer() -> Scorer:
    raise UsageError("expected a scorer of texts and images, and this model has none")
