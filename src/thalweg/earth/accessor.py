"""Accessor `.thalweg` of embedding datasets: positions, similarity, principal components and decoding."""

from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401  (gives datasets their .rio)
import torch
import xarray as xr

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import Position, dataset_geobox, locate
from thalweg.earth.store.portable import portable
from thalweg.earth.store.schema import spatial_attributes
from thalweg.errors import UsageError


class Embeddings:
    """Places, similarity, components and decoding of an embedding dataset, or of a part of one.

    `import thalweg` registers it as `.thalweg` of every dataset (`thalweg._accessor`).
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if "embeddings" not in dataset or "thalweg:model" not in dataset.attrs:
            raise UsageError("not a dataset of embeddings: open one with thalweg.open(path)")
        self._dataset = portable(dataset)

    def at(self, position: Position) -> xr.Dataset:
        """Return the pixel that holds a position: dims (time, embedding).

        Raises:
            UsageError: The position lies outside the grid.
        """
        self._need("y", "x")
        pixel = locate(position, dataset_geobox(self._dataset))
        return self._dataset.isel(y=pixel.row, x=pixel.column)

    def window(self, west: float, south: float, east: float, north: float) -> xr.Dataset:
        """The pixels whose centres lie in a box on the map's grid around the four corners, given in degrees.

        Raises:
            UsageError: the box holds no pixel, or its sides are swapped.
        """
        self._need("y", "x")
        if west >= east or south >= north:
            raise UsageError(
                f"window {west:g} {south:g} {east:g} {north:g}: expected west below east and south below north"
            )
        x, y = self._project([west, west, east, east], [south, north, south, north])
        columns = np.flatnonzero((self._dataset.x.values >= x.min()) & (self._dataset.x.values <= x.max()))
        rows = np.flatnonzero((self._dataset.y.values >= y.min()) & (self._dataset.y.values <= y.max()))
        if not len(rows) or not len(columns):
            raise UsageError(f"window {west:g} {south:g} {east:g} {north:g}: no pixel of this store lies in it")
        part = self._dataset.isel(
            y=slice(int(rows[0]), int(rows[-1]) + 1), x=slice(int(columns[0]), int(columns[-1]) + 1)
        )
        return part.assign_attrs(spatial_attributes(part.x.values, part.y.values, part.attrs["geoemb:gsd"]))

    def similar(self, position: Position) -> xr.DataArray:
        """Return the similarity of every pixel's embedding series to that of one pixel: dims (y, x), 0 to 1.

        Args:
            position: position of the pixel.

        Raises:
            UsageError: The position lies outside the grid, or its pixel has no embedding on any date.
        """
        self._need("time", "y", "x")
        pixel = locate(position, dataset_geobox(self._dataset))
        attributes = {"row": pixel.row, "column": pixel.column, "units": "1"}
        return self._image(similarity(self._dataset, pixel), "similarity", attributes)

    def pca(self, count: int = 3) -> xr.DataArray:
        """The first principal components, dims (time, component, y, x), float32; axes alike for all dates."""
        self._need("time", "y", "x")
        found = PrincipalComponents.of(self._dataset, count)
        dates = (self._dataset.embeddings.isel(time=index).values for index in range(self._dataset.sizes["time"]))
        return xr.DataArray(
            np.stack([found.transform(vectors).astype(np.float32) for vectors in dates]),
            dims=("time", "component", "y", "x"),
            coords={**self._coordinates("time", "y", "x"), "component": np.arange(1, count + 1)},
            name="principal_components",
            attrs={"explained_variance": [float(value) for value in found.share]},
        )

    def decode(self, sensor: str, days: float = 0.0, model: str | Path | EarthModel | None = None) -> xr.DataArray:
        """Rebuild what a sensor would see.

        Args:
            sensor: a sensor of the model that made the embeddings.
            days: days from each date at which the sensor looks; the nearest known offset beyond 120.
            model: that model, or its folder; the shipped weights by default.

        Returns:
            Dims (time, band, y, x), float32 in the sensor's units, NaN where there is no embedding.

        Raises:
            UsageError: another model made the embeddings, or it does not know the sensor.
        """
        self._need("time", "y", "x")
        loaded = model if isinstance(model, EarthModel) else EarthModel.load(model)
        loaded.check_made(self._dataset)
        declared = loaded.autoencoder(sensor).sensor
        bands = [self._decoded(loaded, sensor, index, days) for index in range(self._dataset.sizes["time"])]
        return xr.DataArray(
            np.stack(bands),
            dims=("time", "band", "y", "x"),
            coords={**self._coordinates("time", "y", "x"), "band": list(declared.band_names)},
            name=sensor,
            attrs={"units": declared.units, "days_from_date": days},
        )

    def _need(self, *dimensions: str) -> None:
        """Raise a `UsageError` where a selection has taken a dimension away."""
        gone = [name for name in dimensions if name not in self._dataset.dims]
        if gone:
            raise UsageError(
                f"this part of the embeddings has no dimension {', '.join(gone)}: select with a list or a slice, as in "
                f"dataset.isel({gone[0]}=[0])"
            )

    @torch.inference_mode()
    def _decoded(self, model: EarthModel, sensor: str, index: int, days: float) -> np.ndarray:
        """Return the bands of one date (C, h, w) in the sensor's units, float32."""
        vectors = np.array(self._dataset.embeddings.isel(time=index).values)
        bands: np.ndarray = model.decode(torch.from_numpy(vectors)[None], sensor, float(days))[0].numpy()
        return bands

    def _image(self, values: np.ndarray, name: str, attributes: dict[str, object]) -> xr.DataArray:
        return xr.DataArray(
            values.astype(np.float32), dims=("y", "x"), coords=self._coordinates("y", "x"), name=name, attrs=attributes
        )

    def _coordinates(self, *names: str) -> dict[str, xr.DataArray]:
        return {name: self._dataset[name] for name in (*names, "spatial_ref")}

    def _project(self, lon: list[float], lat: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """Degrees to the store's map coordinates."""
        from pyproj import Transformer

        to_map = Transformer.from_crs("EPSG:4326", self._dataset.attrs["proj:wkt2"], always_xy=True)
        x, y = to_map.transform(lon, lat)
        return np.asarray(x), np.asarray(y)
