"""Baseline of the embeddings: kernel-averaged trajectories of the bands, for a principal component analysis."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import sensor_context

OFFSETS, KERNEL_STD_DAYS, POOLING_SIZE = (-60, -40, -20, 0, 20, 40, 60), 12.0, 3
TAIL_WEIGHT, TAIL_DAYS = 1e-6, 60
MIN_WEIGHT = 1e-9


def centre_and_trajectory(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a site's bands and compute their local trajectories on the dates with at least 3.5 % clear pixels.

    Returns:
        Bands (T, H, W, 12), ten of Sentinel-2 and two of Sentinel-1 on the nearest date, in 0..1; clear pixels
        (T, H, W), bool; and validity-weighted kernel averages at seven day offsets, (T, H, W, 7 * 12).
    """
    cube = Cube.open(folder, ("sentinel-2", "sentinel-1"))
    optical = sensor_context(cube.series["sentinel-2"], cube.whole).select(torch.from_numpy(cube.eligible()))
    radar = sensor_context(cube.series["sentinel-1"], cube.whole)
    nearest = (optical.days[:, None] - radar.days[None]).abs().argmin(1)
    values = torch.cat([optical.values, radar.values[nearest]], 1)
    clear = optical.valid
    padded = F.pad(torch.cat([values * clear, clear], 1), (POOLING_SIZE // 2,) * 4, mode="replicate")
    pooled = F.avg_pool2d(padded, POOLING_SIZE, 1)
    distance = optical.days[None] - optical.days[:, None]
    samples = []
    for offset in OFFSETS:
        std = KERNEL_STD_DAYS if offset else KERNEL_STD_DAYS / 2
        away = distance - offset
        weights = torch.exp(-0.5 * (away / std) ** 2) + TAIL_WEIGHT * torch.exp(-away.abs() / TAIL_DAYS)
        sums = torch.einsum("qt,tchw->qchw", weights, pooled)
        samples.append(sums[:, :-1] / sums[:, -1:].clamp(min=MIN_WEIGHT))

    def bands_last(frames: torch.Tensor) -> np.ndarray:
        return frames.movedim(1, -1).numpy()

    return bands_last(values), bands_last(clear)[..., 0] > 0, bands_last(torch.cat(samples, 1))
