"""Time shift of flow-matching schedulers, which grows with the size of an image."""

import inspect
from typing import Any


def time_shift(scheduler: Any, tokens: int, longest: float) -> dict[str, float]:
    """Return the time shift `mu` of a scheduler that takes one, linear in the number of image tokens; else nothing.

    Args:
        scheduler: a diffusers scheduler.
        tokens: number of image tokens.
        longest: shift at the largest number of tokens, where the scheduler's config gives none.
    """
    config = scheduler.config
    if "mu" not in parameter_names(scheduler.set_timesteps) or not config.get("use_dynamic_shifting"):
        return {}
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", longest)
    return {"mu": low + (high - low) * (tokens - few) / (many - few)}


def even_steps(scheduler: Any, steps: int, tokens: int, longest: float = 1.15) -> dict[str, Any]:
    """Return evenly spaced noise levels and the time shift, where the scheduler takes them.

    Args:
        scheduler: a diffusers scheduler.
        steps: number of steps.
        tokens: number of image tokens.
        longest: shift at the largest number of tokens, where the scheduler's config gives none.
    """
    shift = time_shift(scheduler, tokens, longest)
    if "sigmas" not in parameter_names(scheduler.set_timesteps) or scheduler.config.get("use_flow_sigmas"):
        return shift
    return {"sigmas": [1 - index / steps for index in range(steps)], **shift}


def parameter_names(function: Any) -> frozenset[str]:
    """Return the names of a function's parameters."""
    return frozenset(inspect.signature(function).parameters)
