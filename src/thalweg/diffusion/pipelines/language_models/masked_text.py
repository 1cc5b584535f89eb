"""Base of the pipeline adapters with one text encoder, whose rows for padding are masked."""

from typing import ClassVar

import torch
from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter, negative_name


class MaskedText(PipelineAdapter):
    """One text encoder; its rows, padded to the model's length, and an integer mask of those that the model reads."""

    half = torch.bfloat16
    conditions: ClassVar[tuple[str, ...]] = ("prompt", "mask")
    encoders = ("text_encoder",)
    clip_encoders = ()
    long_encoders = ("text_encoder",)
    takes_guidance_rescale = False


def padded(name: str, rows: Tensor, length: int) -> dict[str, Tensor]:
    """Return rows (1, n, width) of the tensor `name`, padded with zeros to (1, length, width), and their mask."""
    read = rows.shape[1]
    mask = torch.arange(length, device=rows.device) < read
    mask_name = "mask" if name == "prompt" else negative_name("mask")
    return {name: torch.nn.functional.pad(rows, (0, 0, 0, length - read)), mask_name: mask.long()[None]}


def trimmed(rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return rows (S, n, width) and masks (S, n) up to the longest prompt's last row; no mask where none is padding."""
    longest = int(mask.any(0).nonzero().max()) + 1
    rows, mask = rows[:, :longest], mask[:, :longest]
    return rows, None if bool(mask.all()) else mask
