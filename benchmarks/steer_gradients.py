"""Exactness and cost of the gradient through the whole denoising chain, and its difference from the last step's.

Runs on the miniature (or on the model in the folder --model):

- exact: for each scheduler, in float64, the gradient with respect to the embedding against the graph kept whole, and
  against central finite differences along a direction that is half gradient, half random. Exact is a relative error of
  at most 1e-6 in both.
- memory: peak resident memory of one gradient over 50 steps, above what the process held before, each mode in a
  process of its own (Linux).
- time: one gradient through a whole chain of 20 steps over one sampling of it without a gradient.
- the modes: cosine of each mode's gradient of sharpness with the full one, its length over the full one's, and its
  denoiser calls over those of rendering; means of the prompts at the miniature's own steps.
"""

import gc
import multiprocessing
import re
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from common import arguments, report
from thalweg.diffusion import DiffusionGenerator, miniature, sampling
from thalweg.diffusion.schedulers import SCHEDULERS
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.gradient_modes import Gradient

PROMPTS = (
    "a red ball",
    "a small blue cube on a white background",
    "a matte green cone, lit from the left",
    "a blurred yellow ring",
)
EXACT = 1e-6
MODES: tuple[Gradient, ...] = ("full", "last_k", "one_step", "shortcut", "random")


def load(folder: Path | None, dtype: torch.dtype = torch.float32) -> DiffusionGenerator:
    """Load the model in a precision."""
    return miniature.load(*([folder] if folder else []), dtype=dtype)


def leaves(embedding: Embedding) -> list[Tensor]:
    return [value.clone().requires_grad_() for value in embedding.tensors.values()]


def moved(embedding: Embedding, values: list[Tensor]) -> Embedding:
    return embedding.derive(dict(zip(embedding.tensors, values, strict=True)), "move")


def sharpness(images: Tensor) -> Tensor:
    """Return the mean variance of the Laplacian of the grey images."""
    kernel = images.new_tensor([[1, 1, 1], [1, -8, 1], [1, 1, 1]])[None, None]
    return torch.conv2d(images.mean(1, keepdim=True), kernel).var(dim=(1, 2, 3)).mean()


def gradient(model: DiffusionGenerator, embedding: Embedding, seeds: tuple[int, ...]) -> Tensor:
    """The gradient of sharpness with respect to all of the embedding, flat."""
    values = leaves(embedding)
    found = torch.autograd.grad(sharpness(model.render(moved(embedding, values), seeds)), values)
    return torch.cat([part.flatten() for part in found])


def configurations() -> dict[str, dict[str, Any]]:
    """Settings by name: every scheduler the package names, DDIM and TCD with fresh noise, two other spacings."""
    import diffusers

    return {
        **{name: {"scheduler": name} for name in SCHEDULERS},
        "ddim, eta 1": {"scheduler": "ddim", "eta": 1.0},
        "tcd, eta 1": {"scheduler": "tcd", "eta": 1.0},
        "dpm_multistep, third order": {"scheduler": diffusers.DPMSolverMultistepScheduler(solver_order=3)},
        "euler, Karras": {"scheduler": diffusers.EulerDiscreteScheduler(use_karras_sigmas=True)},
    }


def relative_errors(folder: Path | None) -> dict[str, float]:
    """For each scheduler the larger relative error of the gradient: to the whole graph, to finite differences.

    A scheduler that finds no steps for the model's noise levels is left out.
    """
    import diffusers

    wide = load(folder, torch.float64).with_settings(steps=6)
    flowing = load(folder, torch.float64)
    flowing.adapter.pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    embedding = wide.embed(PROMPTS[0])
    values = leaves(embedding)
    random = torch.Generator().manual_seed(0)
    errors = {}
    for name, settings in configurations().items():
        try:
            model = (flowing if name.startswith("flow_") else wide).with_settings(**{"steps": 6, **settings})
        except UsageError as error:
            print(f"{name:28s} {error}")
            continue
        noise = model.noise((1,))
        with torch.no_grad():
            spread = model.latents(embedding, noise).std()

        def value(at: list[Tensor], model: Any = model, noise: Tensor = noise, spread: Tensor = spread) -> Tensor:
            return (model.latents(moved(embedding, at), noise) / spread).tanh().square().mean()

        found = torch.autograd.grad(value(values), values)
        with patch.object(sampling._Recomputed, "apply", lambda denoiser, *inputs: denoiser(*inputs)):
            kept = torch.autograd.grad(value(values), values)
        size = norm(kept)
        to_graph = norm([one - other for one, other in zip(found, kept, strict=True)]) / size
        draw = [torch.randn(part.shape, generator=random, dtype=part.dtype) for part in found]
        way = [part / size + other / norm(draw) for part, other in zip(kept, draw, strict=True)]
        slope = sum(float((one * other).sum()) for one, other in zip(found, way, strict=True))
        with torch.no_grad():
            ends = [value([at + side * 1e-4 * to for at, to in zip(values, way, strict=True)]) for side in (1, -1)]
        measured = float(ends[0] - ends[1]) / 2e-4
        errors[name] = max(to_graph, abs(slope - measured) / abs(measured))
        print(f"{name:28s} whole graph {to_graph:.1e}, finite differences {abs(slope / measured - 1):.1e}", flush=True)
    return errors


