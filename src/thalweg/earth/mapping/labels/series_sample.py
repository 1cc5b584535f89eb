"""Series at points, and means and spreads over polygons, as a table."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.labels.feature_pixels import FeaturePixels, feature_pixels
from thalweg.earth.mapping.labels.geometry_files import usable_geometries, with_reference_system
from thalweg.earth.mapping.labels.sampled_quantities import EMBEDDING, SampledQuantities
from thalweg.earth.positions import dataset_geobox
from thalweg.earth.sensors import Quality
from thalweg.earth.store.subsample import block_shape
from thalweg.errors import DataWarning, UsageError
from thalweg.io.atomic import atomic_file, write_failure
from thalweg.notices import warn

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel

TABLE_SUFFIXES = (".parquet", ".csv")
"""Suffixes of the tables that `write_sample` writes."""

MAX_VALUES = 2**22
"""Values (dates x dimensions x pixels) that are read together, unless one date has more."""

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished features and their total."""


def sample(
    dataset: "xr.Dataset",
    geometries: "geopandas.GeoDataFrame",
    what: Sequence[str] = (EMBEDDING,),
    model: "str | Path | EarthModel | None" = None,
    name: str = "geometries",
    progress: Progress | None = None,
) -> "pd.DataFrame":
    """Sample the series of points, and the mean series of polygons.

    Args:
        dataset: embeddings, dims (time, embedding, y, x).
        geometries: points and polygons in any reference system; polygons by pixel centres, without mixed edge pixels.
        what: `embedding`, traits (`lai`, ...), spectral indices (`ndvi`, ...) and bands.
        model: model of the embeddings, or its folder; the shipped weights by default. Needed for decoded quantities.
        name: name of the geometries for messages.
        progress: callback with the number of finished features and their total.

    Returns:
        One row per feature on the grid and date, with the columns `feature` (its row number in `geometries`, from 1),
        its attributes, `time`, `pixels` (its pixels), `usable` (share of them with an embedding), `quality` (most
        frequent flag); and per quantity `NAME` (mean over the pixels with an embedding), `NAME_uncertainty` (mean
        half-width of the 68 % intervals: errors within a feature are taken as fully correlated) and `NAME_spread`
        (standard deviation between pixels, NaN with fewer than two).

    Raises:
        MissingPathError: There is no folder `model`.
        UsageError: There is no such quantity, the embeddings are those of another model, or no geometry lies on the
            grid.
    """
    import pandas as pd

    quantities = SampledQuantities.read(what, dataset, model)
    grid = dataset_geobox(dataset)
    table = with_reference_system(geometries, name)
    found = feature_pixels(usable_geometries(table, name, str(grid.crs)), grid, name)
    if found.outside:
        warn(DataWarning(f"{name}: {found.outside} feature(s) outside the store are left out"), stacklevel=2)
    attributes = pd.DataFrame(table.drop(columns=table.geometry.name)).set_axis(np.arange(len(table)), axis=0)
    attributes.columns = [_free_name(str(column), quantities.names) for column in attributes.columns]
    total = len(np.unique(found.features))
    parts: dict[int, pd.DataFrame] = {}
    for members in _neighbouring_features(found, block_shape(dataset)):
        parts |= _series_of(dataset, found, members, quantities)
        if progress:
            progress(len(parts), total)
    rows = []
    for number in sorted(parts):
        own = {column: [attributes.loc[number, column]] * len(parts[number]) for column in attributes.columns}
        rows.append(pd.DataFrame({"feature": number + 1, **own, **parts[number]}))
    return pd.concat(rows, ignore_index=True)


def write_sample(table: "pd.DataFrame", out: str | Path) -> Path:
    """Write a sample as Parquet or CSV, complete or not at all.

    Raises:
        UsageError: `out` has another suffix.
        ThalwegError: The file cannot be written.
    """
    out = Path(out)
    check_sample_name(out)
    try:
        with atomic_file(out) as unfinished:
            if out.suffix.lower() == ".csv":
                table.to_csv(unfinished, index=False, float_format="%.6g")
            else:
                table.to_parquet(unfinished, index=False)
    except OSError as error:
        raise write_failure(out, error) from error
    return out


