"""Masking of contexts in training: dates, clouds, bands and sensors that the model has to do without."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.context import SAME_DAY, SensorContext


class MaskingConfig(Declaration):
    """Probabilities of what is masked in training."""

    dates: float = Field(default=0.7, ge=0, le=1, description="largest share of a sensor's dates that are masked")
    centres: float = Field(default=0.4, ge=0, le=1, description="probability that a centre date is masked")
    clouds: float = Field(default=0.3, ge=0, le=1, description="probability that dates get the clouds of other dates")
    bands: float = Field(default=0.2, ge=0, le=1, description="probability that some bands of a tile are masked")
    sensors: float = Field(default=0.3, ge=0, le=1, description="probability that a sensor of a tile is masked")
    context: float = Field(
        default=0.1, ge=0, le=1, description="probability that all of a tile but one centre date is masked"
    )
    gain: float = Field(default=0.05, ge=0, description="standard deviation of a random gain per band and tile")
    offset: float = Field(default=0.01, ge=0, description="standard deviation of a random offset per band and tile")


def mask_context(context: SensorContext, centre_days: Tensor, config: MaskingConfig) -> SensorContext:
    """Mask random dates, centre dates (Q,), clouds and bands of a context, with torch's global generator."""
    count = len(context.days)
    context = context.mask(torch.rand(count) < torch.rand(()) ** 2 * config.dates)
    hidden = centre_days[torch.rand(len(centre_days)) < config.centres]
    context = context.mask(((context.days[:, None] - hidden).abs() < SAME_DAY).any(1))
    if count and torch.rand(()) < config.clouds:
        clear = torch.where(
            (torch.rand(count) < 0.5)[:, None, None, None],
            context.valid[torch.randperm(count)],
            torch.ones_like(context.valid),
        )
        context = replace(context, values=context.values * clear, valid=context.valid * clear)
    if torch.rand(()) < config.bands and int(context.present.sum()) > 1:
        present = context.present & (torch.rand(len(context.present)) < 0.7)
        if present.any():
            context = replace(context, values=context.values * present[:, None, None], present=present)
    return context


def mask_half(
    contexts: Mapping[str, SensorContext], centre_days: Tensor, spare_centres: bool = False
) -> dict[str, SensorContext]:
    """Mask a random half of each sensor's dates, with torch's global generator.

    Args:
        contexts: by sensor name.
        centre_days: (Q,).
        spare_centres: never mask the centre dates.
    """
    masked = {}
    for name, context in contexts.items():
        chosen = torch.rand(len(context.days)) < 0.5
        if spare_centres:
            chosen &= ((context.days[:, None] - centre_days).abs() >= SAME_DAY).all(1)
        masked[name] = context.mask(chosen)
    return masked


def mask_sensors(
    contexts: Mapping[str, SensorContext], centre_days: Tensor, reference: str, config: MaskingConfig
) -> dict[str, SensorContext]:
    """Mask random parts of the contexts of a tile, with torch's global generator.

    Args:
        contexts: by sensor name.
        centre_days: (Q,).
        reference: name of the reference sensor.
        config: probabilities.

    Returns:
        Masked contexts of at least one sensor; with probability `config.context`, one centre date of the reference
        sensor alone.
    """
    if reference in contexts and torch.rand(()) < config.context:
        day = centre_days[torch.randint(len(centre_days), ())]
        return {reference: contexts[reference].mask((contexts[reference].days - day).abs() >= SAME_DAY)}
    masked = {name: mask_context(context, centre_days, config) for name, context in contexts.items()}
    for name in list(masked):
        if len(masked) > 1 and torch.rand(()) < config.sensors:
            del masked[name]
    return masked


def disturb(context: SensorContext, config: MaskingConfig) -> SensorContext:
    """Give each band a random gain and offset, as another instrument's calibration or atmosphere would."""
    count = len(context.present)
    gain = 1 + config.gain * torch.randn(()) + 0.5 * config.gain * torch.randn(count)
    offset = config.offset * (torch.randn(()) + 0.5 * torch.randn(count)) * context.present
    values = (context.values * gain[:, None, None] + offset[:, None, None]).clamp(0, 1)
    return replace(context, values=values * context.valid)
