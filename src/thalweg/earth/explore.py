"""Widget for notebooks: the dates of an embedding dataset as maps, and the series of the pixel that is clicked."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.plots import clearest_date
from thalweg.earth.store.overviews.map_view import whole_map
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import anywidget
    import xarray as xr

MAX_SIDE = 1024
"""Largest height or width of a map in pixels; of a larger grid, evenly spaced pixels are shown."""

MAX_LINES = 7
"""Largest number of dimensions in the series of a pixel."""


def explorer(dataset: "xr.Dataset") -> "anywidget.AnyWidget":
    """Return a widget that shows the RGB preview or the principal components of a date, and the series of a pixel.

    It needs no network. Its traits: `index`, the date; `kind`, `preview` or `components`; `pixel`, the row and column
    that were clicked, empty before; `image`, the map as PNG; `series`, the embedding of the pixel by date.

    Args:
        dataset: an embedding dataset.

    Raises:
        UsageError: The package anywidget is not installed.
    """
    try:
        import anywidget
        import traitlets
    except ModuleNotFoundError as error:
        raise UsageError(
            f"explore needs {error.name}, which is not installed: pip install 'thalweg[explore]', or use plot()"
        ) from error
    largest = max(dataset.sizes["y"], dataset.sizes["x"])
    components = PrincipalComponents.of(dataset)

    class Explorer(anywidget.AnyWidget):
        """Widget whose state the browser and the notebook share."""

        _esm = Path(__file__).with_name("explore.js")
        title = traitlets.Unicode().tag(sync=True)
        days: Any = traitlets.List().tag(sync=True)
        step = traitlets.Int().tag(sync=True)
        index = traitlets.Int().tag(sync=True)
        kind = traitlets.Enum(["preview", "components"], "preview").tag(sync=True)
        image = traitlets.Bytes().tag(sync=True)
        pixel: Any = traitlets.List().tag(sync=True)
        series = traitlets.Dict().tag(sync=True)

        @traitlets.validate("index")
        def _within(self, proposal: dict[str, Any]) -> int:
            return int(np.clip(proposal["value"], 0, dataset.sizes["time"] - 1))

        @traitlets.observe("index", "kind")
        def _draw(self, _: object = None) -> None:
            shown = whole_map(dataset, self.index, MAX_SIDE)
            self.step = -(-largest // max(shown.sizes["y"], shown.sizes["x"]))
            self.image = map_png(shown, components if self.kind == "components" else None)

        @traitlets.observe("pixel")
        def _read(self, _: object = None) -> None:
            self.series = pixel_values(dataset, *self.pixel) if len(self.pixel) == 2 else {}

    days = [str(day) for day in dataset.time.values.astype("datetime64[D]")]
    widget = Explorer(title=str(dataset.attrs.get("title", "")), days=days, index=clearest_date(dataset))
    widget._draw()
    return widget


def map_png(date: "xr.Dataset", components: PrincipalComponents | None) -> bytes:
    """Return the map of one date as PNG.

    Args:
        date: one date of an embedding dataset.
        components: components to show; the RGB preview if None.
    """
    from matplotlib.image import imsave

    rgb = (
        np.moveaxis(date.picture.values, 0, -1)
        if components is None
        else np.round(255 * components.to_rgb(date.embeddings.values)).astype(np.uint8)
    )
    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(rgb), format="png")
    return file.getvalue()


def pixel_values(dataset: "xr.Dataset", row: int, column: int) -> dict[str, Any]:
    """Return the embedding of a pixel on the dates that have one: `indices` of the dates, and `lines` per dimension.

    A pixel outside the grid has none.
    """
    if not (0 <= row < dataset.sizes["y"] and 0 <= column < dataset.sizes["x"]):
        return {"indices": [], "lines": []}
    vectors = dataset.embeddings.isel(y=row, x=column, embedding=slice(0, MAX_LINES)).values
    known = np.flatnonzero(np.isfinite(vectors).all(1))
    return {"indices": known.tolist(), "lines": np.round(vectors[known].astype(float), 4).T.tolist()}
