"""A tower's daily features: what its footprint shows, filled to days, with radiation, meteorology and GPP beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.grid import read_grid
from thalweg.earth.model.fusion import FULL, SMALL
from thalweg.earth.sensors import Declaration
from thalweg.errors import UsageError
from thalweg.gpp.tables.daily_table import daily_table, feature_columns, read_daily_table
from thalweg.gpp.data.footprint import FootprintSeries, Tower, embedding_names, from_cube, from_embeddings
from thalweg.gpp.data.gap_filling import Method, fill_to_days
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.tables.physical_limits import GPP_UNITS, POTENTIAL_RADIATION
from thalweg.gpp.tables.table_files import open_table
from thalweg.io.atomic import atomic_write

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model.earth_model import EarthModel


class FeatureRecipe(Declaration):
    """How the features of a table were made; a model that learned from them asks for the same."""

    embedding_model: str = Field(description="identifier of the model that embedded the cube")
    size: int = Field(description="values of the embedding, 7 or 32")
    gap_filling: Method = Field(description="linear or kalman")
    units: dict[str, str] = Field(default={}, description="units by column")


def open_source(source: str | Path, assume_clear: bool = False) -> "Cube | xr.Dataset":
    """Open an embedding store, or else a satellite cube.

    Args:
        source: its path.
        assume_clear: take a cube without a mask of clouds as clear everywhere.

    Raises:
        UsageError: it is neither.
    """
    from thalweg.earth.store.writer import holds_embeddings, open_embeddings

    path = Path(source)
    if holds_embeddings(path):
        return open_embeddings(path)
    return Cube.open(path, assume_clear=assume_clear)


def daily_features(series: FootprintSeries, method: Method, where: str = "series") -> pd.DataFrame:
    """A footprint's series filled to days.

    Returns:
        Columns `time`, one per feature, `NAME_spread` (standard deviation between the pixels) and, from the Kalman
        smoother, `NAME_variance`.

    Raises:
        UsageError: too few dates.
    """
    filled = fill_to_days(series.dates, series.mean, method, where=where)
    spread = fill_to_days(series.dates, series.spread, "linear", filled.time, where).values
    columns = dict(zip(series.names, filled.values.T, strict=True))
    columns |= {f"{name}_spread": values for name, values in zip(series.names, spread.T, strict=True)}
    if filled.variance is not None:
        columns |= {f"{name}_variance": values for name, values in zip(series.names, filled.variance.T, strict=True)}
    return pd.DataFrame({"time": filled.time, **columns})


def embedding_table(
    source: "Cube | xr.Dataset",
    tower: Tower,
    site: str,
    model: "EarthModel | None" = None,
    size: int = SMALL,
    method: Method = "linear",
    where: str = "cube",
) -> tuple[pd.DataFrame, FeatureRecipe]:
    """The daily table of a tower: embedding values of its footprint and potential radiation; GPP unknown.

    Args:
        source: a satellite cube, of which only the tower's surroundings are embedded, or an embedding cube.
        tower: place and radius.
        site: name of the site in the table.
        model: embeds a satellite cube; the shipped weights by default.
        size: values of the embedding; of an embedding cube the first ones are taken.
        method: gap filling.
        where: what to call the source in a message.

    Returns:
        A daily table (see `tables`) with columns e1, e2, ..., their spreads, variances where the method has them, and
        potential radiation; and how it was made.

    Raises:
        UsageError: the source does not cover the footprint, or shows it on too few dates.
    """
    if isinstance(source, Cube):
        from thalweg.earth.model.earth_model import EarthModel

        model = model or EarthModel.load()
        grid, identifier = source.grid, model.identifier
        series = from_cube(source, tower, model, size)
    else:
        grid, identifier = read_grid(source, where)[0], str(source.attrs["geoemb:model"])
        series = from_embeddings(_first_values(source, size, where), tower, where)
    frame = daily_features(series, method, where)
    latitude = tower.latitude(grid)
    frame[POTENTIAL_RADIATION] = potential_radiation(latitude, frame["time"].to_numpy())
    frame = frame.assign(site=site, latitude=latitude, gpp=np.nan)
    units = dict.fromkeys(feature_columns(frame), "1")
    units |= {POTENTIAL_RADIATION: "W m-2", "latitude": "degrees", "gpp": GPP_UNITS}
    table = daily_table(frame[["site", "time", "gpp", "latitude", *feature_columns(frame)]], units, where)
    return table, FeatureRecipe(embedding_model=identifier, size=size, gap_filling=method, units=units)


def _first_values(dataset: "xr.Dataset", size: int, where: str) -> "xr.Dataset":
    held = dataset.sizes["embedding"]
    if size not in (SMALL, FULL) or size > held:
        raise UsageError(f"{where}: size {size}: it holds {held} values, expected {SMALL} or {FULL} of them")
    return dataset.isel(embedding=slice(0, size))


def decoded(values: NDArray, model: "EarthModel") -> dict[str, NDArray[np.float32]]:
    """What the sensors would see on the day, by the model's own decoders: an embedding in its sensors' units.

    Args:
        values: (N, K) embeddings, K 7 or 32.
        model: the model they are of.

    Returns:
        (N,) by sensor and band, such as `sentinel-1 VV`.
    """
    import torch

    from thalweg.earth.sensors import sensor_by_name

    pixels = torch.from_numpy(values.astype(np.float32))[:, :, None, None]
    found: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for name in model.sensors:
            sensor = sensor_by_name(name)
            seen = model.decode(pixels, name, torch.zeros(len(pixels), 1), values.shape[1])[:, 0, :, 0, 0]
            bands = (f"{name} {band}" for band in sensor.band_names)
            found |= dict(zip(bands, sensor.unscale(seen.numpy().T), strict=True))
    return found


def join_flux(
    table: pd.DataFrame, recipe: FeatureRecipe, measured: pd.DataFrame, site: str | None, what: str
) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Put a tower's GPP, vegetation and meteorology beside its features, day by day.

    Args:
        table: one site's daily table.
        recipe: how it was made.
        measured: a daily table of flux measurements.
        site: the measured site to take; needed where there are several.
        what: what to call the measurements in a message.

    Returns:
        The table, NaN on days that were not measured, and the recipe with the joined columns' units.

    Raises:
        UsageError: no such site, several to choose from, or no day in common.
    """
    sites = sorted(measured["site"].unique())
    chosen = sites[0] if site is None and len(sites) == 1 else site
    if chosen not in sites:
        asked = "it has several" if site is None else f"no site {site!r}"
        raise UsageError(f"{what}: {asked}: name one of {', '.join(sites)} with --site")
    own = measured[measured["site"] == chosen].set_index("time")
    if not table["time"].isin(own.index).any():
        raise UsageError(
            f"{what}: no overlap in time: measured {_span(own.index)}, the cube shows {_span(table['time'])}"
        )
    added = ["gpp", *(["vegetation"] if "vegetation" in own else [])]
    added += [name for name in feature_columns(measured) if name not in table]
    beside = own.reindex(table["time"])
    joined = table.assign(site=chosen, **{name: beside[name].to_numpy() for name in added if name != "vegetation"})
    if "vegetation" in added:
        joined["vegetation"] = own["vegetation"].iloc[0]
    units = recipe.units | {k: v for k, v in measured.attrs.get("units", {}).items() if k in added}
    return daily_table(joined, units, what), recipe.model_copy(update={"units": units})


