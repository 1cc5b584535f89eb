"""Evaluation protocol: the splits, the fitting of the models, and the common rows on which they are compared."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thalweg.errors import UsageError, unknown_name
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.evaluation.scores import score
from thalweg.gpp.models.ensemble import Ensemble, HoldoutUnit, Paths
from thalweg.gpp.models.physics.drivers import has_drivers
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.tables.target_columns import GPP, FluxTarget, target_of

Splitting = Literal["site", "year", "site-year", "temperature"]
"""Leave a site out, a year, or a site in a year; or learn from the cooler half of the sites and predict the warmer."""

Progress = Callable[[int, int, str], None]
"""Callback with the number of models evaluated, of models in all, and the last one with its seconds."""

MIN_SHARED = 4
"""Sites from which members are shared between sites; with fewer, each site has an ensemble of its own."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of an evaluation.

    Attributes:
        splittings: Splits to evaluate.
        seeds: Seeds of the models; one run each.
        level: Level of the intervals, 0 to 1.
        partitions: Members per site when leaving sites out with members shared between sites
            (`Ensemble.leave_site_out`); None fits a separate ensemble per held-out site.
        groups: Number of groups of sites to hold out instead of single sites: faster, but an easier question.
        stride: Days between windows.
        workers: Number of processes.
        featureless: Names of models that use no features, such as climatology; they run once, not once per set.
        physical: Names of models that need temperature, vapour pressure deficit and radiation; they run for the sets
            that have these.

    Raises:
        UsageError: A splitting is unknown.
    """

    splittings: tuple[Splitting, ...] = ("site",)
    seeds: tuple[int, ...] = (0,)
    level: float = 0.9
    partitions: int | None = None
    groups: int | None = None
    stride: int = 1
    workers: int = 1
    featureless: tuple[str, ...] = ()
    physical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for splitting in self.splittings:
            _check_splitting(splitting)


@dataclass(frozen=True)
class Fold:
    """One split into training and held-out windows.

    Attributes:
        training: Windows to fit to.
        held_out: Windows to predict.
        unit: Unit that is held out within the training part.
    """

    training: Windows
    held_out: Windows
    unit: HoldoutUnit


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        scores: One row per splitting, set of predictors, model and seed; columns of `scores.UNITS`.
        predictions: One row per held-out site and day of each of them: observed, predicted, lower, upper
            in the target's units.
        level: Level of the intervals.
        notes: Lines on what was done differently from what was asked.
        target: FluxTarget of the table.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    level: float
    notes: tuple[str, ...] = ()
    target: FluxTarget = GPP


def folds(windows: Windows, splitting: Splitting, groups: int | None = None, seed: int = 0) -> Iterator[Fold]:
    """Split windows.

    Args:
        windows: All windows with a target.
        splitting: ``site`` and ``site-year`` predict other sites, ``year`` another year at known sites.
        groups: Number of groups of sites to hold out instead of single sites.
        seed: Seed of the grouping.

    Raises:
        UsageError: There are too few sites or years to hold one out, or the splitting is unknown.
    """
    _check_splitting(splitting)
    sites, years = windows.sites, np.unique(windows.year).tolist()
    if splitting in ("site", "site-year") and len(sites) < 2:
        raise UsageError(f"{len(sites)} sites: expected two or more to leave one out")
    if splitting in ("year", "site-year") and len(years) < 2:
        raise UsageError(f"a single year, {years[0]}: expected two or more to leave one out")
    if splitting == "temperature":
        raise UsageError("sites are split by temperature by `evaluate`: expected site, year or site-year")
    order = np.random.default_rng(seed).permutation(len(sites)) if groups else np.arange(len(sites))
    parts = np.array_split(order, min(groups or len(sites), len(sites)))
    held_sites: list[list[str] | None] = [[sites[index] for index in part] for part in parts]
    held_years: list[list[int] | None] = [[year] for year in years]
    if splitting == "site":
        held_years = [None]
    elif splitting == "year":
        held_sites = [None]
    # Years are held out within the training part too, where it has two of them, and where it has a single site.
    unit: HoldoutUnit = (
        "year" if (splitting == "year" and len(years) > 2) or (splitting != "year" and len(sites) == 2) else "site"
    )
    for some_sites in held_sites:
        for some_years in held_years:
            training, held_out = windows.split(some_sites, some_years)
            if len(held_out):
                yield Fold(training, held_out, unit)


def warmer_sites(table: pd.DataFrame) -> list[str]:
    """Return the warmer half of the sites by their mean temperature.

    Args:
        table: Daily table with air temperature.

    Raises:
        UsageError: There is no temperature, or fewer than four sites.
    """
    column = next((name for name in ("TA_ERA", "TA_F") if name in table), None)
    if column is None:
        raise UsageError("no column TA_ERA or TA_F: expected air temperature to split the sites by it")
    means = table.groupby("site")[column].mean().dropna().sort_values()
    if len(means) < 4:
        raise UsageError(f"{len(means)} sites with air temperature: expected four or more to split them in halves")
    return [str(site) for site in means.index[len(means) // 2 :]]


def common_windows(table: pd.DataFrame, predictors: Sequence[PredictorSet], stride: int = 1) -> dict[str, Windows]:
    """Make windows of each set of predictors over the same sites and days, so that all are scored on the same rows.

    Args:
        table: Daily table.
        predictors: Sets of predictors.
        stride: Days between windows.

    Returns:
        Windows by name of the set.

    Raises:
        UsageError: A site has too few days, or the sets have no window in common.
    """
    windows = {one.name: make_windows(table, one.columns, stride) for one in predictors}
    keys = {name: _keys(each) for name, each in windows.items()}
    shared = next(iter(keys.values()))
    for other in keys.values():
        shared = shared.intersection(other)
    if not len(shared):
        raise UsageError(
            f"no overlap in time: no day has {', '.join(windows)} and {target_of(table).label}: expected common days"
        )
    return {name: each.select(keys[name].isin(shared)) for name, each in windows.items()}


def evaluate(
    table: pd.DataFrame,
    predictors: Sequence[PredictorSet],
    models: Mapping[str, Callable[[int], Ensemble]],
    config: EvaluationConfig | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Fit every model to every training part and score its predictions of the held-out part on common rows.

    Args:
        table: Daily table (see `daily_table`).
        predictors: Sets of predictors.
        models: Functions that make a model from a seed, by name, such as `MODELS`; they must be picklable for several
            workers.
        config: Splits, seeds and resources; `EvaluationConfig()` by default.
        progress: Called after each model of each set of predictors.

    Returns:
        Scores and predictions.

    Raises:
        UsageError: A column is missing, no days are in common, or there are too few sites or years.
    """
    config = config or EvaluationConfig()
    windows = common_windows(table, predictors, config.stride)
    jobs = [
        (
            splitting,
            replace(one, name="no features") if name in config.featureless else one,
            windows[one.name],
            name,
            seed,
        )
        for splitting, one, name, seed in product(config.splittings, predictors, models, config.seeds)
        if (name not in config.featureless or one is predictors[0])
        and (name not in config.physical or has_drivers(one.columns))
    ]
    if not jobs:
        raise UsageError(
            f"{', '.join(models)}: no set of predictors has temperature, vapour pressure deficit and radiation (TA, "
            "VPD, SW_IN): add meteorology to the table, or choose other models"
        )
    warm = warmer_sites(table) if "temperature" in config.splittings else []
    known: dict[str, Paths] = {}
    count = len(windows[predictors[0].name].sites)
    shares = config.partitions is not None and count >= MIN_SHARED
    notes = []
    if config.partitions is not None and not shares and "site" in config.splittings:
        notes.append(
            f"leave site out: {count} sites, fewer than {MIN_SHARED}: each is left out by an ensemble of its own; "
            "scores of so few sites say little about others"
        )
    parts = []
    with _process_map(config.workers) as run:
        for splitting, one, here, name, seed in jobs:
            started = time.perf_counter()
            if splitting == "site" and shares:
                model = models[name](seed)
                own = known.setdefault(one.name, {})
                bounds = model.leave_site_out(here, config.level, config.partitions or 1, one.reduce, run, own)
                part = _predictions(here, bounds)
            else:
                if splitting == "temperature":
                    split = [Fold(*here.split(sites=warm), "site")]
                else:
                    split = list(folds(here, splitting, config.groups, seed))
                count = len(split)
                part = pd.concat(
                    run(
                        predict_fold,
                        count * [models[name]],
                        count * [seed],
                        count * [one],
                        split,
                        count * [config.level],
                    )
                )
            parts.append(part.assign(split=splitting, predictors=one.name, model=name, seed=seed))
            if progress is not None:
                seconds = time.perf_counter() - started
                progress(len(parts), len(jobs), f"{name} on {one.name}: {seconds:.0f} s")
    predictions = pd.concat(parts, ignore_index=True)
    keys = ["split", "predictors", "model", "seed"]
    rows = [dict(zip(keys, key, strict=True)) | score(rows) for key, rows in predictions.groupby(keys, sort=False)]
    return Evaluation(pd.DataFrame(rows), predictions, config.level, tuple(notes), target_of(table))


