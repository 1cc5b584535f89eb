"""One-screen summary of an embedding dataset."""

from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.positions import PixelIndex, dataset_geobox, lon_lat
from thalweg.earth.store.schema import OBSERVED

if TYPE_CHECKING:
    import xarray as xr

METHODS = (
    ("at(position), window(w, s, e, n)", "a pixel, a part in degrees"),
    ("plot(date), explore()", "a figure, a map to look through"),
    ("decode('lai' or a sensor)", "measurable quantities"),
    ("similar(position), pca(3)", "resemblance, components"),
    ("cluster(8), change('2018-07', '2019-07')", "classes without labels, change with significance"),
)
"""Methods that the summary names, and what they give."""


def summarise(dataset: "xr.Dataset") -> str:
    """Return what an embedding dataset holds, and how to go on, in at most 20 lines.

    Only metadata are read, never embeddings.
    """
    sizes = dataset.sizes
    lines = [
        str(dataset.attrs.get("title", "Embeddings")),
        f"  model        {dataset.attrs['thalweg:model']}",
        f"  place        {_place(dataset)}",
        f"  dates        {_dates(dataset)}",
        f"  embedding    {sizes.get('embedding', 1)} dimensions, {_bytes(dataset)} as float32",
        f"  with         {_variables(dataset)}",
        "  .thalweg has",
    ]
    width = max(len(call) for call, _ in METHODS)
    return "\n".join([*lines, *(f"    {call:{width}}  {meaning}" for call, meaning in METHODS)])


def _place(dataset: "xr.Dataset") -> str:
    """Return the grid in words."""
    if not {"x", "y"} <= set(dataset.dims):
        return "a part without rows and columns"
    grid = dataset_geobox(dataset)
    rows, columns = grid.shape
    step = float(dataset.attrs["geoemb:gsd"])
    centre = lon_lat(PixelIndex(rows // 2, columns // 2), grid)
    code = f"EPSG:{grid.crs.epsg}" if grid.crs is not None and grid.crs.epsg else "a system without a code"
    left, bottom, right, top = grid.boundingbox
    return (
        f"{rows} x {columns} px of {step:g} m, {rows * step / 1000:.4g} x {columns * step / 1000:.4g} km, {code}\n"
        f"               x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}; "
        f"around longitude {centre.longitude:.4f}, latitude {centre.latitude:.4f}"
    )


def _dates(dataset: "xr.Dataset") -> str:
    """Return the dates in words."""
    times = np.atleast_1d(dataset.time.values)
    if not len(times):
        return "none"
    first, last = (np.datetime_as_string(times[index], "D") for index in (0, -1))
    text = f"{len(times)}, {first} to {last}" if len(times) > 1 else f"1, {first}"
    if OBSERVED in dataset:
        text += f"; {int(np.atleast_1d(dataset[OBSERVED].values).sum())} observed"
    return text


def _bytes(dataset: "xr.Dataset") -> str:
    """Return the size of the decoded embeddings in words."""
    return f"{4 * dataset.embeddings.size / 1e6:,.3g} MB"


def _variables(dataset: "xr.Dataset") -> str:
    """Return the names of the other variables."""
    return ", ".join(str(name) for name in dataset.data_vars if name not in ("embeddings", OBSERVED)) or "nothing else"
