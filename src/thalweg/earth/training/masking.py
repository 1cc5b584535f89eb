"""Masking of contexts in training: dates, clouds, bands and sensors that the model has to do without."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.context import SensorContext


class MaskingConfig(Declaration):
    """Probabilities of what is masked in training."""

    dates: float = Field(default=0.7, ge=0, le=1, description="largest share of a sensor's dates that are masked")
    clouds: float = Field(default=0.3, ge=0, le=1, description="probability that dates get the clouds of other dates")
    bands: float = Field(default=0.2, ge=0, le=1, description="probability that some bands of a tile are masked")
    sensors: float = Field(default=0.3, ge=0, le=1, description="probability that a sensor of a tile is masked")
    context: float = Field(
        default=0.1, ge=0, le=1, description="probability that all of a tile but one centre date is masked"
    )
    gain: float = Field(default=0.05, ge=0, description="standard deviation of a random gain per band and tile")


def mask_context(context: SensorContext, config: MaskingConfig) -> SensorContext:
    """Mask random dates, clouds and bands of a context, with torch's global generator."""
    count = len(context.days)
    context = context.mask(torch.rand(count) < torch.rand(()) * config.dates)
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
            chosen &= ((context.days[:, None] - centre_days).abs() >= 0.5).all(1)
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
        return {reference: contexts[reference].mask((contexts[reference].days - day).abs() >= 0.5)}
    masked = {name: mask_context(context, config) for name, context in contexts.items()}
    for name in list(masked):
        if len(masked) > 1 and torch.rand(()) < config.sensors:
            del masked[name]
    return masked


def random_gain(context: SensorContext, std: float) -> SensorContext:
    """Multiply each band by a random gain, as another instrument's calibration would; `std` is its deviation from 1."""
    gain = 1 + std * torch.randn(len(context.present))
    return replace(context, values=context.values * gain[:, None, None])
