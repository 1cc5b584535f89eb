"""What every report compares: sets of predictors, as far as a table has their columns, and models."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from thalweg.errors import UsageError
from thalweg.gpp.data.daily_table import feature_columns
from thalweg.gpp.data.radiation import POTENTIAL_RADIATION
from thalweg.gpp.evaluation.protocol import Predictors
from thalweg.gpp.models.baselines import BoostingLearner, ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.transformer import TransformerLearner
from thalweg.gpp.tables.plausible_values import METEOROLOGY

INDICES = ("NDVI", "EVI", "NIRv", "kNDVI")
"""Vegetation indices that a report compares with, through spyndex."""

_RADAR = ("VV", "VH")
_OPTICAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_EMBEDDING = re.compile(r"e\d+$")
_WEATHER = re.compile(rf"({'|'.join(METEOROLOGY)})_(ERA|F)$")


def transformer(seed: int = 0) -> Ensemble:
    """The temporal transformer of 90 days."""
    return Ensemble({"small": TransformerLearner}, seed=seed)


def boosting(seed: int = 0) -> Ensemble:
    """Gradient boosting on the last day and the means of 7, 30 and 90 days; two sizes of tree to choose from."""
    return Ensemble({"31 leaves": BoostingLearner, "15 leaves": _small_trees}, seed=seed)


def ridge(seed: int = 0) -> Ensemble:
    """Ridge regression on the same means; three penalties to choose from."""
    return Ensemble({"10": RidgeLearner, "1000": _firm_ridge, "30000": _stiff_ridge}, seed=seed)


def climatology(seed: int = 0) -> Ensemble:
    """The mean GPP of the day of year."""
    return Ensemble({"day of year": ClimatologyLearner}, seed=seed)


MODELS: dict[str, Callable[[int], Ensemble]] = {
    "transformer": transformer,
    "boosting": boosting,
    "ridge": ridge,
    "climatology": climatology,
}
"""Models by name, each made from a seed."""


def with_indices(table: pd.DataFrame) -> pd.DataFrame:
    """Add NDVI, EVI, NIRv and kNDVI where the table has the bands B02, B04 and B08 (reflectance) and not the index."""
    missing = [name for name in INDICES if name not in table]
    if not missing or not {"B02", "B04", "B08"} <= set(table):
        return table
    wider = table.assign(**{name: values for name, values in vegetation_indices(table).items() if name in missing})
    wider.attrs = dict(table.attrs)
    return wider


def vegetation_indices(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """NDVI, EVI, NIRv and kNDVI of the columns B02, B04 and B08 (reflectance), through spyndex."""
    import spyndex

    blue, red, near_infrared = (table[name].to_numpy(float) for name in ("B02", "B04", "B08"))
    kernel = spyndex.computeKernel("RBF", a=near_infrared, b=red, sigma=0.5 * (near_infrared + red))
    parameters = {
        "N": near_infrared, "R": red, "B": blue, "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0, "kNN": 1.0, "kNR": kernel,
    }  # fmt: skip
    return {name: np.asarray(spyndex.computeIndex(name, params=parameters)) for name in INDICES}


def predictor_sets(table: pd.DataFrame, beside: Sequence[str] = ()) -> tuple[list[Predictors], list[str]]:
    """The sets of predictors a report compares, and which of them the table has no columns for.

    Args:
        table: A daily table; embedding values are named e1, e2, ..., bands and indices by their names, meteorology
            and potential radiation as in FLUXNET.
        beside: Columns that every set is given, such as vegetation classes.

    Returns:
        Sets: potential radiation, meteorology, and each of indices, bands, radar only, optical only, principal
        components of the bands as many as the embedding has values, and embedding; the satellite's with and without
        radiation; and one line for each that is left out.
    """
    columns = feature_columns(table)
    radiation = tuple(name for name in columns if name == POTENTIAL_RADIATION)
    weather = tuple(name for name in columns if _WEATHER.match(name))
    bands = tuple(name for name in columns if name in _OPTICAL + _RADAR)
    embedding = tuple(name for name in columns if _EMBEDDING.match(name))
    satellite = [
        Predictors("indices", tuple(name for name in columns if name in INDICES)),
        Predictors("bands, Sentinel-1 only", tuple(name for name in bands if name in _RADAR)),
        Predictors("bands, Sentinel-2 only", tuple(name for name in bands if name in _OPTICAL)),
        Predictors("bands", bands),
        Predictors("principal components", bands, bands, min(len(embedding) or 7, len(bands))),
        Predictors("embedding", embedding),
    ]
    if not (set(bands) & set(_RADAR) and set(bands) & set(_OPTICAL)):  # one sensor alone is all there is
        satellite = [one for one in satellite if not one.name.endswith("only")]
    everything = Predictors("embedding, meteorology", embedding + weather if embedding and weather else ())
    wanted = [
        Predictors("potential radiation", radiation),
        Predictors("meteorology", weather),
        *satellite,
    ]
    with_radiation = [
        replace(one, name=f"{one.name}, potential radiation", columns=one.columns + radiation)
        for one in [wanted[1], *satellite, everything]
        if one.columns
    ]
    found = [one for one in wanted if one.columns] + (with_radiation if radiation else [])
    left_out = [f"{one.name}: the table has no such columns" for one in wanted if not one.columns]
    if not found:
        raise UsageError(
            f"no columns to predict from: the table has {', '.join(columns) or 'none'}: expected embedding values "
            f"(e1, ...), bands, indices, meteorology or {POTENTIAL_RADIATION}"
        )
    return [replace(one, columns=(*one.columns, *beside)) for one in found], left_out


def _small_trees(seed: int) -> BoostingLearner:
    return BoostingLearner(seed, leaves=15, rate=0.08, least_leaf=200, trees=300)


def _firm_ridge(seed: int) -> RidgeLearner:
    return RidgeLearner(seed, penalty=1000.0)


def _stiff_ridge(seed: int) -> RidgeLearner:
    return RidgeLearner(seed, penalty=30_000.0)
