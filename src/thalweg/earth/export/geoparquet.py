"""Export of embeddings to GeoParquet: one table of points per date."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.export.date_names import Progress, date_name
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr


def write_geoparquet(dataset: "xr.Dataset", out: str | Path, progress: Progress | None = None) -> Path:
    """Write one GeoParquet table per date: a point per pixel with an embedding, in the store's reference system.

    Columns: `time`, `embedding` (list of float32), `valid_context_dates`, `quality`, `geometry`.

    Args:
        dataset: embeddings as `thalweg.open` returns them.
        out: folder to write; must not exist.
        progress: callback with the number of finished dates and their total.

    Returns:
        The folder, with one file `DATE.parquet` per date.

    Raises:
        UsageError: `out` exists.
        ThalwegError: the folder cannot be written.
    """
    import geopandas
    import shapely

    dates = dataset.sizes["time"]
    x, y = np.meshgrid(dataset.x.values, dataset.y.values)
    with atomic_folder(out) as folder:
        for index in range(dates):
            date = dataset.isel(time=index)
            vectors = date.embeddings.values
            has_embedding = np.isfinite(vectors).all(0)
            columns = {
                "time": np.full(has_embedding.sum(), dataset.time.values[index]),
                "embedding": list(vectors[:, has_embedding].T),
                "valid_context_dates": date.valid_context_dates.values[has_embedding],
                "quality": date.quality.values[has_embedding],
            }
            table = geopandas.GeoDataFrame(
                columns, geometry=shapely.points(x[has_embedding], y[has_embedding]), crs=dataset.attrs["proj:wkt2"]
            )
            table.to_parquet(folder / f"{date_name(dataset, index)}.parquet", index=False, compression="zstd")
            if progress:
                progress(index + 1, dates)
    return Path(out)
