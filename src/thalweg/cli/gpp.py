"""`thalweg gpp`: gross primary production from embeddings and tower tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli.cubes import AssumeClear, naming_assume_clear
from thalweg.cli.progress import progress
from thalweg.errors import UsageError
from thalweg.limits import MAX_SEEDS, MAX_STRIDE, MAX_WORKERS

GppColumn = Annotated[
    str | None,
    typer.Option(
        "--gpp-column",
        help="the column of GPP to take, such as GPP_NT_CUT_REF or GPP_NT_VUT_USTAR50; its own quality column is used",
    ),
]

gpp = typer.Typer(no_args_is_help=True, help="Gross primary production from embeddings and flux towers.")


@gpp.command()
def evaluate(
    table: Annotated[
        Path,
        typer.Argument(help="a daily table (CSV or Parquet with site, time, gpp), a flux file, or a folder of them"),
    ],
    out: Annotated[Path, typer.Argument(help="report folder to write; must not exist")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="transformer, boosting, ridge or climatology; repeat for more; all by default"),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="site, year or site-year; repeat for more; site and year by default")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=MAX_SEEDS, help="runs with seeds 0, 1, ...")] = 1,
    groups: Annotated[
        int | None, typer.Option(min=2, help="hold sites out in so many groups, not one by one: quicker, easier")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="fit an ensemble for every site anew; slow, the members are not shared")
    ] = False,
    stride: Annotated[int, typer.Option(min=1, max=MAX_STRIDE, help="days between windows")] = 1,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="of the intervals")] = 0.9,
    vegetation: Annotated[
        bool, typer.Option("--vegetation", help="give every set of predictors the site's vegetation class")
    ] = False,
    gpp_column: GppColumn = None,
    partitioning: Annotated[str, typer.Option(help="GPP of flux files: nt (night-time) or dt (daytime)")] = "nt",
    quality: Annotated[float, typer.Option(help="least share of good NEE of a day of a flux file")] = 0.75,
    drop_negative: Annotated[bool, typer.Option("--drop-negative", help="leave out days of negative GPP")] = False,
    sites: Annotated[Path | None, typer.Option(help="CSV of sites: site, lat, igbp; towers.csv by default")] = None,
    workers: Annotated[int, typer.Option(min=1, max=MAX_WORKERS, help="processes")] = 1,
) -> None:
    """Compare predictors and models on held-out sites and years; write a report of tables and figures."""
    from typing import cast

    from thalweg.gpp.data.daily_table import require_gpp, with_vegetation_columns
    from thalweg.gpp.data.fluxnet import Partitioning, Rules
    from thalweg.gpp.evaluation.protocol import Splitting
    from thalweg.gpp.evaluation.protocol import evaluate as run
    from thalweg.gpp.evaluation.report import write_report
    from thalweg.gpp.models.predictors import MODELS, predictor_sets, with_indices

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    names = model or list(MODELS)
    if unknown := [name for name in names if name not in MODELS]:
        raise UsageError(f"model {unknown[0]!r}: expected {', '.join(MODELS)}")
    rules = Rules(cast(Partitioning, partitioning), quality, not drop_negative, gpp_column)
    daily = with_indices(_measured(table, rules, sites))
    require_gpp(daily, table.name)
    read = [f"read from {table.name}", *daily.attrs["notes"]]
    daily, classes = with_vegetation_columns(daily) if vegetation else (daily, [])
    predictors, left_out = predictor_sets(daily, classes)
    with progress("models") as show:
        found = run(
            daily,
            predictors,
            {name: MODELS[name] for name in names},
            cast(list[Splitting], split or ["site", "year"]),
            range(seeds),
            level,
            partitions=None if anew or groups else 3,
            groups=groups,
            stride=stride,
            workers=workers,
            progress=show,
            featureless=("climatology",),
        )
    if groups or not anew:
        left_out.append(
            f"leave site out: in {groups} groups of sites" if groups else "leave site out: members shared between sites"
        )
    print(f"report: {write_report(found, out, [*read, *left_out]) / 'report.md'}")


Source = Annotated[
    Path, typer.Argument(help="a satellite cube (NetCDF, Zarr or a folder), or a store of `thalweg earth embed`")
]
TowerPlace = Annotated[
    tuple[float, float] | None, typer.Option("--tower", help="longitude and latitude, or map coordinates x and y")
]
Radius = Annotated[float, typer.Option(help="of the tower's footprint, m")]
Flux = Annotated[
    Path | None, typer.Option(help="a flux file or daily table; its GPP and meteorology are joined day by day")
]
Site = Annotated[str | None, typer.Option(help="name of the site; of a flux file with several, the one to take")]
EmbeddingModel = Annotated[Path | None, typer.Option(help="embedding model folder; the shipped weights by default")]


@gpp.command()
def prepare(
    source: Source,
    tower: Annotated[
        tuple[float, float], typer.Option("--tower", help="longitude and latitude, or map coordinates x and y")
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV to write, with TABLE.csv.json beside it")],
    flux: Flux = None,
    gpp_column: GppColumn = None,
    site: Site = None,
    radius: Radius = 100.0,
    size: Annotated[int, typer.Option(help="7 values (the paper's size) or all 32")] = 7,
    gap_filling: Annotated[str, typer.Option(help="linear, or kalman (with its variance)")] = "linear",
    embedding_model: EmbeddingModel = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Make a tower's daily table: the footprint's embedding filled to days, potential radiation, and GPP if given."""
    from thalweg.gpp.data.daily_table import require_gpp
    from thalweg.gpp.data.features import write_table

    opened = _open_source(source, assume_clear)
    table, recipe = _tower_table(
        opened, source, tower, radius, size, gap_filling, embedding_model, flux, site, gpp_column
    )
    if flux is not None:
        require_gpp(table, flux.name)
    write_table(table, recipe, out)
    known = int(table["gpp"].notna().sum())
    print(f"table: {out} ({len(table)} days, {known} with GPP)")


