"""Embedding dataset on the dates of a calendar."""

from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.mapping.features.calendar_interpolation import CalendarInterpolation, store_calendar
from thalweg.earth.store.portable import portable
from thalweg.earth.store.subsample import block_shape

if TYPE_CHECKING:
    import xarray as xr


def on_calendar(dataset: "xr.Dataset", calendar: str | None = None) -> "xr.Dataset":
    """Interpolate embeddings to the days of a calendar (`CalendarInterpolation`), in memory.

    Args:
        dataset: embeddings, dims (time, embedding, y, x).
        calendar: as `store_calendar` takes it.

    Returns:
        Dataset of the same grid and attributes with `embeddings` and `uncertainty`, float32 (time, embedding, y, x);
        NaN at pixels without any embedding.

    Raises:
        UsageError: The calendar is malformed, or a day lies outside the store's dates.
    """
    days = store_calendar(dataset, calendar)
    interpolation = CalendarInterpolation.of(dataset, days)
    shape = (len(days), dataset.sizes["embedding"], dataset.sizes["y"], dataset.sizes["x"])
    embeddings, uncertainty = (np.empty(shape, np.float32) for _ in range(2))
    side = block_shape(dataset)
    for top in range(0, shape[2], side[0]):
        for left in range(0, shape[3], side[1]):
            rows, columns = slice(top, top + side[0]), slice(left, left + side[1])
            values, half_width = interpolation.read(dataset.isel(y=rows, x=columns), with_uncertainty=True)
            embeddings[..., rows, columns], uncertainty[..., rows, columns] = values, half_width
    result = dataset.drop_vars([name for name in dataset.variables if "time" in dataset[name].dims])
    dims = ("time", "embedding", "y", "x")
    result = result.assign_coords(time=days.astype("datetime64[ns]")).assign(
        embeddings=(dims, embeddings, dict(dataset.embeddings.attrs)),
        uncertainty=(dims, uncertainty, dict(dataset.uncertainty.attrs)),
    )
    return portable(result)
