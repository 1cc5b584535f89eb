"""Schedulers by name, and the kind of noise that a model was trained with: what a swap of schedulers must keep."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch

from thalweg.errors import UsageError

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpm_multistep": ("DPMSolverMultistepScheduler", {}),
    "dpm_multistep_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm_singlestep": ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    "dpm_sde": ("DPMSolverSDEScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2_ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "flow_euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow_heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
"""Schedulers by name: their class in diffusers and what is set in addition to the model's own noise schedule."""

MIN_SIGNAL = torch.finfo(torch.float32).eps ** 2
"""Least alphas_cumprod: below it the signal's amplitude is lost in the rounding of the noise."""

MAX_SKIPPED = 0.1
"""Share of the noise levels that rounding may leave out at the start of a chain."""

NoiseKind = Literal["diffusion", "flow", "edm", "unknown"]
_NAMES: Mapping[NoiseKind, str] = {
    "diffusion": "variance-preserving noise (betas)",
    "flow": "flow-matching noise",
    "edm": "EDM noise (sigmas of its own)",
    "unknown": "noise of a kind that is not known here",
}


def noise_kind(scheduler: Any) -> NoiseKind:
    """Return the kind of noise that a diffusers scheduler's config describes, whatever its class is called."""
    config = own_config(scheduler)
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return "flow"
    if config.get("sigma_data") is not None:
        return "edm"
    if "beta_schedule" not in config:
        return "flow" if "shift" in config else "unknown"
    if config.get("timestep_type") == "continuous" or config.get("sigma_max") is not None:
        return "edm"
    return "diffusion"


def own_config(scheduler: Any) -> dict[str, Any]:
    """Return the config entries that the scheduler's class takes: after a swap others are kept but not used."""
    taken = _parameters(type(scheduler))
    return {name: value for name, value in scheduler.config.items() if name in taken}


def make_scheduler(name: str, like: Any) -> Any:
    """Return the scheduler `name` with the noise schedule of the scheduler `like`, a model's own.

    Raises:
        UsageError: an unknown name, a scheduler that would drop the model's kind of noise, its noise levels or what it
            predicts, or one whose library is not installed.
    """
    import diffusers

    known = [other for other in SCHEDULERS if _keeps_kind(getattr(diffusers, SCHEDULERS[other][0]), like)]
    if name not in known:
        kind = _NAMES[noise_kind(like)]
        if not known:
            raise UsageError(
                f"expected no scheduler by name, got {name!r}: this model was trained with {kind}, which only its "
                f"own {type(like).__name__} keeps; leave the scheduler out"
            )
        dropped = f", which would drop its {kind}" if name in SCHEDULERS else ""
        raise UsageError(f"expected a scheduler for this model, one of {', '.join(known)}; got {name!r}{dropped}")
    class_name, extras = SCHEDULERS[name]
    kind_of_class = getattr(diffusers, class_name)
    had = own_config(like)
    shift = had.get("shift", had.get("flow_shift"))
    shifts = {
        taken: shift for taken in ("shift", "flow_shift") if shift is not None and taken in _parameters(kind_of_class)
    }
    try:
        made = kind_of_class.from_config({**like.config, **shifts}, **extras)
    except ImportError as error:  # of a backend that diffusers asks for by a stand-in class
        raise UsageError(f"scheduler {name!r} needs a library that is not installed: {_line(error)}") from error
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"scheduler {name!r} cannot take this model's noise schedule: {_line(error)}") from error
    _check_swap(name, made, like)
    return made


def check_kind(scheduler: Any, like: Any) -> None:
    """Raise a `UsageError` where `scheduler` is of another kind of noise than `like`, a model's own."""
    kind, had = noise_kind(scheduler), noise_kind(like)
    if kind != had:
        raise UsageError(
            f"expected a scheduler of {_NAMES[had]}, as {type(like).__name__} of this model; got "
            f"{type(scheduler).__name__} of {_NAMES[kind]}"
        )


def lacks_signal(scheduler: Any) -> bool:
    """Return whether a started chain's first denoiser call must find noise where there is next to no signal.

    An image is then a division by that signal. A model that predicts velocity or the image itself needs none.
    """
    if own_config(scheduler).get("prediction_type", "epsilon") != "epsilon" or noise_kind(scheduler) != "diffusion":
        return False
    signal = torch.as_tensor(scheduler.alphas_cumprod)
    first = int(torch.as_tensor(scheduler.timesteps).max())
    return float(signal[min(first, len(signal) - 1)]) < MIN_SIGNAL


def starts_late(scheduler: Any, steps: int) -> bool:
    """Return whether a chain of so many steps, started, takes pure noise for an image that is partly done.

    So do chains of one step, and long ones where a library rounds the distance of two steps down to whole levels: 600
    steps of 1000 levels are then the last 600 of them.
    """
    levels = scheduler.config.get("num_train_timesteps")
    if levels is None or noise_kind(scheduler) != "diffusion":
        return False
    first = float(torch.as_tensor(scheduler.timesteps).max())
    return first < levels // 2 or first < levels * (1 - 1 / steps) - MAX_SKIPPED * levels


def _keeps_kind(kind_of_class: Any, like: Any) -> bool:
    """Whether a scheduler class can keep the kind of noise of `like`."""
    taken, had = _parameters(kind_of_class), noise_kind(like)
    if not taken:  # a stand-in for a library that is not installed; it says so when it is made
        return had == "diffusion"
    if had == "flow":
        # What takes both betas and flow sigmas is told by the config which of the two the model was trained with.
        return "shift" in taken or ("use_flow_sigmas" in taken and "use_flow_sigmas" in own_config(like))
    return had == "diffusion" and "beta_schedule" in taken


def _check_swap(name: str, made: Any, like: Any) -> None:
    had, has = own_config(like), own_config(made)
    predicts = had.get("prediction_type")
    if predicts is not None and "prediction_type" in has and has["prediction_type"] != predicts:
        raise UsageError(f"scheduler {name!r} cannot take a model that predicts {predicts}; choose another")
    if noise_kind(like) != "diffusion" or not hasattr(like, "alphas_cumprod"):
        return
    before, after = (torch.as_tensor(each.alphas_cumprod).double() for each in (like, made))
    if before.shape != after.shape or not torch.allclose(before, after, rtol=0, atol=1e-6):
        lost = "rescale_betas_zero_snr" if had.get("rescale_betas_zero_snr") else "betas of this kind"
        raise UsageError(f"scheduler {name!r} would change this model's noise levels: it takes no {lost}; use another")


def _parameters(kind: Any) -> frozenset[str]:
    """The names of a class's parameters; none for a stand-in of a library that is not installed."""
    return frozenset(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
