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


def two_summers(
    model: str, seed: int = 0, side: int = 40, correlation: float = 0.0, dates: int = 6, clouds: float = 0.2
) -> xr.Dataset:
    """Return embeddings of July 2018 and July 2019 whose pixels did not change, with known noise.

    Each pixel has its own state and its own scale of noise, each date a common effect; the noise of successive dates is
    correlated.
    """
    random = np.random.default_rng(seed)
    july = np.arange(dates) * np.timedelta64(31 // dates, "D")
    times = np.concatenate([np.datetime64(f"{year}-07-01", "ns") + july for year in (2018, 2019)])
    mixing = np.eye(7) + 0.15 * random.normal(size=(7, 7))
    noise = np.empty((2, dates, 7, side, side))
    noise[:, 0] = random.normal(size=noise[:, 0].shape)
    for date in range(1, dates):
        fresh = random.normal(size=noise[:, 0].shape)
        noise[:, date] = correlation * noise[:, date - 1] + np.sqrt(1 - correlation**2) * fresh
    noise = np.einsum("kl,ydlrc->ydkrc", mixing, noise).reshape(-1, 7, side, side)
    scale = np.sqrt(8 / random.chisquare(8, (side, side)))  # a few pixels are much noisier than the others
    state, effects = random.normal(size=(7, side, side)), 0.5 * random.normal(size=(2 * dates, 7, 1, 1))
    vectors = (state + effects + 0.5 * scale * noise).astype("f4")
    missing = random.random((len(times), side, side)) < clouds
    vectors[np.broadcast_to(missing[:, None], vectors.shape)] = np.nan
    uncertainty = np.where(np.isfinite(vectors), 0.02, np.nan).astype("f4")
    names = ("time", "embedding", "y", "x")
    return xr.Dataset(
        {
            "embeddings": (names, vectors),
            "uncertainty": (names, uncertainty),
            "quality": (("time", "y", "x"), np.where(missing, Quality.CLOUD, Quality.CLEAR).astype("u1")),
        },
        coords={"time": times, "x": 500_005 + np.arange(side) * 10.0, "y": 5_600_000 - np.arange(side) * 10.0},
        attrs={"geoemb:gsd": 10.0, "proj:wkt2": "EPSG:32631", "thalweg:model": model},
    )
