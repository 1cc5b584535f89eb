"""Samples of the `paper` baseline: 11 dates x 15 x 15 px, their pairing between sensors, and their fill.

Described in arXiv 2511.11706. B samples, T dates of a record, C bands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD, SAME_DAY, SensorContext

NUM_DATES = 11
"""Dates of a sample."""

CENTRE_DATE, CENTRE_PIXEL = NUM_DATES // 2, RECEPTIVE_FIELD // 2
"""Position of the centre among the dates, and in the rows and columns of a sample."""

MIN_USABLE_FRACTION = 0.035
"""Share of complete pixels below which a date is left out."""


@dataclass(frozen=True)
class PaperSamples:
    """Samples of one sensor.

    Attributes:
        values: (B, 11, C, 15, 15), the sensor's value range mapped to 0..1; 0 where missing.
        valid: (B, 11, C, 15, 15), 1 where usable, otherwise 0.
        days: (B, 11), days since 2015-01-01.
    """

    values: Tensor
    valid: Tensor
    days: Tensor

    def filled(self, band_mean: Tensor) -> Tensor:
        """Return the values with missing ones filled by the sample's own band mean.

        Args:
            band_mean: (C,), fill of a band that a sample lacks altogether.
        """
        count = self.valid.sum((1, 3, 4), keepdim=True)
        own = (self.values * self.valid).sum((1, 3, 4), keepdim=True) / count.clamp(min=1)
        fill = torch.where(count > 0, own, band_mean[:, None, None])
        return torch.where(self.valid > 0, self.values, fill)

    def part(self, samples: slice) -> "PaperSamples":
        """Return some of the samples."""
        return PaperSamples(self.values[samples], self.valid[samples], self.days[samples])


@dataclass(frozen=True)
class DateWindow:
    """Dates of a sample, as positions in a record.

    Attributes:
        frames: (11,), positions of the frames; T, one past the last, stands for a frame without observations.
        days: (11,), days since 2015-01-01.
    """

    frames: Tensor
    days: Tensor


def usable_dates(context: SensorContext) -> Tensor:
    """Return the positions (N,) of the dates with enough complete pixels inside the halo of a context."""
    inner = context.valid[..., HALO : context.valid.shape[-2] - HALO, HALO : context.valid.shape[-1] - HALO]
    return (inner.mean((1, 2, 3)) >= MIN_USABLE_FRACTION).nonzero()[:, 0]


def centred_window(days: Tensor, usable: Tensor, centre_day: Tensor) -> DateWindow:
    """Return the 11 consecutive usable dates around a centre date.

    The centre belongs to the window whether it is usable, covered by clouds or not observed. At the ends of a record
    the first or last date is repeated, where the published method gives no embedding.

    Args:
        days: (T,), days of the record.
        usable: (N,), positions of the usable dates.
        centre_day: scalar.
    """
    is_own = (days[usable] - centre_day).abs() < SAME_DAY
    own = ((days - centre_day).abs() < SAME_DAY).nonzero()[:1, 0]
    frame = own if len(own) else torch.tensor([len(days)], device=days.device)
    others = usable[~is_own]
    before, after = others[days[others] < centre_day], others[days[others] >= centre_day]
    frames = torch.cat([before, frame, after])
    all_days = torch.cat([days[before], centre_day.reshape(1).to(days.dtype), days[after]])
    steps = torch.arange(-CENTRE_DATE, NUM_DATES - CENTRE_DATE, device=days.device)
    chosen = (len(before) + steps).clamp(0, len(frames) - 1)
    return DateWindow(frames[chosen], all_days[chosen])


def paired_window(window: DateWindow, days: Tensor, usable: Tensor) -> DateWindow:
    """Return the usable dates of another sensor that are nearest to each date of a window.

    Args:
        window: of the reference sensor.
        days: (T,), days of the other sensor's record.
        usable: (N,), positions of its usable dates; where there are none, all frames are without observations.
    """
    if not len(usable):
        return DateWindow(torch.full_like(window.frames, len(days)), window.days)
    nearest = (window.days[:, None] - days[usable][None]).abs().argmin(1)
    return DateWindow(usable[nearest], days[usable][nearest])


def window_frames(context: SensorContext, window: DateWindow) -> tuple[Tensor, Tensor]:
    """Return the frames (11, C, H, W) of a window and their validity (11, C, H, W), both 0 where missing."""
    observed = window.frames < len(context.days)
    frames = window.frames.clamp(max=max(len(context.days) - 1, 0))
    valid = context.valid[frames] * observed[:, None, None, None]
    valid = valid * context.present[:, None, None].to(valid.dtype)
    return context.values[frames] * valid, valid


def absent_samples(reference: PaperSamples, bands: int) -> PaperSamples:
    """Return samples without observations of a sensor that a place does not have, on the reference sensor's days."""
    shape = (*reference.values.shape[:2], bands, *reference.values.shape[3:])
    empty = reference.values.new_zeros(shape)
    return PaperSamples(empty, empty, reference.days)