def norm(parts: Any) -> float:
    return float(torch.cat([part.flatten() for part in parts]).norm())


def resident(field: str) -> float:
    """Resident memory of this process in MB: VmRSS now, VmHWM at most so far."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("memory is read from /proc/self/status, which this system does not have")
    return int(found[1]) / 1024


def peak_memory(folder: Path | None, mode: Gradient, seeds: tuple[int, ...]) -> float:
    """Peak memory in MB of one gradient over 50 steps, above what the process held before; for a fresh process."""
    model = load(folder).with_settings(gradient=mode)
    embedding = model.embed(PROMPTS[0])
    gradient(model.with_settings(steps=1), embedding, seeds[:1])
    gc.collect()
    before = resident("VmRSS")
    gradient(model.with_settings(steps=50), embedding, seeds)
    return resident("VmHWM") - before


def memory(folder: Path | None) -> dict[str, float]:
    """Peak memory of both modes, the median of three processes each."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured: tuple[Gradient, ...] = ("full", "one_step")
        return {
            str(mode): statistics.median(pool.apply(peak_memory, (folder, mode, tuple(range(8)))) for _ in range(3))
            for mode in measured
        }


def durations(model: DiffusionGenerator) -> dict[str, float]:
    """Seconds of one sampling and of one gradient, the shortest of three each, taken in turn."""
    embedding, seeds = model.embed(PROMPTS[0]), tuple(range(4))
    runs: dict[str, list[float]] = {"sampling": [], "full": []}
    for _ in range(4):
        start = time.perf_counter()
        model.with_gradient(None).render(embedding, seeds)
        middle = time.perf_counter()
        gradient(model, embedding, seeds)
        runs["sampling"].append(middle - start)
        runs["full"].append(time.perf_counter() - middle)
    return {name: min(times[1:]) for name, times in runs.items()}


def modes(model: DiffusionGenerator) -> dict[str, float]:
    """Cosine, length and calls of each gradient mode, the means of the prompts."""
    found: dict[str, list[float]] = defaultdict(list)
    for prompt in PROMPTS:
        embedding = model.embed(prompt)
        full = gradient(model.with_gradient("full"), embedding, (1, 2))
        for mode in MODES:
            before = model.calls
            other = gradient(model.with_gradient(mode), embedding, (1, 2))
            found[f"calls_{mode}"].append((model.calls - before) / (2 * model.steps))
            found[f"cosine_{mode}"].append(float(torch.cosine_similarity(other, full, dim=0)))
            found[f"length_{mode}"].append(float(other.norm() / full.norm()))
    return {name: statistics.mean(values) for name, values in found.items()}


def main() -> None:
    options = arguments(__doc__)
    held = memory(options.model)
    model = load(options.model)
    took = durations(model)
    compared = modes(model)
    errors = relative_errors(options.model)
    report(
        {
            "model": str(model.model),
            "schedulers_exact": sum(error <= EXACT for error in errors.values()),
            "schedulers_tried": len(errors),
            "max_relative_error": max(errors.values()),
            "memory_full_over_one_step": held["full"] / held["one_step"],
            "memory_full_mb": held["full"],
            "time_full_over_sampling": took["full"] / took["sampling"],
            "seconds_full": took["full"],
            **compared,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
