"""The denoising chain with exact gradients: a library's scheduler and any denoiser, at the memory of one step.

Only the denoiser is run again in the backward pass. The scheduler's steps stay in the graph: they are a few sums over
latents, and schedulers carry state, so running one twice gives another result.
"""

import copy
import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thalweg.diffusion.pipeline import quiet
from thalweg.diffusion.schedulers import lacks_signal, starts_late
from thalweg.errors import ThalwegError, UsageError
from thalweg.generator import Gradient

Denoiser = Callable[..., Tensor]
"""`(latents (S, C, h, w), timestep (), *tensors) -> (S, C, h, w)`: what a scheduler calls the model output, guided."""


@dataclass(frozen=True)
class Schedule:
    """How a chain goes from noise to latents.

    Attributes:
        scheduler: a diffusers scheduler; chains run on copies of it.
        steps: the number of steps it is asked for.
        eta: the share of fresh noise where the scheduler takes one (DDIM, TCD); None: the scheduler's default.
        arguments: what its `set_timesteps` takes beside (a family's `mu` or `sigmas`).
        device: where its timesteps lie.

    Raises:
        UsageError: at first use, a scheduler that cannot go that number of steps, or that finds no steps for the
            model's noise levels.
    """

    scheduler: Any
    steps: int
    eta: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def _started(self) -> Any:
        scheduler = self._start()
        name = type(scheduler).__name__
        levels = torch.as_tensor(getattr(scheduler, "sigmas", 0.0))
        finite = bool(scheduler.timesteps.isfinite().all() and levels.isfinite().all())
        if finite and lacks_signal(scheduler):
            raise UsageError(
                f"{name} divides by the signal of this model's first noise level, which holds none (alphas_cumprod of "
                "0: zero terminal SNR) while the model is said to predict noise (epsilon): choose another scheduler, "
                "such as euler, or mend rescale_betas_zero_snr or prediction_type in the model's scheduler_config.json"
            )
        if starts_late(scheduler, self.steps):
            raise UsageError(
                f"{name} cannot take {self.steps} step(s): pure noise would be taken for an image that is partly "
                f"done; {self._that_work()}"
            )
        with self._one_line(scheduler):
            latents = self._try_out(scheduler) if finite else torch.tensor(torch.nan)
        if not bool(latents.isfinite().all()):
            # Where a model's last levels hold no signal, most schedulers divide by it or take its logarithm.
            raise UsageError(
                f"{name} finds no {self.steps} steps for this model's noise levels; choose another scheduler or number "
                "of steps"
            )
        return scheduler

    def _start(self) -> Any:
        scheduler = copy.deepcopy(self.scheduler)
        with self._one_line(scheduler), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, about levels that are refused in words
            scheduler.set_timesteps(self.steps, device=self.device, **self.arguments)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    @contextmanager
    def _one_line(self, scheduler: Any) -> Iterator[None]:
        """Turn what a library raises about the number of steps into a line that says which numbers it takes."""
        try:
            yield
        except ThalwegError:
            raise
        except (ValueError, TypeError, IndexError, ArithmeticError, AssertionError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise UsageError(
                f"{type(scheduler).__name__} cannot take {self.steps} step(s) here ({reason}); {self._that_work()}"
            ) from error

    def _try_out(self, scheduler: Any) -> Tensor:
        """Return what a chain of two by two latents ends as: a scheduler's faults show here, before any image."""
        noise = torch.randn((1, 4, 2, 2), generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.no_grad():
            return _chain(
                lambda latents, timestep: 0.9 * latents, copy.deepcopy(scheduler), scheduler.timesteps, self, noise
            )

    def _that_work(self) -> str:
        """Return in words the nearest number of steps that the scheduler takes, if there is one near."""
        config = self.scheduler.config
        limits = {config.get(name) for name in ("num_train_timesteps", "original_inference_steps")} - {None}
        near = range(max(1, self.steps - 16), self.steps + 17)
        for steps in sorted({*near, *limits} - {self.steps}, key=lambda steps: (abs(steps - self.steps), steps)):
            scheduler = copy.deepcopy(self.scheduler)
            with quiet(), suppress(Exception):  # whatever it is, this number of steps is none to name
                scheduler.set_timesteps(steps, device=self.device)
                if not starts_late(scheduler, steps):
                    return f"it takes {steps}"
        return "choose another scheduler"

    def begin(self) -> Any:
        """Return a scheduler at the start of a chain, which may change it."""
        return copy.deepcopy(self._started)

    @property
    def calls(self) -> int:
        """Denoiser calls of a whole chain: `steps`, nearly twice as many for second-order schedulers."""
        return len(self._started.timesteps)


def recorded_calls(gradient: Gradient, calls: int, last_k: int) -> int:
    """Return how many of a chain's `calls`, the last ones, the gradient passes through."""
    return {"full": calls, "last_k": min(last_k, calls), "one_step": min(1, calls), None: 0}[gradient]


def sample(
    denoiser: Denoiser,
    schedule: Schedule,
    noise: Tensor,
    tensors: Sequence[Tensor] = (),
    gradient: Gradient = "full",
    last_k: int = 5,
    calls: int | None = None,
) -> Tensor:
    """Return the latents (S, C, h, w) that `denoiser` makes of `noise` (S, C, h, w) of unit variance.

    The result is differentiable with respect to `noise` and `tensors`, which the denoiser must take as arguments: what
    it reaches in another way gets no gradient. Noise that a scheduler adds on the way follows from an image's own start
    noise, so an image does not depend on the batch it is in. A float64 chain is float64 throughout.

    Args:
        denoiser: called with (latents, timestep, *tensors).
        schedule: the scheduler and its steps.
        noise: start noise.
        tensors: what the denoiser is conditioned on.
        gradient: "full": through the whole chain; "last_k": through the last `last_k` denoiser calls; "one_step":
            through the last; None: no gradient.
        last_k: for "last_k".
        calls: stop after that many denoiser calls; None: the whole chain.
    """
    scheduler = schedule.begin()
    timesteps = scheduler.timesteps[:calls]
    return _chain(
        denoiser, scheduler, timesteps, schedule, noise, tensors, recorded_calls(gradient, len(timesteps), last_k)
    )


def _chain(
    denoiser: Denoiser,
    scheduler: Any,
    timesteps: Tensor,
    schedule: Schedule,
    noise: Tensor,
    tensors: Sequence[Tensor] = (),
    recorded: int = 0,
) -> Tensor:
    """Take the steps of a started scheduler at `timesteps`; the gradient passes through the last `recorded` calls."""
    arguments = _step_arguments(scheduler, schedule, noise)
    first_recorded = len(timesteps) - recorded
    precision = _Double if noise.dtype == torch.float64 else nullcontext
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for index, timestep in enumerate(timesteps):
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= first_recorded):
            scaled = latents
            if hasattr(scheduler, "scale_model_input"):
                scaled = scheduler.scale_model_input(latents, timestep)
            output = _Recomputed.apply(denoiser, scaled, timestep, *tensors)
            with precision():
                latents = scheduler.step(output, timestep, latents, return_dict=False, **arguments)[0]
    return latents


def _step_arguments(scheduler: Any, schedule: Schedule, noise: Tensor) -> dict[str, Any]:
    """Return what `scheduler.step` takes beside, with a source of noise for each image."""
    takes = inspect.signature(scheduler.step).parameters
    seeds = [_seed(row) for row in noise]
    arguments: dict[str, Any] = {}
    if "generator" in takes:
        arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = seeds
    if schedule.eta is not None:
        if "eta" not in takes:
            raise UsageError(
                f"expected no eta for {type(scheduler).__name__}, got {schedule.eta}; ddim and tcd take it"
            )
        arguments["eta"] = schedule.eta
    return arguments


def _seed(noise: Tensor) -> int:
    """Return a seed that follows from one image's start noise."""
    content = noise.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "big")


