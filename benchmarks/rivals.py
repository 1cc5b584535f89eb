"""The rivals embeddings are compared with: principal components of trajectories, and spectral indices."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import sensor_context

OFFSETS, WIDTH_DAYS, BOX = (-60, -40, -20, 0, 20, 40, 60), 12.0, 3


def centre_and_trajectory(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A site's centre values and local trajectories.

    Returns:
        values (T, H, W, 12): ten Sentinel-2 bands and the nearest date's averaged Sentinel-1, in 0..1; clear
        (T, H, W); and the validity-weighted kernel averages at seven day offsets, (T, H, W, 7 * 12), over dates
        with 3.5 % clear pixels.
    """
    cube = Cube.open(folder, ("sentinel-2", "sentinel-1"))
    optical = sensor_context(cube.series["sentinel-2"], cube.whole).select(torch.from_numpy(cube.eligible()))
    radar = sensor_context(cube.series["sentinel-1"], cube.whole)
    nearest = (optical.days[:, None] - radar.days[None]).abs().argmin(1)
    values = torch.cat([optical.values, radar.values[nearest]], 1)
    clear = optical.valid
    pooled = F.avg_pool2d(F.pad(torch.cat([values * clear, clear], 1), (BOX // 2,) * 4, mode="replicate"), BOX, 1)
    away = optical.days[None] - optical.days[:, None]
    samples = []
    for offset in OFFSETS:
        width = WIDTH_DAYS if offset else WIDTH_DAYS / 2
        weights = torch.exp(-0.5 * ((away - offset) / width) ** 2) + 1e-6 * torch.exp(-(away - offset).abs() / 60)
        sums = torch.einsum("qt,tchw->qchw", weights, pooled)
        samples.append(sums[:, :-1] / sums[:, -1:].clamp(min=1e-9))

    def last(frames: torch.Tensor) -> np.ndarray:
        return frames.movedim(1, -1).numpy()

    return last(values), last(clear)[..., 0] > 0, last(torch.cat(samples, 1))


def principal_axes(samples: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and first `size` principal axes (size, D) of samples (N, D)."""
    mean = samples.mean(0)
    return mean, np.linalg.svd(samples - mean, full_matrices=False)[2][:size]


def spectral_indices(bands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """NDVI, EVI, NIRv and kNDVI of reflectance (any shape) by band name, through spyndex."""
    import spyndex

    parameters = {
        "N": bands["B08"], "R": bands["B04"], "B": bands["B02"], "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0,
        "kNN": 1.0,
        "kNR": spyndex.computeKernel(
            "RBF", a=bands["B08"], b=bands["B04"], sigma=0.5 * (bands["B08"] + bands["B04"])
        ),
    }  # fmt: skip
    return {
        name: np.asarray(spyndex.computeIndex(name, params=parameters)) for name in ("NDVI", "EVI", "NIRv", "kNDVI")
    }
