"""Random training samples of the `paper` baseline: 11 out of 20 consecutive dates, 15 x 15 px (arXiv 2511.11706)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD
from thalweg.earth.model.paper_baseline import BOTTLENECKS, MAX_SPAN_DAYS
from thalweg.earth.model.paper_samples import (
    CENTRE_DATE,
    CENTRE_PIXEL,
    NUM_DATES,
    DateWindow,
    PaperSamples,
    paired_window,
    usable_dates,
)
from thalweg.earth.sensors import sensor_by_name
from thalweg.earth.training.tiles import TrainingSite
from thalweg.errors import UsageError

NUM_CONSECUTIVE = 20
"""Consecutive dates of which a sample's 11 are drawn."""

MAX_TRIES = 200
"""Draws at one site before another site is drawn."""

REFERENCE = next(iter(BOTTLENECKS))


def is_short_enough(days: Tensor) -> bool:
    """Return True if the gaps between ascending days (11,) add up to less than 200 days."""
    return bool(days.diff().sum() < MAX_SPAN_DAYS)


def keep_usable_dates(site: TrainingSite) -> TrainingSite:
    """Return a site without the dates that no sample uses, to save memory."""
    contexts = {name: site.contexts[name] for name in BOTTLENECKS if name in site.contexts}
    if REFERENCE in contexts:
        reference = contexts[REFERENCE] = contexts[REFERENCE].select(usable_dates(contexts[REFERENCE]))
        for name, context in contexts.items():
            usable = usable_dates(context)
            if name != REFERENCE and len(usable) and len(reference.days):
                distance = (reference.days[:, None] - context.days[usable][None]).abs()
                contexts[name] = context.select(usable[distance.argmin(1).unique()])
    return replace(site, contexts=contexts)


class PaperSampler:
    """Random samples of one side of a spatial split of sites.

    Training samples come from the west of each site, held-out samples from its east quarter; they share no pixel.
    Sites without a sample are left out: those without the needed sensors, with fewer than 11 usable dates, or with 11
    dates that span 200 days or more.

    Attributes:
        sites: sites that give samples.

    Args:
        sites: training sites.
        needed: sensors that a site needs to have; samples are valid at their centres.
        weights: relative frequency of each site; equal by default.
        held_out: whether to draw from the east quarters.

    Raises:
        UsageError: no site gives samples.
    """

    def __init__(
        self,
        sites: Sequence[TrainingSite],
        needed: Sequence[str] = (REFERENCE,),
        weights: Sequence[float] | None = None,
        held_out: bool = False,
    ) -> None:
        self.needed, self.held_out = tuple(needed), held_out
        all_weights = [1.0] * len(sites) if weights is None else list(weights)
        suitable = [(site, weight) for site, weight in zip(sites, all_weights, strict=True) if self._is_suitable(site)]
        if not suitable:
            raise UsageError(f"no site has {', '.join(self.needed)} on {NUM_DATES} dates within {MAX_SPAN_DAYS} days")
        self.sites = [site for site, _ in suitable]
        self._weights = torch.tensor([weight for _, weight in suitable])
        self._usable = [{name: usable_dates(context) for name, context in site.contexts.items()} for site in self.sites]

    def _is_suitable(self, site: TrainingSite) -> bool:
        columns = site.size[1]
        if any(name not in site.contexts for name in (REFERENCE, *self.needed)) or columns < 4 * (HALO + 1):
            return False
        context = site.contexts[REFERENCE]
        days = context.days[usable_dates(context)]
        spans = days[NUM_DATES - 1 :] - days[: max(len(days) - NUM_DATES + 1, 0)]
        has_radar = all(len(usable_dates(site.contexts[name])) for name in self.needed)
        return has_radar and bool((spans < MAX_SPAN_DAYS).any())

    def draw(self, count: int, generator: torch.Generator) -> dict[str, PaperSamples]:
        """Return `count` samples of both sensors; a sensor that a site does not have is invalid everywhere.

        Raises:
            UsageError: hardly any place of the sites has a valid centre.
        """
        drawn = [self._draw(generator) for _ in range(count)]
        return {
            name: PaperSamples(*(torch.stack([sample[name][part] for sample in drawn]) for part in range(3)))
            for name in BOTTLENECKS
        }

    def _draw(self, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        for _ in range(MAX_TRIES):
            number = int(torch.multinomial(self._weights, 1, generator=generator))
            for _ in range(MAX_TRIES):
                window = self._window(number, generator)
                sample = self._cut(number, window, generator) if is_short_enough(window.days) else None
                if sample is not None:
                    return sample
        raise UsageError("no sample with a valid centre found: give sites with more clear pixels")

    def _window(self, number: int, generator: torch.Generator) -> DateWindow:
        usable = self._usable[number][REFERENCE]
        first = int(torch.randint(max(len(usable) - NUM_CONSECUTIVE, 0) + 1, (), generator=generator))
        run = usable[first : first + NUM_CONSECUTIVE]
        frames = run[torch.randperm(len(run), generator=generator)[:NUM_DATES].sort().values]
        return DateWindow(frames, self.sites[number].contexts[REFERENCE].days[frames])

    def _cut(
        self, number: int, window: DateWindow, generator: torch.Generator
    ) -> dict[str, tuple[Tensor, Tensor, Tensor]] | None:
        """Return values, validity and days by sensor at a random place; None where a needed centre is invalid."""
        site = self.sites[number]
        split = site.size[1] * 3 // 4
        first, last = (split + HALO, site.size[1]) if self.held_out else (0, split - HALO)
        top = int(torch.randint(site.size[0], (), generator=generator))
        left = int(torch.randint(first, last, (), generator=generator))
        rows, columns = slice(top, top + RECEPTIVE_FIELD), slice(left, left + RECEPTIVE_FIELD)
        sample = {}
        for name in BOTTLENECKS:
            if name not in site.contexts or not len(self._usable[number][name]):
                shape = (NUM_DATES, len(sensor_by_name(name).bands), RECEPTIVE_FIELD, RECEPTIVE_FIELD)
                sample[name] = (torch.zeros(shape), torch.zeros(shape), window.days)
                continue
            context = site.contexts[name]
            own = window if name == REFERENCE else paired_window(window, context.days, self._usable[number][name])
            mask = context.valid[own.frames, :, rows, columns]
            if name in self.needed and not mask[CENTRE_DATE, 0, CENTRE_PIXEL, CENTRE_PIXEL]:
                return None
            valid = mask * context.present[:, None, None].to(mask.dtype)
            sample[name] = (context.values[own.frames, :, rows, columns] * valid, valid, own.days)
        return sample
