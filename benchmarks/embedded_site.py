"""A site and its embeddings by a model at every clear date, in memory, for the benchmarks of embeddings."""

from collections.abc import Callable
from pathlib import Path

import torch

from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.training.tiles import TrainingSite

DATES_AT_ONCE = 16
"""Dates that are embedded together where nothing is masked; frames are then computed once for all of them."""


class EmbeddedSite:
    """Embeddings of a site by a model, at every clear date and pixel."""

    def __init__(self, folder: Path, model: EarthModel) -> None:
        self.model = model
        self.site = TrainingSite.load(folder, model.sensors)
        self.days = self.site.centre_days
        self.values, self.spread = self.embed(range(len(self.days)))

    def embed(
        self, dates: range | list[int], masked: Callable[[str, SensorContext, float], torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and spreads (Q, 32, H, W) at some dates; `masked` marks the overpasses to mask for each."""
        values, spreads = [], []
        with torch.inference_mode():
            for days in self.days[list(dates)].split(1 if masked else DATES_AT_ONCE):
                contexts = {
                    name: context.mask(masked(name, context, float(days[0]))) if masked else context
                    for name, context in self.site.contexts.items()
                }
                fused = self.model(contexts, days)
                values.append(fused.values)
                spreads.append(fused.spread)
        return torch.cat(values), torch.cat(spreads)

    def nearest(self, sensor: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sensor's nearest overpass to each date: values (Q, C, H, W), validity, days from the date."""
        context = self.site.contexts[sensor]
        index = (self.days[:, None] - context.days[None]).abs().argmin(1)
        inner = slice(HALO, -HALO)
        away = (context.days[index] - self.days)[:, None]
        return context.values[index][..., inner, inner], context.valid[index][..., inner, inner], away

    def decode(self, values: torch.Tensor, sensor: str, away: torch.Tensor, size: int) -> torch.Tensor:
        """Bands `away` (Q, 1) days from each date, in the sensor's units, from the first `size` dimensions."""
        with torch.inference_mode():
            return self.model.decode(values, sensor, away, size)[:, 0]