def _span(days: "pd.Series | pd.Index") -> str:
    return f"{days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"


def model_columns(recipe: FeatureRecipe) -> list[str]:
    """The columns a model predicts from by default, all of which a map has, too."""
    return [*embedding_names(recipe.size), POTENTIAL_RADIATION]


def write_table(table: pd.DataFrame, recipe: FeatureRecipe, path: Path) -> None:
    """Write a daily table as CSV, and how it was made as JSON beside it (`PATH.json`).

    Raises:
        UsageError: one of them exists already.
    """
    beside = _recipe_path(path)
    for target in (path, beside):
        if target.exists():
            raise UsageError(f"{target}: exists already: choose another name or remove it")
    atomic_write(path, table.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.7g").encode())
    atomic_write(beside, (recipe.model_dump_json(indent=2) + "\n").encode())


def read_table(path: Path) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Read what `write_table` wrote.

    Raises:
        UsageError: it is not such a table.
    """
    from pydantic import ValidationError

    beside = _recipe_path(path)
    if not path.is_file() or not beside.is_file():
        raise UsageError(f"{path}: expected a table of `thalweg gpp prepare` and its {beside.name}")
    try:
        recipe = FeatureRecipe.model_validate(json.loads(beside.read_text()))
    except (ValidationError, ValueError, RecursionError) as error:
        raise UsageError(f"{beside}: damaged ({str(error).splitlines()[0]}): prepare it again") from error
    table = read_daily_table(open_table(path), units=recipe.units)
    if missing := [name for name in model_columns(recipe) if name not in table]:
        raise UsageError(f"{path}: no column {missing[0]!r}, which {beside.name} promises: prepare it again")
    return table, recipe


def read_tables(paths: Sequence[Path]) -> tuple[pd.DataFrame, FeatureRecipe]:
    """Read the tables of several sites, made alike, as one.

    Raises:
        UsageError: one is no such table, made otherwise than the first, or has no GPP; or a site comes twice.
    """
    read = [read_table(path) for path in paths]
    first = read[0][1]
    for path, (table, recipe) in zip(paths, read, strict=True):
        for name in ("embedding_model", "size", "gap_filling"):
            own, other = getattr(recipe, name), getattr(first, name)
            if own != other:
                raise UsageError(f"{path}: {name} {own}, expected {other} as in {paths[0]}: prepare them alike")
        if not table["gpp"].notna().any():
            raise UsageError(f"{path}: no day with GPP: prepare it with --flux")
    units = {name: unit for _, recipe in read for name, unit in recipe.units.items()}
    joined = pd.concat([table for table, _ in read], ignore_index=True)
    return daily_table(joined, units, "the tables"), first.model_copy(update={"units": units})


def _recipe_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
