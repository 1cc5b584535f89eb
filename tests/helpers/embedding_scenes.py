"""Embedding datasets with random values."""

import numpy as np
import xarray as xr

from thalweg.earth.sensors import Quality


def scene(dates: int = 6, rows: int = 40, columns: int = 50, seed: int = 0) -> xr.Dataset:
    """Return embeddings that vary over the grid; a third of them are missing, and all of date 2."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(-1, 1, columns)[None, None, None, :] + np.linspace(0, 2, rows)[None, None, :, None]
    vectors = (ramp * random.normal(size=(1, 7, 1, 1)) + random.normal(size=(dates, 7, rows, columns))).astype("f4")
    missing = random.random((dates, rows, columns)) < 0.3
    missing[2] = True
    vectors[np.broadcast_to(missing[:, None], vectors.shape)] = np.nan
    return xr.Dataset(
        {
            "embeddings": (("time", "embedding", "y", "x"), vectors),
            "quality": (("time", "y", "x"), np.where(missing, Quality.CLOUD, Quality.CLEAR).astype("u1")),
        },
        coords={"x": np.arange(columns) * 10.0, "y": np.arange(rows) * -10.0},
        attrs={"geoemb:gsd": 10, "proj:wkt2": "EPSG:32631"},
    )
