"""Denoising chain with exact gradients: a diffusers scheduler and any denoiser, at the memory of one step.

The backward pass recomputes only the denoiser. The scheduler's steps stay in the graph: they are a few sums over
latents, and schedulers carry state, so that a repeated step gives another result.
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

from thalweg.diffusion.checkpoints.library_logging import quiet
from thalweg.diffusion.gradient_routes import GradientRoute, gradient_route, scale_gradient
from thalweg.diffusion.schedulers import lacks_signal, starts_late
from thalweg.errors import ThalwegError, UsageError
from thalweg.gradient_modes import Gradient
from thalweg.threads import one_thread

Denoiser = Callable[..., Tensor]
"""`(latents (S, C, h, w), timestep (), *tensors) -> (S, C, h, w)`: guided model output, as schedulers name it."""


@dataclass(frozen=True)
class Schedule:
    """Scheduler of a chain from noise to latents, with its number of steps.

    Attributes:
        scheduler: a diffusers scheduler; chains run on copies of it.
        steps: number of steps.
        eta: share of fresh noise where the scheduler takes one (DDIM, TCD); None: the scheduler's default.
        arguments: further arguments of its `set_timesteps` (`mu` or `sigmas` of a pipeline).
        device: device of its timesteps.
        first: number of the first steps that chains leave out, because they start from an image.

    Raises:
        UsageError: at first use, a scheduler that cannot take that number of steps, or that finds no steps for the
            model's noise levels.
    """

    scheduler: Any
    steps: int
    eta: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    first: int = 0

    @cached_property
    def _started(self) -> Any:
        scheduler = self._start()
        name = type(scheduler).__name__
        levels = torch.as_tensor(getattr(scheduler, "sigmas", 0.0))
        finite = bool(scheduler.timesteps.isfinite().all() and levels.isfinite().all())
        if finite and lacks_signal(scheduler):
            raise UsageError(
                f"{name} divides by the signal of this model's first noise level, which holds none (alphas_cumprod of "
                "0: zero terminal SNR) while the model's config says that it predicts noise (epsilon): choose another "
                "scheduler, such as euler, or correct rescale_betas_zero_snr or prediction_type in the model's "
                "scheduler_config.json"
            )
        if starts_late(scheduler, self.steps):
            raise UsageError(
                f"{name} cannot take {self.steps} step(s): pure noise would be taken for a partly denoised image; "
                f"{self._nearest_steps()}"
            )
        with self._usage_errors(scheduler):
            latents = self._trial_latents(scheduler) if finite else torch.tensor(torch.nan)
        if not bool(latents.isfinite().all()):
            # Where a model's last levels hold no signal, most schedulers divide by it or take its logarithm.
            raise UsageError(
                f"{name} finds no {self.steps} steps for this model's noise levels; choose another scheduler or number "
                "of steps"
            )
        return scheduler

    def _start(self) -> Any:
        scheduler = copy.deepcopy(self.scheduler)
        with self._usage_errors(scheduler), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, about levels that are refused below
            scheduler.set_timesteps(self.steps, device=self.device, **self.arguments)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(self.first * getattr(scheduler, "order", 1))
        return scheduler

    def _remaining(self, scheduler: Any) -> Tensor:
        """Return the timesteps of a chain."""
        return scheduler.timesteps[self.first * getattr(scheduler, "order", 1) :]

    @contextmanager
    def _usage_errors(self, scheduler: Any) -> Iterator[None]:
        """Turn a library's error about the number of steps into a UsageError that names a number it takes."""
        try:
            yield
        except ThalwegError:
            raise
        except (ValueError, TypeError, IndexError, ArithmeticError, AssertionError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise UsageError(
                f"{type(scheduler).__name__} cannot take {self.steps} step(s) here ({reason}); {self._nearest_steps()}"
            ) from error

    def _trial_latents(self, scheduler: Any) -> Tensor:
        """Return the latents (1, 4, 2, 2) of a trial chain, in which a scheduler's faults show before any image."""
        noise = torch.randn((1, 4, 2, 2), generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.no_grad():
            return _chain(
                lambda latents, timestep: 0.9 * latents,
                copy.deepcopy(scheduler),
                self._remaining(scheduler),
                self,
                noise,
            )

    def _nearest_steps(self) -> str:
        """Return a hint with the nearest number of steps that the scheduler takes, if one is within 16."""
        config = self.scheduler.config
        limits = {config.get(name) for name in ("num_train_timesteps", "original_inference_steps")} - {None}
        near = range(max(1, self.steps - 16), self.steps + 17)
        for steps in sorted({*near, *limits} - {self.steps}, key=lambda steps: (abs(steps - self.steps), steps)):
            scheduler = copy.deepcopy(self.scheduler)
            with quiet(), suppress(Exception):  # any error: the scheduler does not take this number of steps
                scheduler.set_timesteps(steps, device=self.device)
                if not starts_late(scheduler, steps):
                    return f"it takes {steps}"
        return "choose another scheduler"

    def begin(self) -> Any:
        """Return a copy of the scheduler at the start of a chain."""
        return copy.deepcopy(self._started)

    @property
    def calls(self) -> int:
        """Number of denoiser calls of a whole chain: `steps`, nearly twice as many for second-order schedulers."""
        return len(self.timesteps)

    @property
    def timesteps(self) -> Tensor:
        """Timesteps of a whole chain."""
        return self._remaining(self._started)


@dataclass(frozen=True)
class StartImage:
    """Image that chains start from instead of noise alone.

    Attributes:
        latents: its latents (1, C, h, w).
        mask: latents (1, 1, h, w) that are generated, 1, and kept, 0; None: all are generated.
        is_noise: whether the start is the noise alone, and the image is only kept outside of the mask.
    """

    latents: Tensor
    mask: Tensor | None = None
    is_noise: bool = False

    def begin(self, scheduler: Any, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents (S, C, h, w) at the first of `timesteps`."""
        if self.is_noise:
            return _pure_noise(scheduler, noise)
        return self._noised(scheduler, noise, timesteps[:1])

    def keep(self, scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Return latents with those of the image outside of the mask, at `timestep` (1); () at the end of a chain."""
        if self.mask is None:
            return latents
        known = self._noised(scheduler, noise, timestep) if len(timestep) else self.latents
        return torch.where(self.mask.to(latents) > 0, latents, known.to(latents))

    def _noised(self, scheduler: Any, noise: Tensor, timestep: Tensor) -> Tensor:
        latents = self.latents.to(noise).expand(noise.shape)
        levels = timestep.expand(len(noise))
        if hasattr(scheduler, "scale_noise"):  # flow-matching schedulers name it in another way
            return scheduler.scale_noise(latents, levels, noise)
        return scheduler.add_noise(latents, noise, levels)


def sample(
    denoiser: Denoiser,
    schedule: Schedule,
    noise: Tensor,
    tensors: Sequence[Tensor] = (),
    gradient: Gradient = "full",
    last_k: int = 5,
    calls: int | None = None,
    image: StartImage | None = None,
) -> Tensor:
    """Return the latents (S, C, h, w) that a chain of denoiser calls makes of `noise`.

    The result is differentiable with respect to `noise` and `tensors`, which the denoiser must take as arguments;
    tensors that it reads in another way get no gradient. Noise that a scheduler adds at its steps is seeded by an
    image's own start noise, so that an image does not depend on its batch. A float64 chain is float64 throughout.

    Args:
        denoiser: called with (latents, timestep, *tensors).
        schedule: scheduler and number of steps.
        noise: start noise (S, C, h, w) of unit variance, float32 or float64.
        tensors: conditions of the denoiser.
        gradient: part of the chain that the gradient passes through, as in `SamplingConfig`; None: no gradient.
        last_k: number of calls of "last_k".
        calls: denoiser calls to stop after; None: the whole chain.
        image: image that the chain starts from; None: it starts from noise alone.

    Raises:
        UsageError: an eta that the scheduler does not take, or as `Schedule`.
    """
    scheduler = schedule.begin()
    timesteps = schedule.timesteps[:calls]
    route = gradient_route(gradient, len(timesteps), last_k, tensors)
    return _chain(denoiser, scheduler, timesteps, schedule, noise, tensors, route, image)


def _chain(
    denoiser: Denoiser,
    scheduler: Any,
    timesteps: Tensor,
    schedule: Schedule,
    noise: Tensor,
    tensors: Sequence[Tensor] = (),
    route: GradientRoute | None = None,
    image: StartImage | None = None,
) -> Tensor:
    """Run a started scheduler's steps at `timesteps`, with the graph of a route; None: without one."""
    arguments = _step_arguments(scheduler, schedule, noise)
    route = route or gradient_route(None, len(timesteps), 0)
    precision = _Float64Steps if noise.dtype == torch.float64 else nullcontext
    # Schedulers of second order keep the first latents: without their graph where the route begins later.
    with precision(), torch.set_grad_enabled(torch.is_grad_enabled() and route.first_step == 0):
        start = scale_gradient(noise, route.noise_weight)
        latents = _pure_noise(scheduler, start) if image is None else image.begin(scheduler, start, schedule.timesteps)
    for index, timestep in enumerate(timesteps):
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= route.first_step):
            scaled = latents
            if hasattr(scheduler, "scale_model_input"):
                scaled = scheduler.scale_model_input(latents, timestep)
            with torch.set_grad_enabled(torch.is_grad_enabled() and route.holds(index)):
                output = _Recomputed.apply(denoiser, scaled, timestep, *route.conditions(index, tensors))
            with precision():
                latents = scheduler.step(output, timestep, latents, return_dict=False, **arguments)[0]
                if image is not None:
                    latents = image.keep(scheduler, latents, start, schedule.timesteps[index + 1 : index + 2])
    return latents


def _pure_noise(scheduler: Any, noise: Tensor) -> Tensor:
    """Return noise of unit variance at a scheduler's first level."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


def _step_arguments(scheduler: Any, schedule: Schedule, noise: Tensor) -> dict[str, Any]:
    """Return further arguments of `scheduler.step`, with a source of noise per image."""
    parameters = inspect.signature(scheduler.step).parameters
    seeds = [_seed(row) for row in noise]
    arguments: dict[str, Any] = {}
    if "generator" in parameters:
        arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = seeds
    if schedule.eta is not None:
        if "eta" not in parameters:
            raise UsageError(
                f"expected no eta for {type(scheduler).__name__}, got {schedule.eta}; ddim and tcd take it"
            )
        arguments["eta"] = schedule.eta
    return arguments


def _seed(noise: Tensor) -> int:
    """Return a seed computed from one image's start noise."""
    content = noise.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "big")


class _Float64Steps(TorchFunctionMode):
    """Mode in which schedulers that cast to float32 step in float64 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def widened(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(widened, args), **{name: widened(value) for name, value in (kwargs or {}).items()})


class _Recomputed(torch.autograd.Function):
    """Denoiser call that stores its inputs only and is recomputed in the backward pass.

    Unlike `torch.utils.checkpoint` it builds no graph of the denoiser in the forward pass. If that had one thread, so
    has the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, denoiser: Denoiser, *inputs: Tensor) -> Tensor:
        ctx.denoiser = denoiser
        ctx.has_one_thread = torch.get_num_threads() == 1
        ctx.save_for_backward(*inputs)
        return denoiser(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip(ctx.saved_tensors, needed, strict=True)]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        # In half precision a gradient scaled to about 1 does not underflow; scaling by a power of two is exact.
        (gradient,) = gradients
        exponent = torch.frexp(gradient.abs().amax()).exponent
        threads = one_thread() if ctx.has_one_thread else nullcontext()
        with threads, torch.enable_grad(), out_of_memory(len(inputs[0])):
            output = ctx.denoiser(*inputs)
            found = torch.autograd.grad(output, wanted, torch.ldexp(gradient, -exponent), allow_unused=True)
        rest = iter(None if part is None else torch.ldexp(part, exponent) for part in found)
        return (None, *(next(rest) if need else None for need in needed))


@contextmanager
def out_of_memory(images: int) -> Iterator[None]:
    """Turn an out-of-memory error of the block into a ThalwegError that names ways to need less memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_out_of_memory and "can't allocate memory" not in str(error):
            raise
        raise ThalwegError(
            f"out of memory with {images} image(s) at once: fewer seeds, a smaller height and width or dtype float16 "
            "need less, and gradient None (no backward pass) the least"
        ) from error
