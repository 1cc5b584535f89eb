"""Schedulers by name, and the kind of noise of a model, which another scheduler must keep; imports no torch."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from thalweg.errors import UsageError, unknown_name

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

MIN_SIGNAL = 2.0**-46
"""Smallest alphas_cumprod: below it the signal's amplitude is less than float32's rounding (2**-23) of the noise."""

MAX_SKIPPED = 0.1
"""Largest share of the noise levels that rounding may leave out at the start of a chain."""

NoiseKind = Literal["diffusion", "flow", "edm", "unknown"]
_NAMES: Mapping[NoiseKind, str] = {
    "diffusion": "variance-preserving noise (betas)",
    "flow": "flow-matching noise",
    "edm": "EDM noise (sigmas of its own)",
    "unknown": "noise of an unknown kind",
}


def noise_kind(scheduler: Any) -> NoiseKind:
    """Return the kind of noise that a diffusers scheduler's config describes; its class's name plays no part."""
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
    """Return the config entries that the scheduler's class takes; a converted scheduler keeps others unused."""
    taken = _parameters(type(scheduler))
    return {name: value for name, value in scheduler.config.items() if name in taken}


def make_scheduler(name: str, model_scheduler: Any) -> Any:
    """Return the scheduler `name` with the noise schedule of a model's own scheduler.

    Raises:
        UsageError: an unknown name, a scheduler that would drop the model's kind of noise, its noise levels or its
            prediction type, or one whose library is not installed.
    """
    import diffusers

    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    fitting = [other for other in SCHEDULERS if _keeps_kind(getattr(diffusers, SCHEDULERS[other][0]), model_scheduler)]
    if name not in fitting:
        kind = _NAMES[noise_kind(model_scheduler)]
        if not fitting:
            raise UsageError(
                f"expected no scheduler by name, got {name!r}: this model was trained with {kind}, which only its "
                f"own {type(model_scheduler).__name__} keeps; leave the scheduler out"
            )
        raise UsageError(
            f"expected a scheduler for this model, one of {', '.join(fitting)}; got {name!r}, which would drop its "
            f"{kind}"
        )
    class_name, extras = SCHEDULERS[name]
    scheduler_class = getattr(diffusers, class_name)
    config = own_config(model_scheduler)
    shift = config.get("shift", config.get("flow_shift"))
    parameters = _parameters(scheduler_class)
    shifts = {taken: shift for taken in ("shift", "flow_shift") if shift is not None and taken in parameters}
    try:
        made = scheduler_class.from_config({**model_scheduler.config, **shifts}, **extras)
    except ImportError as error:  # raised by the placeholder class of a library that is not installed
        raise UsageError(f"scheduler {name!r} needs a library that is not installed: {_line(error)}") from error
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"scheduler {name!r} cannot take this model's noise schedule: {_line(error)}") from error
    _check_levels(name, made, model_scheduler)
    return made


def check_kind(scheduler: Any, model_scheduler: Any) -> None:
    """Check that `scheduler` is of the same kind of noise as a model's own scheduler.

    Raises:
        UsageError: it is of another kind.
    """
    kind, own_kind = noise_kind(scheduler), noise_kind(model_scheduler)
    if kind != own_kind:
        raise UsageError(
            f"expected a scheduler of {_NAMES[own_kind]}, as {type(model_scheduler).__name__} of this model; got "
            f"{type(scheduler).__name__} of {_NAMES[kind]}"
        )


def lacks_signal(scheduler: Any) -> bool:
    """Return whether the first noise level of a started scheduler holds too little signal for a model of the noise.

    The image is then a division by that signal. A model that predicts velocity or the image itself needs none.
    """
    import torch

    if own_config(scheduler).get("prediction_type", "epsilon") != "epsilon" or noise_kind(scheduler) != "diffusion":
        return False
    signal = torch.as_tensor(scheduler.alphas_cumprod)
    first = int(torch.as_tensor(scheduler.timesteps).max())
    return float(signal[min(first, len(signal) - 1)]) < MIN_SIGNAL


def starts_late(scheduler: Any, steps: int) -> bool:
    """Return whether a started scheduler's first timestep is far below the noisiest level.

    It would take pure noise for a partly denoised image. Chains of one step do so, and long ones where a library rounds
    the distance of two steps down to whole levels: 600 steps of 1000 levels are then the last 600 levels.
    """
    import torch

    levels = scheduler.config.get("num_train_timesteps")
    if levels is None or noise_kind(scheduler) != "diffusion":
        return False
    first = float(torch.as_tensor(scheduler.timesteps).max())
    return first < levels // 2 or first < levels * (1 - 1 / steps) - MAX_SKIPPED * levels


def _keeps_kind(scheduler_class: Any, model_scheduler: Any) -> bool:
    """Return whether a scheduler class can keep the kind of noise of a model's own scheduler."""
    parameters, own_kind = _parameters(scheduler_class), noise_kind(model_scheduler)
    if not parameters:  # the placeholder of a library that is not installed; instantiation says so
        return own_kind == "diffusion"
    if own_kind == "flow":
        # Classes that take both betas and flow sigmas read from the config which of the two the model was trained with.
        return "shift" in parameters or (
            "use_flow_sigmas" in parameters and "use_flow_sigmas" in own_config(model_scheduler)
        )
    return own_kind == "diffusion" and "beta_schedule" in parameters


def _check_levels(name: str, made: Any, model_scheduler: Any) -> None:
    """Refuse a converted scheduler of another prediction type or other noise levels than the model's own."""
    config, made_config = own_config(model_scheduler), own_config(made)
    predicts = config.get("prediction_type")
    if predicts is not None and "prediction_type" in made_config and made_config["prediction_type"] != predicts:
        raise UsageError(f"scheduler {name!r} cannot take a model that predicts {predicts}; choose another")
    if noise_kind(model_scheduler) != "diffusion" or not hasattr(model_scheduler, "alphas_cumprod"):
        return
    import torch

    before, after = (torch.as_tensor(each.alphas_cumprod).double() for each in (model_scheduler, made))
    if before.shape != after.shape or not torch.allclose(before, after, rtol=0, atol=1e-6):
        lost = "rescale_betas_zero_snr" if config.get("rescale_betas_zero_snr") else "betas of this kind"
        raise UsageError(f"scheduler {name!r} would change this model's noise levels: it takes no {lost}; use another")


def _parameters(scheduler_class: Any) -> frozenset[str]:
    """Return the names of a class's parameters; none for the placeholder of a library that is not installed."""
    return frozenset(inspect.signature(scheduler_class.__init__).parameters) - {"self", "args", "kwargs"}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