def predict_fold(
    make_model: Callable[[int], Ensemble], seed: int, predictors: PredictorSet, fold: Fold, level: float = 0.9
) -> pd.DataFrame:
    """Fit a model to the training part of a fold and predict its held-out part.

    Args:
        make_model: Function that makes a model from a seed.
        seed: Seed of the model.
        predictors: Set of predictors.
        fold: Training and held-out windows.
        level: Level of the intervals.

    Returns:
        Columns site, time, observed, predicted, lower, upper in the target's units, one row per held-out window.
    """
    training, held_out = predictors.reduce(fold.training, fold.held_out)
    model = make_model(seed).fit(training, fold.unit)
    return _predictions(held_out, model.predict_interval(held_out, level))


def _check_splitting(splitting: str) -> None:
    if splitting not in get_args(Splitting):
        raise unknown_name("splitting", splitting, get_args(Splitting))


def _predictions(windows: Windows, bounds: NDArray) -> pd.DataFrame:
    """Return a table of predictions from (N, 3) lower bound, prediction, upper bound."""
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
def _process_map(workers: int) -> Iterator[Callable[..., Iterable]]:
    """Yield a ``map`` over processes of one thread each, or the plain ``map`` for one worker."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, initializer=_use_one_thread) as pool:
        yield pool.map


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
