"""Daily features of a tower: its footprint's embedding filled to days, potential radiation, meteorology and GPP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import read_grid
from thalweg.earth.model.fusion import FULL_SIZE, SMALL_SIZE
from thalweg.earth.positions import lon_lat
from thalweg.earth.sensors import Declaration
from thalweg.earth.store.portable import model_of
from thalweg.errors import MissingPathError, UsageError
from thalweg.gpp.data.gap_filling import GapFilling, fill_to_days
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.footprint.footprint import DEFAULT_RADIUS, Footprint, FootprintSeries, Tower
from thalweg.gpp.footprint.footprint_days import features_of_footprints
from thalweg.gpp.footprint.footprint_series import (
    FootprintPixels,
    embedding_names,
    pixels_of_cube,
    pixels_of_embeddings,
)
from thalweg.gpp.footprint.kljun_footprints import KljunFootprints
from thalweg.gpp.tables.daily_table import daily_table, feature_columns, read_daily_table
from thalweg.gpp.tables.physical_limits import GPP_UNITS, POTENTIAL_RADIATION
from thalweg.gpp.tables.table_files import open_table
from thalweg.gpp.tables.target_columns import GPP, TARGET_UNCERTAINTY, TARGETS, target_of
from thalweg.io.atomic import atomic_write, refuse_existing
from thalweg.io.json_files import read_json

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from thalweg.earth.model.earth_model import EarthModel


class FeatureRecipe(Declaration):
    """Recipe of a table's features; a model that learned from them needs features of the same recipe."""

    embedding_model: str = Field(description="identifier of the model that embedded the cube")
    size: int = Field(description="dimensions of the embedding, 7 or 32")
    gap_filling: GapFilling = Field(description="linear or kalman")
    units: dict[str, str] = Field(default={}, description="units by column")
    target: Literal["gpp", "gpp-dt", "gpp-mean", "nee", "reco", "et"] = Field(
        default="gpp", description="target of the table, or of the model that learned from it"
    )
    footprint: Literal["disc", "kljun", "mixed"] = Field(
        default="disc", description="footprint of the tower: a disc, or Kljun et al. (2015); mixed for several tables"
    )
    footprint_details: str = Field(default="", description="radius and days of the footprint")


def open_source(source: str | Path, assume_clear: bool = False) -> "Cube | xr.Dataset":
    """Open an embedding store, or else a satellite cube.

    Args:
        source: Path of the store or cube.
        assume_clear: Take a cube without a cloud mask as clear everywhere.

    Raises:
        MissingPathError: The path does not exist.
        UsageError: The path is neither a store nor a cube.
    """
    from thalweg.earth.store.reader import holds_embeddings, open_store

    path = Path(source)
    if holds_embeddings(path):
        return open_store(path)
    return Cube.open(path, assume_clear=assume_clear)


def daily_features(series: FootprintSeries, gap_filling: GapFilling, label: str = "series") -> pd.DataFrame:
    """Fill a footprint's series to days.

    Args:
        series: Series of a footprint on its dates.
        gap_filling: Method of gap filling, "linear" or "kalman".
        label: Name of the series in messages.

    Returns:
        Columns `time`, one per feature, `NAME_spread` (standard deviation between the pixels) and, from the Kalman
        smoother, `NAME_variance`.

    Raises:
        UsageError: There are fewer than `MIN_DATES` dates, or the method is unknown.
    """
    filled = fill_to_days(series.dates, series.mean, gap_filling, label=label)
    spread = fill_to_days(series.dates, series.spread, "linear", filled.time, label).values
    columns = dict(zip(series.names, filled.values.T, strict=True))
    columns |= {f"{name}_spread": values for name, values in zip(series.names, spread.T, strict=True)}
    if filled.variance is not None:
        columns |= {f"{name}_variance": values for name, values in zip(series.names, filled.variance.T, strict=True)}
    return pd.DataFrame({"time": filled.time, **columns})