class _Double(TorchFunctionMode):
    """Schedulers that step in float32 whatever they are given: in a float64 chain they step in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wider(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(wider, args), **{name: wider(value) for name, value in (kwargs or {}).items()})


class _Recomputed(torch.autograd.Function):
    """A denoiser call that keeps its inputs only, and is run again when its gradient is asked for.

    Unlike `torch.utils.checkpoint` it builds no graph of the denoiser in the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, denoiser: Denoiser, *inputs: Tensor) -> Tensor:
        ctx.denoiser = denoiser
        ctx.save_for_backward(*inputs)
        return denoiser(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip(ctx.saved_tensors, needed, strict=True)]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        # Half-precision denoisers: a gradient of length one does not underflow; a power of two rounds nothing.
        (gradient,) = gradients
        exponent = torch.frexp(gradient.abs().amax()).exponent
        with torch.enable_grad(), out_of_memory(len(inputs[0])):
            output = ctx.denoiser(*inputs)
            found = torch.autograd.grad(output, wanted, torch.ldexp(gradient, -exponent), allow_unused=True)
        rest = iter(None if part is None else torch.ldexp(part, exponent) for part in found)
        return (None, *(next(rest) if need else None for need in needed))


@contextmanager
def out_of_memory(images: int) -> Iterator[None]:
    """Turn the device's or the allocator's failure within the block into a ThalwegError that says what needs less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not short:
            raise
        raise ThalwegError(
            f"out of memory with {images} image(s) at once: fewer seeds, a smaller height and width or dtype float16 "
            "need less, and gradient None (no backward pass) the least"
        ) from error
