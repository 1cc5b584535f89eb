"""Accessor `.thalweg` of embedding datasets: positions, similarity, components, decoding, clusters and change."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.analysis.similarity import similarity
from thalweg.earth.foreign.feature_vectors import FEATURE, feature_at, feature_components, feature_similarity
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import TRAITS
from thalweg.earth.positions import Position, dataset_geobox, locate
from thalweg.earth.store.portable import portable
from thalweg.earth.store.schema import PREVIEW, spatial_attributes
from thalweg.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    from anywidget import AnyWidget
    from matplotlib.figure import Figure

    from thalweg.earth.mapping.mapping_config import MappingConfig


class Embeddings:
    """Positions, similarity, components, decoding, clusters and change of an embedding dataset, or of a part of one.

    `import thalweg` registers the class as the accessor `.thalweg` of every dataset (`thalweg._accessor`).

    Args:
        dataset: embedding dataset, as `thalweg.open` or `thalweg.embed` return it, or a part of one.

    Raises:
        UsageError: The dataset holds no embeddings.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if "embeddings" not in dataset or "thalweg:model" not in dataset.attrs:
            raise UsageError("not a dataset of embeddings: open one with thalweg.open(path)")
        self._dataset = portable(dataset)

    def at(self, position: Position) -> xr.Dataset:
        """Return the pixel that contains a position.

        Args:
            position: `PixelIndex`, `MapPoint` or `LonLat`.

        Returns:
            Dataset with dimensions (time, embedding); of scattered vectors, the feature at the position or the nearest.

        Raises:
            UsageError: The position lies outside the grid, or the dataset has no dimension y or x.
        """
        if FEATURE in self._dataset.dims:
            return self._dataset.isel({FEATURE: feature_at(self._dataset, position)})
        self._require("y", "x")
        pixel = locate(position, dataset_geobox(self._dataset))
        return self._dataset.isel(y=pixel.row, x=pixel.column)

    def window(self, west: float, south: float, east: float, north: float) -> xr.Dataset:
        """Return the pixels of a window given in degrees (WGS 84).

        The window is the smallest rectangle of the pixel grid's reference system around the four corners; its pixels
        are those with their centre inside.

        Args:
            west: longitude of the western side.
            south: latitude of the southern side.
            east: longitude of the eastern side.
            north: latitude of the northern side.

        Returns:
            Dataset with dimensions (time, embedding, y, x).

        Raises:
            UsageError: The window contains no pixel, or its sides are swapped.
        """
        self._require("y", "x")
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
        """Return the similarity of every pixel's embedding series to that of one pixel.

        Args:
            position: `PixelIndex`, `MapPoint` or `LonLat` of the pixel.

        Returns:
            Float32 with dimensions (y, x), or (feature) of scattered vectors, from 0 to 1 (equal), NaN where the two
            have no date in common.

        Raises:
            UsageError: The position lies outside the grid, or its pixel has no embedding on any date.
        """
        if FEATURE in self._dataset.dims:
            index = feature_at(self._dataset, position)
            similar = feature_similarity(self._dataset, index).astype(np.float32)
            return self._dataset.x.copy(data=similar).rename("similarity").assign_attrs(feature=index, units="1")
        self._require("time", "y", "x")
        pixel = locate(position, dataset_geobox(self._dataset))
        attributes = {"row": pixel.row, "column": pixel.column, "units": "1"}
        return self._image(similarity(self._dataset, pixel), "similarity", attributes)

    def pca(self, count: int = 3) -> xr.DataArray:
        """Return the first principal components of the embeddings, with the same axes for all dates.

        Args:
            count: number of components.

        Returns:
            Float32 with dimensions (time, component, y, x), or (time, component, feature) of scattered vectors, NaN
            where there is no embedding; the attribute `explained_variance` holds the fraction of each component.

        Raises:
            UsageError: `count` is not from 1 to the number of dimensions, or the dataset has too few embeddings.
        """
        if FEATURE in self._dataset.dims:
            components, values = feature_components(self._dataset, count)
            places: tuple[str, ...] = (FEATURE,)
            coordinates = {name: self._dataset[name] for name in ("time", "x", "y", "geometry")}
        else:
            self._require("time", "y", "x")
            components = PrincipalComponents.of(self._dataset, count)
            dates = (self._dataset.embeddings.isel(time=index).values for index in range(self._dataset.sizes["time"]))
            values = np.stack([components.transform(vectors).astype(np.float32) for vectors in dates])
            places = ("y", "x")
            coordinates = self._coordinates("time", "y", "x")
        return xr.DataArray(
            values,
            dims=("time", "component", *places),
            coords={**coordinates, "component": np.arange(1, count + 1)},
            name="principal_components",
            attrs={"explained_variance": [float(value) for value in components.share]},
        )

    def decode(
        self, quantity: str, days: float | None = None, model: str | Path | EarthModel | None = None
    ) -> xr.DataArray:
        """Decode the embeddings to the bands of a sensor, or to a trait of the vegetation or the soil.

        Args:
            quantity: name of a sensor of the model, or of a trait: lai, fapar, chlorophyll, soil_moisture. Traits were
                learned on simulated landscapes (docs/model-card.md).
            days: days from each date to the decoded date; beyond 120, the nearest offset that the model knows. Sensors
                only.
            model: model of the embeddings, or its folder; the shipped weights by default.

        Returns:
            Float32 with dimensions (time, band, y, x), NaN where there is no embedding: the bands of a sensor in its
            units; or the trait and `<trait>_uncertainty`, the half-width of its 68 % interval, in the trait's units.

        Raises:
            MissingPathError: There is no folder `model`.
            UsageError: The embeddings are those of another model, the model knows neither such a sensor nor such a
                trait, or `days` is given for a trait.
        """
        self._require("time", "y", "x")
        loaded = model if isinstance(model, EarthModel) else EarthModel.load(model)
        loaded.check_made(self._dataset)
        if quantity not in TRAITS and quantity not in loaded.sensors:
            raise unknown_name("quantity", quantity, [*loaded.sensors, *TRAITS])
        if quantity in TRAITS and days is not None:
            raise UsageError(f"{quantity} {days:g} days from each date: a trait is known on the dates only: leave days")

        def decoded(vectors: torch.Tensor) -> torch.Tensor:
            if quantity in TRAITS:
                return torch.stack(loaded.decode_trait(vectors, quantity), 1)
            return loaded.decode(vectors, quantity, float(days or 0.0))

        if quantity in TRAITS:
            names, units = [quantity, f"{quantity}_uncertainty"], TRAITS[quantity].units
            attributes: dict[str, object] = {"units": units, "long_name": TRAITS[quantity].title}
        else:
            declared = loaded.autoencoder(quantity).sensor
            names = list(declared.band_names)
            attributes = {"units": declared.units, "days_from_date": float(days or 0.0)}
        with torch.inference_mode():
            dates = [
                decoded(torch.from_numpy(np.array(self._dataset.embeddings.isel(time=index).values))[None])[0].numpy()
                for index in range(self._dataset.sizes["time"])
            ]
        return xr.DataArray(
            np.stack(dates),
            dims=("time", "band", "y", "x"),
            coords={**self._coordinates("time", "y", "x"), "band": names},
            name=quantity,
            attrs=attributes,
        )

    def cluster(
        self, count: int = 8, period: str | None = None, model: str | Path | EarthModel | None = None
    ) -> xr.Dataset:
        """Return clusters of the pixels, without labels: `thalweg.earth.analysis.clusters.cluster`.

        Args:
            count: number of clusters, 2 to 50.
            period: a date, a month or a range, such as `2018-06/2018-08`; the mean over all dates by default.
            model: model of the embeddings, or its folder; the shipped weights by default.

        Returns:
            `cluster` (y, x), numbered from 1, the largest first, 0 where there is no embedding; `pixels` (number);
            `spectrum` (number, band), decoded; the attribute `stability`.

        Raises:
            MissingPathError: There is no folder `model`.
            UsageError: `count` is out of range, the period has no date, too few pixels have an embedding, or another
                model made the embeddings.
        """
        from thalweg.earth.analysis.clusters import cluster

        self._require("time", "y", "x")
        return cluster(self._dataset, count, period, model).to_dataset(self._dataset)

    def change(
        self, before: str, after: str, model: str | Path | EarthModel | None = None, level: float = 0.05
    ) -> xr.Dataset:
        """Return the change between two periods with its significance: `thalweg.earth.analysis.change.change`.

        Args:
            before: the earlier period: a date, a month or a range, such as `2018-07`.
            after: the later period.
            model: model of the embeddings, or its folder; the shipped weights by default.
            level: false discovery rate.

        Returns:
            `magnitude`, `p_value`, `q_value`, `significant` and the decoded changes, (y, x).

        Raises:
            MissingPathError: There is no folder `model`.
            UsageError: A period has another form or no usable date, the periods overlap or are in the wrong order, no
                pixel has an embedding in both, or another model made the embeddings.
        """
        from thalweg.earth.analysis.change import change

        self._require("time", "y", "x")
        return change(self._dataset, before, after, model, level)

    def plot(self, date: int | str | None = None) -> "Figure":
        """Return a figure of a date: its RGB preview next to the principal components of its embeddings.

        Args:
            date: an index, from 0, or an ISO date at most three days from an embedding; the clearest by default.

        Raises:
            UsageError: There is no embedding near the date.
        """
        from thalweg.earth.plots import embedding_figure

        self._require("time", "y", "x")
        return embedding_figure(self._dataset, date)

    def explore(self) -> "AnyWidget":
        """Return a widget for notebooks: the dates of the store as maps, and the series of the pixel that is clicked.

        Raises:
            UsageError: The extra `explore` is not installed.
        """
        from thalweg.earth.explore import explorer

        self._require("time", "y", "x")
        self._require_variables("quality", PREVIEW)
        return explorer(self._dataset)

    def __repr__(self) -> str:
        from thalweg.earth.summary import summarise

        return summarise(self._dataset)

    def calendar(self, calendar: str | None = None) -> xr.Dataset:
        """Return the embeddings on the days of a calendar, interpolated per pixel with their own uncertainty.

        Args:
            calendar: a period such as P15D from the first to the last date, or start/end/period; P15D by default.

        Returns:
            Dataset with `embeddings` and `uncertainty` (time, embedding, y, x), in memory; NaN at pixels without any
            embedding.

        Raises:
            UsageError: The calendar is malformed, or a day lies outside the dates of the dataset.
        """
        from thalweg.earth.mapping.features.calendar_dataset import on_calendar

        self._require("time", "y", "x")
        self._require_variables("uncertainty")
        return on_calendar(self._dataset, calendar)

    def sample(
        self,
        geometries: "geopandas.GeoDataFrame",
        what: Sequence[str] = ("embedding",),
        model: str | Path | EarthModel | None = None,
    ) -> "pd.DataFrame":
        """Sample series at points, and means and spreads in polygons.

        Args:
            geometries: points and polygons in any reference system.
            what: `embedding`, traits (`lai`, ...), spectral indices (`ndvi`, ...) and bands.
            model: model of the embeddings, or its folder; the shipped weights by default. Only decoded quantities
                need it.

        Returns:
            One row per feature and date (`thalweg.earth.mapping.labels.sample`).

        Raises:
            MissingPathError: There is no folder `model`.
            UsageError: There is no such quantity, the embeddings are those of another model, or no geometry lies on
                the grid.
        """
        from thalweg.earth.mapping.labels.series_sample import sample

        self._require("time", "y", "x")
        self._require_variables("uncertainty")
        return sample(self._dataset, geometries, what, model)

    def classify(
        self,
        labels: "geopandas.GeoDataFrame",
        column: str,
        out: str | Path | None = None,
        config: "MappingConfig | None" = None,
    ) -> xr.Dataset:
        """Map classes from labels, in memory or into a folder.

        Args:
            labels: points and polygons in any reference system; polygons by pixel centres, without mixed edge pixels.
            column: column of the classes.
            out: folder to write, with the model, the rasters and the report; nothing is written by default.
            config: features, learner, blocks and memory; a calendar of 15 days and the best learner by default.

        Returns:
            Dataset with `code` (y, x), uint8, 0 without an embedding; `probability` and `plausible` (class, y, x); and
            `dissimilarity` (y, x). Attributes: `learner`, `macro_f1` on blocks that it did not see, `block` (side in
            pixels), `set_coverage`. Of scattered vectors, `code` and `probability` per feature (`classify_features`).

        Raises:
            UsageError: The labels, a setting or `out` is not usable; the message says which and what to do.
            ThalwegError: The folder cannot be written.
        """
        if FEATURE in self._dataset.dims:
            from thalweg.earth.foreign.feature_classes import classify_features

            if out is not None:
                raise UsageError("`out`: scattered vectors have no map to write: leave it out, and write the result")
            return classify_features(self._dataset, labels, column, config)
        return self._mapped(labels, column, out, config, True)

    def regress(
        self,
        labels: "geopandas.GeoDataFrame",
        column: str,
        out: str | Path | None = None,
        config: "MappingConfig | None" = None,
    ) -> xr.Dataset:
        """Map a number from labels, in memory or into a folder.

        Args:
            labels: points and polygons in any reference system.
            column: column of the numbers.
            out: folder to write, with the model, the rasters and the report; nothing is written by default.
            config: as for `classify`.

        Returns:
            Dataset with `value` and `dissimilarity` (y, x), float32, NaN without an embedding. Attributes: `learner`,
            `r2` on blocks that it did not see, `block` (side in pixels), `half_width` of the 90 % interval.

        Raises:
            UsageError: The labels, a setting or `out` is not usable; the message says which and what to do.
            ThalwegError: The folder cannot be written.
        """
        return self._mapped(labels, column, out, config, False)

    def _mapped(
        self,
        labels: "geopandas.GeoDataFrame",
        column: str,
        out: str | Path | None,
        config: "MappingConfig | None",
        is_class: bool,
    ) -> xr.Dataset:
        from thalweg.earth.mapping.map_dataset import mapped_dataset
        from thalweg.earth.mapping.mapping_fit import fit_mapping
        from thalweg.earth.mapping.mapping_run import map_labels

        self._require("time", "y", "x")
        if out is None:
            return mapped_dataset(fit_mapping(self._dataset, labels, column, is_class, config))
        fit = map_labels(self._dataset, labels, column, out, is_class, config).fit
        assert fit is not None
        return mapped_dataset(fit)

    def _require(self, *dimensions: str) -> None:
        """Raise a `UsageError` if a selection has removed a dimension, or there never was a grid."""
        if FEATURE in self._dataset.dims:
            raise UsageError("scattered vectors have no pixel grid: at, similar, pca and classify work on them")
        missing = [name for name in dimensions if name not in self._dataset.dims]
        if missing:
            raise UsageError(
                f"this part of the embeddings has no dimension {', '.join(missing)}: select with a list or a slice, as "
                f"in dataset.isel({missing[0]}=[0])"
            )

    def _require_variables(self, *names: str) -> None:
        """Raise a `UsageError` if the embeddings lack a variable, as those of other projects do."""
        missing = [name for name in names if name not in self._dataset]
        if missing:
            raise UsageError(
                f"embeddings of {self._dataset.attrs['thalweg:model']} without {', '.join(missing)}: expected those of "
                "a store of `thalweg earth embed`"
            )

    def _image(self, values: np.ndarray, name: str, attributes: dict[str, object]) -> xr.DataArray:
        return xr.DataArray(
            values.astype(np.float32), dims=("y", "x"), coords=self._coordinates("y", "x"), name=name, attrs=attributes
        )

    def _coordinates(self, *names: str) -> dict[str, xr.DataArray]:
        return {name: self._dataset[name] for name in (*names, "spatial_ref")}

    def _project(self, lon: list[float], lat: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """Project degrees (WGS 84) to the reference system of the dataset."""
        from pyproj import Transformer

        to_map = Transformer.from_crs("EPSG:4326", self._dataset.attrs["proj:wkt2"], always_xy=True)
        x, y = to_map.transform(lon, lat)
        return np.asarray(x), np.asarray(y)
