"""Linear probes of leaf area and soil moisture on simulated landscapes, fitted to all landscapes but the tested one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from embedded_site import OPTICAL, EmbeddedSite, nearest_overpasses
from thalweg.earth.indices import INDICES, index_band_numbers, spectral_index
from thalweg.earth.model.context import days_since_epoch
from thalweg.earth.model.fusion import TRAITS
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.tiles import TrainingSite

PIXEL_STRIDE = 11
BARREN = ("water", "built", "road")
"""Words in the names of land cover without soil and plants."""


@dataclass(frozen=True)
class LandscapeSample:
    """Some clear pixels with soil and plants, N of all dates and pixels.

    Attributes:
        pixels: (N,), their indices in flattened dates and pixels (Q, H, W).
        truth: (N,) by name, the traits that the model decodes.
        indices: (N,) by name, spectral indices.
    """

    pixels: NDArray
    truth: dict[str, NDArray]
    indices: dict[str, NDArray]

    @classmethod
    def draw(cls, site: TrainingSite, truth: xr.Dataset) -> "LandscapeSample":
        """Draw from a landscape."""
        target, valid, _ = nearest_overpasses(site, OPTICAL)
        days = days_since_epoch(truth.time.values)
        rows = np.abs(days[:, None] - site.centre_days.numpy()[None]).argmin(0)
        land = np.isin(truth.land_cover.values, vegetated(truth))
        pixels = np.flatnonzero(((valid[:, 0].numpy() > 0) & land[None]).ravel())[::PIXEL_STRIDE]
        numbers = index_band_numbers(sensor_by_name(OPTICAL))
        bands = {name: target[:, number].numpy().ravel()[pixels] for name, number in numbers.items()}
        return cls(
            pixels,
            {name: truth[name].values[rows].ravel()[pixels] for name in TRAITS},
            {name: spectral_index(name, bands)[:, None] for name in INDICES},
        )

    def embeddings(self, here: EmbeddedSite) -> NDArray:
        """Return the sample's embeddings (N, 32)."""
        values: NDArray = here.values.movedim(1, -1).reshape(-1, here.values.shape[1]).numpy()[self.pixels]
        return values


def vegetated(truth: xr.Dataset) -> list[int]:
    """Land cover classes with soil and plants: not water, not sealed."""
    attributes = truth.land_cover.attrs
    names, values = str(attributes["flag_meanings"]).split(), np.asarray(attributes["flag_values"])
    return [int(v) for v, n in zip(values, names, strict=True) if not any(word in n for word in BARREN)]


def probe_scores(features: Sequence[NDArray], truths: Sequence[NDArray], within: bool = False) -> list[float]:
    """Return the R2 on each landscape of a linear probe fitted to the others.

    Args:
        features: (N, K) per landscape.
        truths: (N,) per landscape.
        within: remove each landscape's own mean from truth and prediction.
    """
    scores = []
    for test in range(len(features)):
        others = [number for number in range(len(features)) if number != test]
        x, y = (np.concatenate([parts[number] for number in others]) for parts in (features, truths))
        predicted, truth = LinearRegression().fit(x, y).predict(features[test]), truths[test]
        error = truth - predicted
        if within:
            error = error - error.mean()
        scores.append(float(1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum()))
    return scores
