"""A site and its embeddings by a model at every clear date, in memory, for the benchmarks of embeddings."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from haze import dates_without_haze
from thalweg.earth.indices import index_band_numbers
from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.tiles import TrainingSite

OPTICAL, RADAR = "sentinel-2", "sentinel-1"
DATES_AT_ONCE = 16
"""Dates that are embedded together; frames are then computed once for all of them."""

Masking = Callable[[dict[str, SensorContext], torch.Tensor], dict[str, SensorContext]]
"""Contexts by sensor name and centre days (Q,) to masked contexts."""


class EmbeddedSite:
    """Embeddings of a site by a model, at every clear date and pixel; computed when they are first used.

    Attributes:
        site: the site.
        days: (Q,), days since 2015-01-01 of its clear dates.
    """

    def __init__(self, site: TrainingSite, model: EarthModel) -> None:
        self.model = model
        self.site = site
        self.days = site.centre_days

    @classmethod
    def load(cls, folder: Path, model: EarthModel) -> "EmbeddedSite":
        """Read a site with the sensors that the model knows."""
        return cls(TrainingSite.load(folder, model.sensors), model)

    @cached_property
    def _all_dates(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.embed(range(len(self.days)))

    @property
    def values(self) -> torch.Tensor:
        """Embeddings (Q, 32, H, W)."""
        return self._all_dates[0]

    @property
    def spread(self) -> torch.Tensor:
        """Predicted spread (Q, 32, H, W)."""
        return self._all_dates[1]

    def embed(self, dates: Sequence[int], masked: Masking | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and spreads (Q, 32, H, W) at some dates; `masked` is called for up to `DATES_AT_ONCE` of them."""
        values, spreads = [], []
        with torch.inference_mode():
            for days in self.days[list(dates)].split(DATES_AT_ONCE):
                contexts = self.site.contexts
                fused = self.model(contexts if masked is None else masked(contexts, days), days)
                values.append(fused.values)
                spreads.append(fused.spread)
        return torch.cat(values), torch.cat(spreads)

    def nearest(self, sensor: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sensor's nearest overpass to each date: values (Q, C, H, W), validity, days from the date."""
        return nearest_overpasses(self.site, sensor)

    def decode(self, values: torch.Tensor, sensor: str, away: torch.Tensor, size: int) -> torch.Tensor:
        """Bands `away` (Q, 1) days from each date, in the sensor's units, from the first `size` dimensions."""
        with torch.inference_mode():
            decoded = [
                self.model.decode(some, sensor, days, size)[:, 0]
                for some, days in zip(values.split(DATES_AT_ONCE), away.split(DATES_AT_ONCE), strict=True)
            ]
        return torch.cat(decoded)


def nearest_overpasses(site: TrainingSite, sensor: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sensor's nearest overpass to each clear date: values (Q, C, H, W), validity, days from the date."""
    context = site.contexts[sensor]
    index = (site.centre_days[:, None] - context.days[None]).abs().argmin(1)
    inner = slice(HALO, -HALO)
    away = (context.days[index] - site.centre_days)[:, None]
    return context.values[index][..., inner, inner], context.valid[index][..., inner, inner], away


def haze_free(site: TrainingSite) -> NDArray[np.bool_]:
    """Return which of a site's clear dates (Q,) the haze rule keeps."""
    values, valid, _ = nearest_overpasses(site, OPTICAL)
    blue = values[:, index_band_numbers(sensor_by_name(OPTICAL))["blue"]].numpy()
    return dates_without_haze(np.where(valid[:, 0].numpy() > 0, blue, np.nan), site.centre_days.numpy())
