"""Level of a site as a regression of its own: a Gaussian process over climate and constants, pooled by plant type.

The level of a site is the factor from a model of photosynthesis to its GPP. Sites of one plant type share an effect,
and sites of a similar climate have similar levels; how much of either the training sites show is estimated from them,
so that a type with few or dissimilar sites is drawn towards the mean of all.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.sites.site_columns import SiteTable, Standardisation, site_table

START = {
    "climate": 0.6, "climate_length": 1.0, "constants": 0.6, "constants_length": 1.0, "type": 0.4, "noise": 0.7,
}  # fmt: skip
"""Standard deviations and lengths from which the fit starts, where the levels have a unit variance.

They are also the medians of log-normal priors with a standard deviation of 1.
"""

_ARRAYS = (
    "parameters",
    "climate",
    "constants",
    "weights",
    "climate_mean",
    "climate_scale",
    "constants_mean",
    "constants_scale",
)


@dataclass(frozen=True)
class SiteLevels:
    """Levels of the training sites, and a regression that predicts those of others.

    Attributes:
        own: Levels of the training sites by name.
        mean: Mean level.
        types: (S,) plant types of the training sites.
        arrays: Parameters of the process, standardised columns of the training sites and the weights of their levels.
        varies: (F,) mask of the features that vary within a site.
    """

    own: dict[str, float]
    mean: float
    types: NDArray[np.str_]
    arrays: dict[str, NDArray[np.float64]]
    varies: NDArray[np.bool_]

    def of(self, windows: Windows) -> NDArray[np.float64]:
        """Return the (N,) level of each window's site: its own if it is a training site, else a predicted one."""
        table = site_table(windows, self.varies)
        predicted = self.predict(table)
        levels = {site: self.own.get(site, float(level)) for site, level in zip(table.sites, predicted, strict=True)}
        return np.array([levels[str(site)] for site in windows.site])

    def predict(self, table: SiteTable) -> NDArray[np.float64]:
        """Return the (S,) levels of sites that were not in the training."""
        arrays = self.arrays
        climate, constants = (
            Standardisation(arrays[f"{name}_mean"], arrays[f"{name}_scale"]).apply(getattr(table, name))
            for name in ("climate", "constants")
        )
        covariance = _covariance(
            arrays["parameters"],
            (table.types, climate, constants),
            (self.types, arrays["climate"], arrays["constants"]),
        )
        return np.asarray(self.mean + covariance @ arrays["weights"])

    def settings(self) -> dict[str, Any]:
        """Return the levels as values that JSON holds."""
        return {
            "own": self.own,
            "mean": self.mean,
            "types": self.types.tolist(),
            "arrays": {name: values.tolist() for name, values in self.arrays.items()},
            "shapes": {name: list(values.shape) for name, values in self.arrays.items()},
            "varies": self.varies.tolist(),
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Return the levels of `settings`.

        Raises:
            KeyError, TypeError, ValueError: A part is missing or does not fit.
        """
        arrays = {name: np.array(settings["arrays"][name], float).reshape(settings["shapes"][name]) for name in _ARRAYS}
        types = np.array(settings["types"], dtype=np.str_)
        own = {str(site): float(level) for site, level in settings["own"].items()}
        if not len(types) == len(arrays["climate"]) == len(arrays["constants"]) == len(arrays["weights"]) == len(own):
            raise ValueError("levels of other sites")
        return cls(own, float(settings["mean"]), types, arrays, np.array(settings["varies"], bool))


def fit_site_levels(windows: Windows, expected: NDArray) -> SiteLevels:
    """Fit the levels of the sites of training windows and their regression.

    Args:
        windows: Training windows.
        expected: (N,) GPP of a model of photosynthesis at the windows.
    """
    weights = day_weights(windows)
    weighted = expected if weights is None else expected * weights
    table = site_table(windows, windows.varies)
    own = {}
    for site in table.sites:
        here = windows.site == site
        power = float((weighted[here] * expected[here]).sum())
        own[site] = float((weighted[here] * windows.target[here]).sum()) / power if power > 0 else 1.0
    levels = np.array([own[site] for site in table.sites])
    mean, unit = float(levels.mean()), float(levels.std()) or 1.0
    standards = {name: Standardisation.fit(getattr(table, name)) for name in ("climate", "constants")}
    rows = (table.types, standards["climate"].apply(table.climate), standards["constants"].apply(table.constants))
    parameters = _fit_parameters(rows, (levels - mean) / unit)
    matrix = _covariance(parameters, rows, rows) + np.exp(2 * parameters[-1]) * np.eye(len(levels))
    arrays = {
        "parameters": parameters,
        "climate": rows[1],
        "constants": rows[2],
        "weights": np.linalg.solve(matrix, levels - mean),
        **{f"{name}_mean": one.mean for name, one in standards.items()},
        **{f"{name}_scale": one.scale for name, one in standards.items()},
    }
    return SiteLevels(own, mean, table.types, arrays, windows.varies)


_Rows = tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]  # types, climate, constants


def _covariance(parameters: NDArray, one: _Rows, other: _Rows) -> NDArray[np.float64]:
    """Return the (S, T) covariance of the levels of two sets of sites; parameters are logarithms in `START`'s order."""
    value = dict(zip(START, np.exp(parameters), strict=True))
    same = (one[0][:, None] == other[0]) & (one[0][:, None] != "")
    found = value["type"] ** 2 * same
    for name, mine, theirs in (("climate", one[1], other[1]), ("constants", one[2], other[2])):
        if mine.shape[1]:
            squares = np.square(mine[:, None] - theirs).mean(-1)
            found = found + value[name] ** 2 * np.exp(-0.5 * squares / value[f"{name}_length"] ** 2)
    return found


def _fit_parameters(rows: _Rows, levels: NDArray) -> NDArray[np.float64]:
    """Return the logarithms of the parameters of the largest posterior density."""
    from scipy.optimize import minimize

    start = np.log(list(START.values()))

    def loss(parameters: NDArray) -> float:
        noise = np.exp(2 * parameters[-1]) + 1e-9
        factor = np.linalg.cholesky(_covariance(parameters, rows, rows) + noise * np.eye(len(levels)))
        half = np.linalg.solve(factor, levels)
        return float(0.5 * half @ half + np.log(np.diag(factor)).sum() + 0.5 * np.square(parameters - start).sum())

    bounds = [(value - 4.0, value + 4.0) for value in start]
    return np.asarray(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
