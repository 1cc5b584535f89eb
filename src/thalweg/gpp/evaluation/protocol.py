"""The evaluation protocol: what is held out, on what a model is fitted, on which rows all are compared."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.evaluation.scores import score
from thalweg.gpp.models.ensemble import Ensemble, Model, Unit

Splitting = Literal["site", "year", "site-year"]
"""Leave a site out, leave a year out, or leave a site in a year out."""

Progress = Callable[[int, int], None]
"""Called with models evaluated and models in all."""


@dataclass(frozen=True)
class Predictors:
    """A named set of features.

    Attributes:
        name: What reports call it.
        columns: Columns of the daily table.
        reduced: Those of ``columns`` that are replaced by their first principal components, fitted on training days.
        components: How many.
    """

    name: str
    columns: tuple[str, ...]
    reduced: tuple[str, ...] = ()
    components: int = 0


@dataclass(frozen=True)
class Fold:
    """One split: its windows train, or are predicted."""

    training: Windows
    held_out: Windows
    unit: Unit


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: One row per splitting, predictors, model and seed; columns of `scores.UNITS`.
        predictions: One row per held-out site and day of each of them: observed, predicted, lower, upper.
        level: Of the intervals.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    level: float


def folds(windows: Windows, splitting: Splitting, groups: int | None = None, seed: int = 0) -> Iterator[Fold]:
    """Split windows.

    Args:
        windows: All windows with a target.
        splitting: ``site`` and ``site-year`` ask for other sites, ``year`` for another year at known sites.
        groups: Hold sites out in this many groups instead of one by one: quicker, not the same question.
        seed: Of the grouping.

    Raises:
        UsageError: Too few sites or years to hold one out.
    """
    sites, years = windows.sites, np.unique(windows.year).tolist()
    if splitting in ("site", "site-year") and len(sites) < 3:
        raise UsageError(f"{len(sites)} sites: expected three or more to leave one out and hold one back in training")
    if splitting in ("year", "site-year") and len(years) < 2:
        raise UsageError(f"a single year, {years[0]}: expected two or more to leave one out")
    order = np.random.default_rng(seed).permutation(len(sites)) if groups else np.arange(len(sites))
    parts = np.array_split(order, min(groups or len(sites), len(sites)))
    held_sites: list[list[str] | None] = [[sites[index] for index in part] for part in parts]
    held_years: list[list[int] | None] = [[year] for year in years]
    if splitting == "site":
        held_years = [None]
    elif splitting == "year":
        held_sites = [None]
    elif splitting != "site-year":
        raise UsageError(f"splitting {splitting!r}: expected site, year or site-year")
    # Inside the training part years are held back too, where there are two of them.
    unit: Unit = "year" if splitting == "year" and len(years) > 2 else "site"
    for some_sites in held_sites:
        for some_years in held_years:
            training, held_out = windows.split(some_sites, some_years)
            if len(held_out):
                yield Fold(training, held_out, unit)


def common_windows(table: pd.DataFrame, predictors: Sequence[Predictors], stride: int = 1) -> dict[str, Windows]:
    """Windows of each set of features over the same sites and days, so that every row is scored on the same rows.

    Raises:
        UsageError: A site has too few days, or the sets have no window in common.
    """
    windows = {one.name: make_windows(table, one.columns, stride) for one in predictors}
    keys = {name: _keys(each) for name, each in windows.items()}
    shared = next(iter(keys.values()))
    for other in keys.values():
        shared = shared.intersection(other)
    if not len(shared):
        raise UsageError(f"no overlap in time: no day has {', '.join(windows)} and GPP: expected common days")
    return {name: each.select(keys[name].isin(shared)) for name, each in windows.items()}


def evaluate(
    table: pd.DataFrame,
    predictors: Sequence[Predictors],
    models: Mapping[str, Callable[[int], Ensemble]],
    splittings: Iterable[Splitting] = ("site",),
    seeds: Sequence[int] = (0,),
    level: float = 0.9,
    partitions: int | None = None,
    groups: int | None = None,
    stride: int = 1,
    workers: int = 1,
    progress: Progress | None = None,
    featureless: Collection[str] = (),
) -> Evaluation:
    """Fit every model on every training part and score what it says of the held-out part, all on the same rows.

    Args:
        table: A daily table.
        predictors: Sets of features.
        models: A model from a seed, by name; to use ``workers``, functions that can be pickled.
        splittings: Which splits.
        seeds: One run each.
        level: Of the intervals.
        partitions: Leave one site out with members shared between sites (`Ensemble.leave_site_out`), so many per
            site; None fits an ensemble for every site anew.
        groups: See `folds`.
        stride: Days between windows.
        workers: Processes.
        progress: Called after each model of each set of features.
        featureless: Models that look at no feature, such as climatology: run once, not once per set.

    Raises:
        UsageError: A column or common days are missing, or there are too few sites or years.
    """
    windows = common_windows(table, predictors, stride)
    jobs = [
        (splitting, replace(one, name="no features") if name in featureless else one, windows[one.name], name, seed)
        for splitting, one, name, seed in product(splittings, predictors, models, seeds)
        if name not in featureless or one is predictors[0]
    ]
    parts = []
    with _processes(workers) as run:
        for splitting, one, here, name, seed in jobs:
            if splitting == "site" and partitions is not None:
                bounds = models[name](seed).leave_site_out(here, level, partitions, partial(reduce, one), run)
                part = _predictions(here, bounds)
            else:
                split = list(folds(here, splitting, groups, seed))
                count = len(split)
                part = pd.concat(
                    run(predict_fold, count * [models[name]], count * [seed], count * [one], split, count * [level])
                )
            parts.append(part.assign(split=splitting, predictors=one.name, model=name, seed=seed))
            if progress is not None:
                progress(len(parts), len(jobs))
    predictions = pd.concat(parts, ignore_index=True)
    keys = ["split", "predictors", "model", "seed"]
    rows = [dict(zip(keys, key, strict=True)) | score(rows) for key, rows in predictions.groupby(keys, sort=False)]
    return Evaluation(pd.DataFrame(rows), predictions, level)


def predict_fold(
    make_model: Callable[[int], Model], seed: int, predictors: Predictors, fold: Fold, level: float = 0.9
) -> pd.DataFrame:
    """Fit a model to a fold's training part; observed and predicted GPP of its held-out part."""
    training, held_out = reduce(predictors, fold.training, fold.held_out)
    model = make_model(seed).fit(training, fold.unit)
    return _predictions(held_out, model.predict_interval(held_out, level))


