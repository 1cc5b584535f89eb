"""Clusters of pixels by their embedding: k-means on one date or on the mean over a period."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.analysis.periods import Period, parse_period, period_dates, store_days
from thalweg.earth.cube.windows import grid_windows
from thalweg.earth.store.subsample import Part, block_shape, evenly_spaced_parts, read_parts
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from sklearn.cluster import MiniBatchKMeans

    from thalweg.earth.model.earth_model import EarthModel

MAX_CLUSTERS = 50
"""Largest number of clusters."""

SAMPLE_PIXELS = 20_000
"""Pixels that the clusters are fitted to, up to a factor of two."""

MIN_PIXELS_PER_CLUSTER = 10
"""Sampled pixels that are needed per cluster."""

STARTS = 8
"""Initialisations of k-means, of which the best is kept."""

BATCH = 2048
NO_CLUSTER = 255
"""Number of a pixel without an embedding."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of the pixels of a store, numbered from 1, the largest first.

    Attributes:
        dates: days that the embeddings were averaged over, datetime64[D].
        labels: (H, W), uint8, index of each pixel's cluster, from 0; `NO_CLUSTER` where there is no embedding.
        centres: (C, K), mean embedding of each cluster.
        pixels: (C,), number of pixels of each cluster.
        bands: names of the bands of the reference sensor.
        spectra: (C, B), bands decoded from the mean embedding of each cluster, in the sensor's units.
        stability: adjusted Rand index of two clusterings, each fitted to another half of the sample with another seed:
            1 if they agree on every pixel, about 0 if they agree as by chance.
    """

    dates: NDArray[np.datetime64]
    labels: NDArray[np.uint8]
    centres: NDArray[np.floating]
    pixels: NDArray[np.integer]
    bands: tuple[str, ...]
    spectra: NDArray[np.floating]
    stability: float

    def to_dataset(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Return the clusters as a dataset on the grid of the embeddings.

        Args:
            dataset: the embedding dataset that was clustered.

        Returns:
            `cluster` (y, x), uint8, numbered from 1, 0 where there is no embedding; `pixels` (number); `spectrum`
            (number, band), decoded; the attribute `stability`.
        """
        import xarray as xr

        labels = np.where(self.labels == NO_CLUSTER, 0, self.labels + 1).astype(np.uint8)
        return xr.Dataset(
            {
                "cluster": (("y", "x"), labels),
                "pixels": (("number",), self.pixels),
                "spectrum": (("number", "band"), self.spectra),
            },
            coords={
                **{name: dataset[name] for name in ("y", "x", "spatial_ref") if name in dataset.coords},
                "number": np.arange(1, len(self.pixels) + 1),
                "band": list(self.bands),
            },
            attrs={"stability": self.stability, "dates": [str(day) for day in self.dates]},
        )

    @property
    def names(self) -> list[str]:
        """Name of each cluster, such as `cluster 1`."""
        return [f"cluster {number}" for number in range(1, len(self.pixels) + 1)]


