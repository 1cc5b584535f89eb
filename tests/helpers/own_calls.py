"""The calls of the library's own pipelines, to which generators are compared."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from thalweg.diffusion import DiffusionGenerator
from thalweg.embedding import Embedding

SEEDS = (3, 11)
MASKED = ("sana", "lumina2", "chroma", "qwen", "zimage")
"""Tiny pipelines whose embeddings have masks."""


def kind(model: DiffusionGenerator) -> str:
    return model.adapter.name.removeprefix("tiny-")


def leaves(embedding: Embedding) -> Embedding:
    return Embedding(
        {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in embedding.tensors.items()},
        embedding.lineage,
    )


def reference(model: DiffusionGenerator, prompt: str | list[str], **arguments: Any) -> torch.Tensor:
    """The pipeline's own images of SEEDS."""
    given = {
        "num_inference_steps": model.settings.steps,
        "height": model.settings.height,
        "width": model.settings.width,
        "num_images_per_prompt": len(SEEDS),
        "generator": [torch.Generator().manual_seed(seed) for seed in SEEDS],
        "output_type": "pt",
    }
    given |= own_arguments(model) | arguments
    return model.adapter.pipeline(prompt=prompt, **given).images


def own_arguments(model: DiffusionGenerator) -> dict[str, Any]:
    """Arguments of the pipeline's call that not all classes take."""
    if kind(model) == "qwen":
        return {"true_cfg_scale": model.settings.guidance_scale, "negative_prompt": ""}
    sizes = {"use_resolution_binning": False} if kind(model) == "sana" else {}
    return {"guidance_scale": model.settings.guidance_scale, **sizes}


class DoublePrecision(TorchFunctionMode):
    """Mode in which code that casts to float32 casts to float64 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def widened(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(widened, args), **{name: widened(value) for name, value in (kwargs or {}).items()})
