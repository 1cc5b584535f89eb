"""A tower's daily features: what its footprint shows, filled to days, with radiation, meteorology and GPP beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import Field

from thalweg.earth.cubes import Cube, Grid
from thalweg.earth.fusion import FULL, SMALL
from thalweg.earth.gpp.footprint import FootprintSeries, Tower, from_cube, from_embeddings
from thalweg.earth.gpp.gapfill import Method, fill_to_days
from thalweg.earth.gpp.radiation import POTENTIAL_RADIATION, potential_radiation
from thalweg.earth.gpp.tables import GPP_UNITS, daily_table
from thalweg.earth.sensors import Declaration
from thalweg.errors import UsageError
from thalweg.files import write_whole

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.model import EarthModel


class Recipe(Declaration):
    """How the features of a table were made; a model that learned from them asks for the same."""

    embedding_model: str = Field(description="identifier of the model that embedded the cube")
    size: int = Field(description="values of the embedding, 7 or 32")
    gap_filling: Method = Field(description="linear or kalman")
    units: dict[str, str] = Field(default={}, description="units by column")


def open_source(source: str | Path) -> "Cube | xr.Dataset":
    """Open an embedding store, or else a satellite cube.

    Raises:
        UsageError: it is neither.
    """
    from thalweg.earth.store import open_embeddings

    path = Path(source)
    if (path / "zarr.json").is_file():
        import zarr

        if "geoemb:model" in zarr.open_group(path, mode="r").attrs:
            return open_embeddings(path)
    return Cube.open(path)


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
) -> tuple[pd.DataFrame, Recipe]:
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
        from thalweg.earth.model import EarthModel

        model = model or EarthModel.load()
        grid, identifier = source.grid, model.identifier
        series = from_cube(source, tower, model, size)
    else:
        grid, identifier = Grid.of(source, where), str(source.attrs["geoemb:model"])
        series = from_embeddings(_first_values(source, size, where), tower, where)
    frame = daily_features(series, method, where)
    latitude = tower.latitude(grid)
    frame[POTENTIAL_RADIATION] = potential_radiation(latitude, frame["time"].to_numpy())
    frame = frame.assign(site=site, latitude=latitude, gpp=np.nan)
    units = {name: "1" for name in frame if str(name).startswith("e")}
    units |= {POTENTIAL_RADIATION: "W m-2", "latitude": "degrees", "gpp": GPP_UNITS}
    table = daily_table(frame[["site", "time", "gpp", "latitude", *_features(frame)]], units, where)
    return table, Recipe(embedding_model=identifier, size=size, gap_filling=method, units=units)


def _features(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name not in ("site", "time", "gpp", "latitude")]


def _first_values(dataset: "xr.Dataset", size: int, where: str) -> "xr.Dataset":
    held = dataset.sizes["embedding"]
    if size not in (SMALL, FULL) or size > held:
        raise UsageError(f"{where}: size {size}: it holds {held} values, expected {SMALL} or {FULL} of them")
    return dataset.isel(embedding=slice(0, size))


def join_daily(table: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str], what: str) -> pd.DataFrame:
    """Put a site's columns of another daily table beside its features, day by day.

    Args:
        table: one site's daily table; its columns of these names are replaced.
        other: with `time` and the columns.
        columns: which ones.
        what: what to call the other table in a message.

    Returns:
        The table, NaN on days that the other lacks.

    Raises:
        UsageError: no day in common, or a column is not there.
    """
    if missing := [name for name in columns if name not in other]:
        raise UsageError(f"{what}: no column {missing[0]!r}: it has {', '.join(map(str, other.columns))}")
    beside = other.set_index("time")[list(columns)].reindex(table["time"])
    if not np.isin(table["time"].to_numpy(), other["time"].to_numpy()).any():
        spans = (
            f"{part['time'].min():%Y-%m-%d} to {part['time'].max():%Y-%m-%d}" for part in (table, other) if len(part)
        )
        raise UsageError(f"{what}: no overlap in time: {', the features span '.join(reversed(list(spans)))}")
    joined = table.assign(**{name: beside[name].to_numpy() for name in columns})
    units = other.attrs.get("units", {})
    joined.attrs = {"units": table.attrs.get("units", {}) | {k: units[k] for k in columns if k in units}}
    return joined


def write_table(table: pd.DataFrame, recipe: Recipe, path: Path) -> None:
    """Write a daily table as CSV, and how it was made as JSON beside it (`PATH.json`).

    Raises:
        UsageError: one of them exists already.
    """
    beside = _recipe_path(path)
    for target in (path, beside):
        if target.exists():
            raise UsageError(f"{target}: exists already: choose another name or remove it")
    write_whole(path, table.to_csv(index=False, date_format="%Y-%m-%d", float_format="%.7g").encode())
    write_whole(beside, (recipe.model_dump_json(indent=2) + "\n").encode())


def read_table(path: Path) -> tuple[pd.DataFrame, Recipe]:
    """Read what `write_table` wrote.

    Raises:
        UsageError: it is not such a table.
    """
    from pydantic import ValidationError

    beside = _recipe_path(path)
    if not path.is_file() or not beside.is_file():
        raise UsageError(f"{path}: expected a table of `thalweg gpp prepare` and its {beside.name}")
    try:
        recipe = Recipe.model_validate(json.loads(beside.read_text()))
        frame = pd.read_csv(path, parse_dates=["time"])
    except (ValidationError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({str(error).splitlines()[0]}): prepare it again") from error
    return daily_table(frame, recipe.units, str(path)), recipe


def _recipe_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
