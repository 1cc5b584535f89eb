"""Partial pooling of a scale by plant type: types with few or dissimilar towers are drawn towards the mean of all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.tables.daily_table import CLASS_PREFIX


@dataclass(frozen=True)
class PooledScale:
    """Scale of a model's output by plant type.

    Attributes:
        mean: Scale of a tower of unknown plant type.
        by_class: Scale by column of the plant type.
    """

    mean: float
    by_class: dict[str, float]

    def of(self, windows: Windows) -> NDArray[np.float64]:
        """Return (N,) the scale of each window by its plant type."""
        found = np.full(len(windows), self.mean)
        for name, scale in self.by_class.items():
            if name in windows.features:
                found[windows.daily[windows.last, windows.features.index(name)] == 1] = scale
        return found


def fit_pooled_scale(windows: Windows, output: NDArray[np.float64]) -> PooledScale:
    """Fit the scale of a model's output to the GPP of training windows.

    Each tower has the scale of least squares. The effect of a plant type is the mean of its towers, shrunk by the share
    of the variance of that mean that lies between types (a random-effects model with moment estimates).

    Args:
        windows: Training windows.
        output: (N,) output of the model at the windows.
    """
    scales, classes = [], []
    weights = day_weights(windows)
    weighted = output if weights is None else output * weights
    for site in windows.sites:
        here = windows.site == site
        power = float((weighted[here] * output[here]).sum())
        if power > 0:
            scales.append(float((weighted[here] * windows.target[here]).sum() / power))
            classes.append(_class_of(windows, here))
    values, kinds = np.array(scales), np.array(classes)
    if not len(values):
        return PooledScale(1.0, {})
    mean = float(values.mean())
    names = [str(name) for name in np.unique(kinds) if name]
    groups = [values[kinds == name] for name in names]
    within = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom or len(groups) < 2:
        return PooledScale(mean, {})
    noise = within / freedom
    means = np.array([group.mean() for group in groups])
    counts = np.array([len(group) for group in groups])
    between = max(float(means.var(ddof=1) - (noise / counts).mean()), 0.0)
    shares = between / (between + noise / counts) if between else np.zeros(len(groups))
    effects = mean + shares * (means - mean)
    return PooledScale(mean, {name: float(effect) for name, effect in zip(names, effects, strict=True)})


def _class_of(windows: Windows, here: NDArray[np.bool_]) -> str:
    """Return the column of the plant type of a site, "" without one."""
    row = windows.daily[windows.last[here][0]]
    return next(
        (
            name
            for name, value in zip(windows.features, row, strict=True)
            if name.startswith(CLASS_PREFIX) and value == 1
        ),
        "",
    )