def tower_table(
    source: "Cube | xr.Dataset",
    tower: Tower,
    site: str,
    model: "EarthModel | None" = None,
    size: int = SMALL_SIZE,
    gap_filling: GapFilling = "linear",
    label: str = "cube",
) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Make the daily table of a tower from its footprint's embedding and potential radiation, without GPP.

    Args:
        source: Satellite cube, of which only the tower's surroundings are embedded, or embedding dataset.
        tower: Position and footprint.
        site: Name of the site in the table.
        model: Model that embeds a satellite cube; the shipped weights by default.
        size: Dimensions of the embedding, 7 or 32; the first ones of an embedding dataset are used.
        gap_filling: Method of gap filling, "linear" or "kalman".
        label: Name of the source in messages.

    Returns:
        Daily table (see `daily_table`) with the columns e1, e2, ..., their spreads, their variances from the Kalman
        smoother, and potential radiation; and its recipe.

    Raises:
        UsageError: The source does not cover the footprint, or has too few dates of it.
    """
    reader = _PixelReader.of(source, model, size, label)
    kind: Literal["disc", "kljun"]
    if tower.flow is None:
        radius = DEFAULT_RADIUS if tower.radius is None else tower.radius
        kind, details = "disc", f"disc of {radius:g} m"
        frame = daily_features(reader.pixels(Footprint.on(reader.grid, tower, label)).average(), gap_filling, label)
    else:
        if gap_filling != "linear":
            raise UsageError(f"gap filling {gap_filling}: expected linear with a footprint that varies by day")
        footprints = KljunFootprints.on(reader.grid, tower, label, reader.span)
        frame = features_of_footprints(reader.pixels(footprints.footprint), footprints, label)
        kind, details = "kljun", footprints.describe(frame["time"].to_numpy())
    latitude = lon_lat(tower.position, reader.grid).latitude
    frame[POTENTIAL_RADIATION] = potential_radiation(latitude, frame["time"].to_numpy())
    frame = frame.assign(site=site, latitude=latitude, gpp=np.nan)
    units = dict.fromkeys(feature_columns(frame), "1")
    units |= {POTENTIAL_RADIATION: "W m-2", "latitude": "degrees", "gpp": GPP_UNITS}
    table = daily_table(frame[["site", "time", "gpp", "latitude", *feature_columns(frame)]], units, label)
    recipe = FeatureRecipe(
        embedding_model=reader.identifier,
        size=size,
        gap_filling=gap_filling,
        units=units,
        footprint=kind,
        footprint_details=details,
    )
    return table, recipe


@dataclass(frozen=True)
class _PixelReader:
    """Embeddings around a tower: their grid, model, first and last date, and the pixels of a footprint."""

    grid: "GeoBox"
    identifier: str
    span: tuple[np.datetime64, np.datetime64]
    pixels: Callable[[Footprint], FootprintPixels]

    @classmethod
    def of(cls, source: "Cube | xr.Dataset", model: "EarthModel | None", size: int, label: str) -> "_PixelReader":
        if isinstance(source, Cube):
            from thalweg.earth.model.earth_model import EarthModel

            model = model or EarthModel.load()
            dates = source.reference.dates
            pixels = partial(pixels_of_cube, source, model=model, size=size)
            return cls(source.grid, model.identifier, (dates[0], dates[-1]), pixels)
        grid, identifier = read_grid(source, label)[0], model_of(source)
        source = _first_dimensions(source, size, label)
        dates = source.time.values
        return cls(grid, identifier, (dates[0], dates[-1]), partial(pixels_of_embeddings, source))


def _first_dimensions(dataset: "xr.Dataset", size: int, label: str) -> "xr.Dataset":
    held = dataset.sizes["embedding"]
    if size not in (SMALL_SIZE, FULL_SIZE) or size > held:
        raise UsageError(
            f"{label}: size {size}: it has {held} dimensions, expected {SMALL_SIZE} or {FULL_SIZE} of them"
        )
    return dataset.isel(embedding=slice(0, size))


def reconstructed_bands(embeddings: NDArray, model: "EarthModel") -> dict[str, NDArray[np.float32]]:
    """Decode embeddings to the bands of all sensors on the day, in the sensors' units.

    Args:
        embeddings: (N, K) embeddings, K 7 or 32.
        model: Model that made the embeddings.

    Returns:
        (N,) float32 per sensor and band, such as `sentinel-1 VV`: reflectance as a fraction, backscatter in dB.
    """
    import torch

    pixels = torch.from_numpy(embeddings.astype(np.float32))[:, :, None, None]
    found: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for name in model.sensors:
            bands = (f"{name} {band}" for band in model.autoencoder(name).sensor.band_names)
            found |= dict(zip(bands, model.decode(pixels, name)[..., 0, 0].numpy().T, strict=True))
    return found


def join_flux(
    table: pd.DataFrame, recipe: FeatureRecipe, measured: pd.DataFrame, site: str | None, label: str
) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Join a tower's target (GPP by default), its uncertainty, vegetation and meteorology to its features by day.

    Args:
        table: Daily table of one site.
        recipe: Recipe of its features.
        measured: Daily table of flux measurements.
        site: Site of the measurements; needed where there are several.
        label: Name of the measurements in messages.

    Returns:
        The table with NaN on days without measurements, and the recipe with the units of the joined columns.

    Raises:
        UsageError: The site is missing, several sites are possible, or no day is in common.
    """
    sites = sorted(measured["site"].unique())
    chosen = sites[0] if site is None and len(sites) == 1 else site
    if chosen not in sites:
        reason = "it has several sites" if site is None else f"no site {site!r}"
        raise UsageError(f"{label}: {reason}: name one of {', '.join(sites)} with `site`")
    own = measured[measured["site"] == chosen].set_index("time")
    if not table["time"].isin(own.index).any():
        raise UsageError(
            f"{label}: no overlap in time: measured {_span(own.index)}, the cube has {_span(table['time'])}"
        )
    target = target_of(measured)
    added = [target.column, *(name for name in (TARGET_UNCERTAINTY, "vegetation") if name in own)]
    added += [name for name in feature_columns(measured) if name not in table]
    by_day = own.reindex(table["time"])
    features = table if target.is_gpp else table.drop(columns=GPP.column)
    joined = features.assign(site=chosen, **{name: by_day[name].to_numpy() for name in added if name != "vegetation"})
    if "vegetation" in added:
        joined["vegetation"] = own["vegetation"].iloc[0]
    units = recipe.units | {k: v for k, v in measured.attrs.get("units", {}).items() if k in added}
    units = {name: unit for name, unit in units.items() if name in joined}
    joined.attrs = {"target": target.name, "notes": table.attrs.get("notes", [])}
    return daily_table(joined, units, label), recipe.model_copy(update={"units": units, "target": target.name})