def reduce(predictors: Predictors, training: Windows, held_out: Windows) -> tuple[Windows, Windows]:
    """Replace the features to be reduced by their first principal components over the training part's days."""
    if not predictors.components:
        return training, held_out
    names = training.features
    chosen = np.isin(names, predictors.reduced)
    daily = training.daily
    seen = daily[training.covered][:, chosen]
    seen = seen[np.isfinite(seen).all(1)]
    mean, scale = seen.mean(0), seen.std(0) + 1e-9
    axes = np.linalg.svd((seen - mean) / scale, full_matrices=False)[2][: predictors.components]
    components = ((daily[:, chosen] - mean) / scale) @ axes.T
    kept = (name for name, here in zip(names, chosen, strict=True) if not here)
    features = (*(f"component_{index + 1}" for index in range(len(axes))), *kept)
    changed = np.concatenate([components.astype(np.float32), daily[:, ~chosen]], 1)
    return replace(training, features=features, daily=changed), replace(held_out, features=features, daily=changed)


def _predictions(windows: Windows, bounds: NDArray) -> pd.DataFrame:
    """Predictions of windows from (N, 3) lower bound, prediction, upper bound."""
    lower, predicted, upper = bounds.T
    return pd.DataFrame(
        {
            "site": windows.site,
            "time": windows.time,
            "observed": windows.target,
            "predicted": predicted,
            "lower": lower,
            "upper": upper,
        }
    )


def _keys(windows: Windows) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([windows.site, windows.time])


@contextmanager
def _processes(workers: int) -> Iterator[Callable[..., Iterable]]:
    """A ``map`` over processes of one thread each, or the plain one."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        yield pool.map


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