def check_sample_name(out: Path) -> None:
    """Raise a `UsageError` if `out` is neither a Parquet nor a CSV file by its suffix."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"{out}: expected a file ending in {' or '.join(TABLE_SUFFIXES)}")


def _free_name(column: str, taken: Sequence[str]) -> str:
    """Return an attribute's name, with `label_` in front if the sample has a column of that name."""
    reserved = {"feature", "time", "pixels", "usable", "quality", *taken}
    return f"label_{column}" if column in reserved else column


def _neighbouring_features(found: FeaturePixels, block: tuple[int, int]) -> Iterator[list[NDArray[np.int64]]]:
    """Yield groups of features that are read together: those within one block of the store, else each alone.

    A group lists, for each of its features, the indices of the feature's pixels.
    """
    order = np.argsort(found.features, kind="stable")
    _, starts = np.unique(found.features[order], return_index=True)
    within: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for pixels in np.split(order, starts[1:]):
        down, across = (found.rows[pixels] // block[0]).tolist(), (found.columns[pixels] // block[1]).tolist()
        blocks = set(zip(down, across, strict=True))
        if len(blocks) == 1:
            within.setdefault(blocks.pop(), []).append(pixels)
        else:
            yield [pixels]
    yield from within.values()


def _series_of(
    dataset: "xr.Dataset", found: FeaturePixels, members: list[NDArray[np.int64]], quantities: SampledQuantities
) -> "dict[int, pd.DataFrame]":
    """Return the series of the features of a group by their number, one row per date."""
    import pandas as pd

    pixels = np.concatenate(members)
    rows, columns = found.rows[pixels], found.columns[pixels]
    top, left = int(rows.min()), int(columns.min())
    part = dataset.isel(y=slice(top, int(rows.max()) + 1), x=slice(left, int(columns.max()) + 1))
    at_once = max(1, MAX_VALUES // (part.sizes["y"] * part.sizes["x"] * part.sizes["embedding"]))
    bounds = np.cumsum([0, *map(len, members)])
    chunks: list[list[pd.DataFrame]] = [[] for _ in members]
    for first in range(0, part.sizes["time"], at_once):
        some = part.isel(time=slice(first, first + at_once))
        vectors, half_widths = (
            some[name].values[..., rows - top, columns - left] for name in ("embeddings", "uncertainty")
        )
        values, spreads = quantities.evaluate(vectors, half_widths)
        flags = some.quality.values[:, rows - top, columns - left] if "quality" in some else None
        for index, (low, high) in enumerate(pairwise(bounds)):
            own_flags = None if flags is None else flags[:, low:high]
            statistics = _statistics(values[..., low:high], spreads[..., low:high], own_flags, quantities.names)
            chunks[index].append(statistics)
    times = pd.DataFrame({"time": part.time.values})
    return {
        int(found.features[own[0]]): pd.concat([times, pd.concat(tables, ignore_index=True)], axis=1)
        for own, tables in zip(members, chunks, strict=True)
    }


def _statistics(values: NDArray, half_widths: NDArray, flags: NDArray | None, names: Sequence[str]) -> "pd.DataFrame":
    """Return the statistics over a feature's pixels: quantities (T, M, N) and flags (T, N)."""
    import pandas as pd

    is_usable = np.isfinite(values).all(1)
    count = is_usable.sum(1)[:, None]
    known = np.where(is_usable[:, None], values, 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = known.sum(2) / count
        deviation = np.where(is_usable[:, None], known - mean[..., None], 0)
        spread = np.where(count > 1, np.sqrt((deviation**2).sum(2) / np.maximum(count - 1, 1)), np.nan)
        uncertainty = np.where(is_usable[:, None], half_widths, 0).sum(2) / count
    columns: dict[str, object] = {"pixels": values.shape[2], "usable": count[:, 0] / values.shape[2]}
    if flags is not None:
        frequent = [np.bincount(row, minlength=len(Quality)).argmax() for row in flags]
        columns["quality"] = [Quality(int(flag)).name.lower() for flag in frequent]
    for index, name in enumerate(names):
        columns |= {
            name: mean[:, index],
            f"{name}_uncertainty": uncertainty[:, index],
            f"{name}_spread": spread[:, index],
        }
    return pd.DataFrame(columns)
