"""Names of the gradient modes of a denoising chain."""

from typing import Literal

Gradient = Literal["full", "last_k", "one_step", "shortcut", "random", "auto"] | None
"""Part of a chain that the gradient passes through; `thalweg.diffusion.SamplingConfig` describes each."""
GRADIENTS = ("full", "last_k", "one_step", "shortcut", "random", "auto")
"""The modes that compute a gradient."""