def cluster(
    dataset: "xr.Dataset",
    count: int = 8,
    period: str | None = None,
    model: "str | Path | EarthModel | None" = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Clusters:
    """Divide the pixels of an embedding dataset into clusters by k-means.

    The clusters are fitted to a sample spread over the grid; every pixel then belongs to the nearest centre. The same
    seed gives the same clusters.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        count: number of clusters, 2 to 50.
        period: a date, a month or a range; the mean over its dates is clustered. All dates by default.
        model: model of the embeddings or its folder, to decode the spectra; the shipped weights by default.
        seed: seed of the initialisation.
        progress: callback with the number of finished blocks and their total.

    Raises:
        MissingPathError: There is no folder `model`.
        UsageError: `count` is out of range, the period has no date, too few pixels have an embedding, or another model
            made the embeddings.
    """
    import torch
    from sklearn.metrics import adjusted_rand_score

    from thalweg.earth.model.earth_model import EarthModel

    check_count_of_clusters(count)
    requested: Period | None = None if period is None else parse_period(period)
    loaded = model if isinstance(model, EarthModel) else EarthModel.load(model)
    loaded.check_made(dataset)
    dates = np.arange(dataset.sizes["time"]) if requested is None else period_dates(dataset, requested)
    part = dataset[["embeddings"]].isel(time=dates)
    parts = evenly_spaced_parts(part, len(dates))
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    step = max(1, pixels // SAMPLE_PIXELS)
    sample = np.concatenate([_mean_embeddings(part, chosen, step) for chosen in parts])
    sample = sample[np.isfinite(sample).all(1)]
    if len(sample) < MIN_PIXELS_PER_CLUSTER * count:
        raise UsageError(
            f"{len(sample)} sampled pixel(s) with an embedding: expected at least {MIN_PIXELS_PER_CLUSTER * count} for "
            f"{count} clusters; take fewer clusters or a longer period"
        )
    fitted = _fit(sample, count, seed)
    halves = [_fit(sample[half::2], count, seed + 1 + half).predict(sample) for half in (0, 1)]
    found = _predict(part, fitted, progress)
    sizes = np.bincount(found[found != NO_CLUSTER], minlength=count)
    order = np.argsort(-sizes, kind="stable")
    rank = np.full(NO_CLUSTER + 1, NO_CLUSTER, np.uint8)
    rank[order] = np.arange(count)
    centres = np.asarray(fitted.cluster_centers_)[order]
    with torch.inference_mode():
        vectors = torch.from_numpy(centres.T.astype(np.float32))[None, :, :, None]
        spectra = loaded.decode(vectors, loaded.reference.name)[0, :, :, 0].T.numpy()
    return Clusters(
        dates=store_days(part),
        labels=rank[found],
        centres=centres,
        pixels=sizes[order],
        bands=loaded.reference.band_names,
        spectra=spectra,
        stability=float(adjusted_rand_score(*halves)),
    )


def check_count_of_clusters(count: int) -> None:
    """Raise a `UsageError` if a number of clusters is not from 2 to 50."""
    if not 2 <= count <= MAX_CLUSTERS:
        raise UsageError(f"{count} cluster(s): expected 2 to {MAX_CLUSTERS}")


def cluster_table(clusters: Clusters, hectares: float) -> "list[dict[str, object]]":
    """Return one row per cluster: its number, pixels, area, share and decoded bands.

    Args:
        clusters: the clusters.
        hectares: area of a pixel.
    """
    total = int(clusters.pixels.sum())
    return [
        {
            "cluster": number,
            "pixels": int(pixels),
            "area_ha": round(int(pixels) * hectares, 4),
            "share": round(int(pixels) / total, 4),
            **{band: round(float(value), 4) for band, value in zip(clusters.bands, spectrum, strict=True)},
        }
        for number, (pixels, spectrum) in enumerate(zip(clusters.pixels, clusters.spectra, strict=True), 1)
    ]


def _fit(vectors: NDArray[np.floating], count: int, seed: int) -> "MiniBatchKMeans":
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(count, random_state=seed, n_init=STARTS, batch_size=BATCH).fit(vectors)


def _mean_embeddings(dataset: "xr.Dataset", part: Part, step: int = 1) -> NDArray[np.floating]:
    """Return the mean over the dates of the embeddings of every `step`-th pixel of a part, (N, K), NaN without any."""
    total: Any = 0.0
    count: Any = 0.0
    for _, vectors in read_parts(dataset, "embeddings", range(dataset.sizes["time"]), [part]):
        series = vectors.reshape(*vectors.shape[:2], -1)[..., ::step]
        has_embedding = np.isfinite(series).all(1)
        total = total + np.where(has_embedding[:, None], series, 0).sum(0, dtype=np.float64)
        count = count + has_embedding.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray((total / count).T)


def _predict(part: "xr.Dataset", fitted: "MiniBatchKMeans", progress: Progress | None) -> NDArray[np.uint8]:
    """Return the cluster (H, W) of every pixel, block by block."""
    shape = part.sizes["y"], part.sizes["x"]
    labels = np.full(shape, NO_CLUSTER, np.uint8)
    blocks = list(grid_windows(shape, max(block_shape(part))))
    for number, block in enumerate(blocks, 1):
        here = (slice(block.top, block.top + block.height), slice(block.left, block.left + block.width))
        vectors = _mean_embeddings(part, here)
        known = np.isfinite(vectors).all(1)
        found = np.full(len(vectors), NO_CLUSTER, np.uint8)
        if known.any():
            found[known] = fitted.predict(vectors[known])
        labels[here] = found.reshape(block.height, block.width)
        if progress:
            progress(number, len(blocks))
    return labels