@gpp.command()
def train(
    tables: Annotated[list[Path], typer.Argument(help="tables of `thalweg gpp prepare`, one a site")],
    out: Annotated[Path, typer.Option("--out", help="model folder to write; must not exist")],
    also: Annotated[
        list[str] | None,
        typer.Option("--with", help="a column beside the embedding and potential radiation; repeat for more"),
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the ensemble")] = 0,
) -> None:
    """Fit the 90-day transformer to tables with GPP and save it; a model with more columns makes no maps."""
    from thalweg.gpp.data.features import model_columns, read_tables
    from thalweg.gpp.data.windows import make_windows
    from thalweg.gpp.models.checkpoint import save_model
    from thalweg.gpp.models.predictors import transformer

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    table, recipe = read_tables(tables)
    windows = make_windows(table, [*model_columns(recipe), *(also or [])])
    card = save_model(transformer(seed).fit(windows), windows, recipe, out)
    print(f"model: {out} ({card.members} members, {len(windows)} days at {len(windows.sites)} sites)")


@gpp.command()
def predict(
    source: Source,
    out: Annotated[Path, typer.Argument(help="what to write: a map (Zarr), or with --tower a series (CSV)")],
    model: Annotated[Path, typer.Option(help="a model folder of `thalweg gpp train`")],
    tower: TowerPlace = None,
    radius: Radius = 100.0,
    flux: Flux = None,
    gpp_column: GppColumn = None,
    site: Site = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="of the intervals")] = 0.9,
    embedding_model: EmbeddingModel = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Predict daily GPP with intervals: a map of the cube, or with --tower the series of a footprint."""
    from thalweg.gpp.models.checkpoint import load_model
    from thalweg.gpp.predict import MapJob, predict_map, predict_series, write_series

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    saved = load_model(model)
    if tower is None:
        job = MapJob(_open_source(source, assume_clear), saved, _earth_model(embedding_model), level, source.name)
        with progress("pixels") as show:
            predict_map(job, out, show)
        print(f"map: {out} ({len(job.time)} days)")
        return
    recipe = saved.card.recipe
    table, made = _tower_table(
        _open_source(source, assume_clear),
        source,
        tower,
        radius,
        recipe.size,
        recipe.gap_filling,
        embedding_model,
        flux,
        site,
        gpp_column,
    )
    saved.check_embedding(made.embedding_model, source.name)
    series = predict_series(saved, table, level)
    write_series(series, out)
    print(f"series: {out} ({len(series)} days)")


def _earth_model(folder: Path | None) -> Any:
    from thalweg.earth.model.earth_model import EarthModel

    return EarthModel.load(folder)


def _measured(source: Path, rules: Any, sites: Path | None = None) -> Any:
    """Read flux measurements; an error names the option, not the parameter, that chooses the column.

    Raises:
        UsageError: They cannot be read.
    """
    from thalweg.gpp.data.fluxnet import read_flux

    try:
        return read_flux(source, rules, sites)
    except UsageError as error:
        raise UsageError(str(error).replace("gpp_column", "--gpp-column")) from error


def _open_source(source: Path, assume_clear: bool) -> Any:
    from thalweg.gpp.data.features import open_source

    with naming_assume_clear():
        return open_source(source, assume_clear)


def _tower_table(
    opened: Any,
    source: Path,
    tower: tuple[float, float],
    radius: float,
    size: int,
    gap_filling: str,
    embedding_model: Path | None,
    flux: Path | None,
    site: str | None,
    gpp_column: str | None,
) -> Any:
    from typing import cast

    from thalweg.gpp.data.features import embedding_table, join_flux
    from thalweg.gpp.data.fluxnet import Rules
    from thalweg.gpp.data.footprint import Tower
    from thalweg.gpp.data.gap_filling import Method

    measured = _measured(flux, Rules(gpp_column=gpp_column)) if flux is not None else None
    table, recipe = embedding_table(
        opened,
        Tower(*tower, radius),
        site or source.stem,
        _earth_model(embedding_model),
        size,
        cast(Method, gap_filling),
        source.name,
    )
    return (table, recipe) if measured is None or flux is None else join_flux(table, recipe, measured, site, flux.name)
