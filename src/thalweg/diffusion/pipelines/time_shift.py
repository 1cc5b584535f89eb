"""Time shift of flow-matching schedulers, which grows with the size of an image."""

import inspect
from typing import Any


def time_shift(scheduler: Any, shape: tuple[int, int, int], patch: int, longest: float) -> dict[str, float]:
    """Return the time shift `mu` of a scheduler that takes one, linear in the number of image tokens; else nothing.

    Args:
        scheduler: a diffusers scheduler.
        shape: shape (C, h, w) of one image's latents.
        patch: latent pixels per side of an image token.
        longest: shift at the largest number of tokens, where the scheduler's config gives none.
    """
    config = scheduler.config
    if "mu" not in parameter_names(scheduler.set_timesteps) or not config.get("use_dynamic_shifting"):
        return {}
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", longest)
    tokens = (shape[1] // patch) * (shape[2] // patch)
    return {"mu": low + (high - low) * (tokens - few) / (many - few)}


def parameter_names(function: Any) -> frozenset[str]:
    """Return the names of a function's parameters."""
    return frozenset(inspect.signature(function).parameters)
