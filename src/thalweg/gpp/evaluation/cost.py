"""Cost of an evaluation before it runs: every candidate is timed on a sample of the windows."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from thalweg.gpp.data.windows import Windows
from thalweg.gpp.evaluation.protocol import MIN_SHARED, EvaluationConfig, common_windows
from thalweg.gpp.models.ensemble import Ensemble, identity
from thalweg.gpp.models.predictors import PredictorSet

SAMPLE = 1500
"""Windows of a timed fit."""


def count_fits(windows: Windows, ensemble: Ensemble, config: EvaluationConfig) -> int:
    """Return the number of fits of each candidate of an ensemble, over all splits and one seed.

    Args:
        windows: Windows of all sites.
        ensemble: Unfitted ensemble.
        config: Configuration of the evaluation.
    """
    sites, years = len(windows.sites), len(np.unique(windows.year))
    total = 0
    for splitting in config.splittings:
        if splitting == "site" and config.partitions is not None and sites >= MIN_SHARED:
            total += config.partitions * min(ensemble.members, sites // 2)
            continue
        held_sites = min(config.groups or sites, sites)
        folds = {"site": held_sites, "year": years, "site-year": held_sites * years, "temperature": 1}[splitting]
        total += folds * (ensemble.members + 1)
    return total


def estimate_seconds(
    table: pd.DataFrame,
    predictors: Sequence[PredictorSet],
    models: Mapping[str, Callable[[int], Ensemble]],
    config: EvaluationConfig,
) -> float:
    """Return the seconds that an evaluation will take, within a factor of two or so.

    Candidates that several models share are fitted once per set of predictors, as in `evaluate`. The time of a fit is
    taken as proportional to its windows, and that of the largest set of predictors as the time of all: it is rather too
    long than too short.

    Args:
        table: Daily table.
        predictors: Sets of predictors.
        models: Functions that make a model from a seed, by name.
        config: Configuration of the evaluation.

    Raises:
        UsageError: A column is missing, or no days are in common.
    """
    largest = max(predictors, key=lambda one: len(one.columns))
    windows = common_windows(table, [largest], config.stride)[largest.name]
    sites = windows.sites
    sample = windows.split(sites=sites[: max(3, SAMPLE * len(sites) // max(len(windows), 1))])[1]
    sample = sample.select(slice(SAMPLE))
    seconds = 0.0
    known = set()
    for name, make in models.items():
        if name in config.physical:
            continue  # they need columns that the sample may lack, and cost little
        ensemble = make(0)
        sets = 1 if name in config.featureless else len(predictors)
        for candidate in ensemble.candidates.values():
            if identity(candidate) in known:
                continue
            known.add(identity(candidate))
            started = time.perf_counter()
            candidate(0).fit(sample, sample)
            per_window = (time.perf_counter() - started) / len(sample)
            share = 1 - 1 / ensemble.members
            seconds += per_window * len(windows) * share * count_fits(windows, ensemble, config) * sets
    return seconds * len(config.seeds) / config.workers