def _span(days: "pd.Series | pd.Index") -> str:
    return f"{days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"


def model_columns(recipe: FeatureRecipe) -> list[str]:
    """Return the columns a model predicts from by default; a map has all of them."""
    return [*embedding_names(recipe.size), POTENTIAL_RADIATION]


def write_table(table: pd.DataFrame, recipe: FeatureRecipe, path: Path) -> None:
    """Write a daily table as CSV and its recipe as JSON next to it (`PATH.json`).

    Args:
        table: Daily table.
        recipe: Recipe of its features.
        path: CSV file; neither it nor its JSON file may exist.

    Raises:
        UsageError: One of the files exists.
    """
    recipe_path = _recipe_path(path)
    for written in (path, recipe_path):
        refuse_existing(written)
    atomic_write(path, table.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.7g").encode())
    atomic_write(recipe_path, (recipe.model_dump_json(indent=2) + "\n").encode())


def read_table(path: Path) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Read a table and its recipe that `write_table` wrote.

    Raises:
        MissingPathError: The table or its recipe does not exist.
        UsageError: The files are not such a table.
    """
    recipe_path = _recipe_path(path)
    if not path.is_file() or not recipe_path.is_file():
        refused = UsageError if path.exists() and recipe_path.exists() else MissingPathError
        raise refused(f"{path}: expected a table of `thalweg gpp prepare` and its {recipe_path.name}")
    recipe = _read_recipe(recipe_path)
    table = read_daily_table(open_table(path), units=recipe.units, target=TARGETS[recipe.target])
    if missing := [name for name in model_columns(recipe) if name not in table]:
        raise UsageError(f"{path}: no column {missing[0]!r}, which {recipe_path.name} needs: prepare it again")
    return table, recipe


def recipe_lines(path: Path) -> list[str]:
    """State how the features of a table were made, if it has a recipe next to it.

    Args:
        path: Table, or any other file or folder, which has none.
    """
    if not path.is_file() or not _recipe_path(path).is_file():
        return []
    try:
        recipe = _read_recipe(_recipe_path(path))
    except UsageError:  # a file of the same name that is no recipe
        return []
    return [
        f"features: {recipe.size} dimensions of {recipe.embedding_model}, gaps filled by {recipe.gap_filling}; "
        f"footprint: {recipe.footprint_details or recipe.footprint}"
    ]


def _read_recipe(path: Path) -> FeatureRecipe:
    """Read a recipe.

    Raises:
        UsageError: It is damaged.
    """
    written = read_json(path)
    try:
        return FeatureRecipe.model_validate(written)
    except ValidationError as error:
        raise UsageError(f"{path}: damaged ({str(error).splitlines()[0]}): prepare it again") from error


def read_tables(paths: Sequence[Path]) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Read the tables of several sites with the same recipe as one table.

    Raises:
        MissingPathError: A table or its recipe does not exist.
        UsageError: A file is not such a table, has another recipe than the first or no value of its
            target, or a site is repeated.
    """
    read = [read_table(path) for path in paths]
    first = read[0][1]
    for path, (table, recipe) in zip(paths, read, strict=True):
        for name in ("embedding_model", "size", "gap_filling", "target"):
            own, other = getattr(recipe, name), getattr(first, name)
            if own != other:
                raise UsageError(
                    f"{path}: {name} {own}, expected {other} as in {paths[0]}: prepare all tables with the same options"
                )
        target = target_of(table)
        if not table[target.column].notna().any():
            raise UsageError(f"{path}: no day with {target.label}: prepare it with a flux file")
    units = {name: unit for _, recipe in read for name, unit in recipe.units.items()}
    kinds = {recipe.footprint for _, recipe in read}
    combined: dict[str, object] = {"units": units}
    if len(read) > 1:
        combined |= {"footprint": kinds.pop() if len(kinds) == 1 else "mixed", "footprint_details": ""}
    joined = pd.concat([table for table, _ in read], ignore_index=True)
    joined.attrs = {"target": first.target}
    return daily_table(joined, units, "the tables"), first.model_copy(update=combined)


def _recipe_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
