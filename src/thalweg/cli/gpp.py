"""`thalweg gpp`: gross primary production from embeddings and tower tables."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from thalweg.cli.common.checks import check_input, check_new
from thalweg.cli.common.cubes import AssumeClear
from thalweg.cli.common.positions import LonLatOption, PixelOption, XYOption, optional_position, required_position
from thalweg.cli.common.progress import announce, progress
from thalweg.cli.common.seed_options import SEED_FLAGS, seeds_or_count
from thalweg.cli.gpp_towers import (
    BoundaryLayer,
    CanopyHeight,
    EmbeddingModel,
    Flux,
    FootprintOption,
    MeasurementHeight,
    Radius,
    Site,
    Source,
    TowerRequest,
)
from thalweg.errors import DataWarning, UsageError
from thalweg.limits import MAX_STRIDE, MAX_WORKERS
from thalweg.seeds import read_seed

GppColumn = Annotated[
    str | None,
    typer.Option(
        "--gpp-column",
        help="column of the target, such as GPP_NT_CUT_REF or GPP_NT_VUT_USTAR50; its own quality column is used",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="gpp (night-time), gpp-dt (daytime), gpp-mean (of both), nee, reco or et; gpp by default",
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
        typer.Option(
            help="transformer, lightgbm, site-level, stack (of these), site-level-transformer, lue, p-model, "
            "lue-residual, p-model-residual, boosting, ridge or climatology; repeat for more; transformer, lightgbm, "
            "site-level, stack, lue and climatology by default"
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="site, year, site-year or temperature (from cooler to warmer sites); repeat; site and year by default"
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="seeds of the runs such as 0,4,7 or 0-2; a number alone: so many runs, from seed 0")
    ] = "1",
    groups: Annotated[
        int | None, typer.Option(min=2, help="hold sites out in this many groups, not one by one: faster, but easier")
    ] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="fit a separate ensemble per held-out site; slow, no members are shared")
    ] = False,
    stride: Annotated[int, typer.Option(min=1, max=MAX_STRIDE, help="days between windows")] = 1,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="level of the intervals")] = 0.9,
    vegetation: Annotated[
        bool, typer.Option("--vegetation", help="add the site's vegetation class to every set of predictors")
    ] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option("--with", help="column to add to every set, such as canopy_height; repeat for more"),
    ] = None,
    target: TargetOption = None,
    gpp_column: GppColumn = None,
    partitioning: Annotated[
        str, typer.Option(help="GPP and RECO of flux files: nt (night-time) or dt (daytime)")
    ] = "nt",
    quality: Annotated[float, typer.Option(help="smallest share of good NEE (LE for et) of a day")] = 0.75,
    drop_negative: Annotated[
        bool, typer.Option("--drop-negative", help="leave out days of negative GPP or RECO")
    ] = False,
    sites: Annotated[
        Path | None,
        typer.Option(help="CSV of sites: site, lat, igbp, canopy_height and the like; towers.csv by default"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=MAX_WORKERS, help="processes")] = 1,
) -> None:
    """Compare predictors and models on held-out sites and years; write a report of tables and figures."""
    check_new(out)
    check_input(table)
    numbers = seeds_or_count(seeds)
    announce(f"reading {table.name}")
    from thalweg.gpp.data.features import recipe_lines
    from thalweg.gpp.data.fluxnet import FluxConfig, Partitioning, read_flux
    from thalweg.gpp.evaluation.cost import estimate_seconds
    from thalweg.gpp.evaluation.protocol import EvaluationConfig, Splitting
    from thalweg.gpp.evaluation.protocol import evaluate as run
    from thalweg.gpp.models.predictors import predictor_sets, with_indices
    from thalweg.gpp.models.registry import FEATURELESS, MODELS, PHYSICAL, check_models, default_models
    from thalweg.gpp.tables.daily_table import require_target, with_vegetation_columns

    flux_config = FluxConfig(cast(Partitioning, partitioning), quality, not drop_negative, gpp_column, target)
    names = model or list(default_models(flux_config.quantity))
    check_models(names, flux_config.quantity)
    config = EvaluationConfig(
        splittings=cast(tuple[Splitting, ...], tuple(split or ("site", "year"))),
        seeds=numbers,
        level=level,
        partitions=None if separate or groups else 3,
        groups=groups,
        stride=stride,
        workers=workers,
        featureless=FEATURELESS,
        physical=PHYSICAL,
    )
    daily = with_indices(read_flux(table, flux_config, sites))
    require_target(daily, table.name)
    read = [f"read from {table.name}", *recipe_lines(table), *daily.attrs["policy"], *daily.attrs["notes"]]
    daily, classes = with_vegetation_columns(daily) if vegetation else (daily, [])
    predictors, left_out = predictor_sets(daily, [*classes, *(columns or ())])
    announce("estimating the time that it takes")
    if physical := [name for name in names if name in PHYSICAL]:
        left_out.append(f"{', '.join(physical)}: on sets of predictors with meteorology only")
    fitters = {name: MODELS[name] for name in names}
    seconds = estimate_seconds(daily, predictors, fitters, config)
    announce(f"fitting models: about {seconds / 60:.0f} min" if seconds > 60 else "fitting models")
    with progress("models") as show:
        found = run(daily, predictors, fitters, config, show)
    if found.notes or groups or not separate:
        shared = f"in {groups} groups of sites" if groups else "members shared between sites"
        left_out += found.notes or [f"leave site out: {shared}"]
    for note in found.notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    from thalweg.gpp.evaluation.report import write_report

    print(f"report: {write_report(found, out, [*read, *left_out]) / 'report.md'}")


@gpp.command()
def prepare(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="CSV to write, with TABLE.csv.json next to it")],
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    flux: Flux = None,
    target: TargetOption = None,
    gpp_column: GppColumn = None,
    site: Site = None,
    radius: Radius = None,
    footprint: FootprintOption = "auto",
    measurement_height: MeasurementHeight = None,
    canopy_height: CanopyHeight = None,
    boundary_layer_height: BoundaryLayer = None,
    size: Annotated[int, typer.Option(help="7 dimensions (the paper's size) or all 32")] = 7,
    gap_filling: Annotated[str, typer.Option(help="linear, or kalman (with its variance)")] = "linear",
    embedding_model: EmbeddingModel = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Make a tower's daily table: the footprint's embedding filled to days, potential radiation, and GPP if given.

    The tower's position is given by --lonlat, --xy or --pixel.
    """
    position = required_position(pixel, xy, lonlat)
    check_new(out)
    from thalweg.gpp.data.footprint_choice import footprint_choice

    choice = footprint_choice(footprint, measurement_height, canopy_height, boundary_layer_height)
    request = TowerRequest(
        source, position, radius, flux, gpp_column, site, embedding_model, assume_clear, target, choice
    )
    request.check_inputs()
    if target is not None and flux is None:
        raise UsageError("expected `flux` with `target`, which chooses what is read from a flux file")
    announce(f"embedding the footprint in {source.name}")
    from thalweg.gpp.data.gap_filling import check_gap_filling

    method = check_gap_filling(gap_filling)
    from thalweg.gpp.data.features import write_table
    from thalweg.gpp.tables.daily_table import require_target
    from thalweg.gpp.tables.target_columns import target_of

    table, recipe = request.table(size, method)
    if flux is not None:
        require_target(table, flux.name)
    write_table(table, recipe, out)
    known = target_of(table)
    days = f"{len(table)} days, {int(table[known.column].notna().sum())} with {known.label}"
    print(f"table: {out} ({days}); footprint: {recipe.footprint_details}")


@gpp.command()
def train(
    tables: Annotated[list[Path], typer.Argument(help="tables of `thalweg gpp prepare`, one per site")],
    out: Annotated[Path, typer.Option("--out", help="model folder to write; must not exist")],
    columns: Annotated[
        list[str] | None,
        typer.Option("--with", help="column in addition to the embedding and potential radiation; repeat for more"),
    ] = None,
    seed: Annotated[str, typer.Option(*SEED_FLAGS, help="seed of the ensemble")] = "0",
    model: Annotated[
        str, typer.Option(help="transformer, lightgbm, site-level, stack, or another model of `thalweg gpp evaluate`")
    ] = "transformer",
    vegetation: Annotated[
        bool, typer.Option("--vegetation", help="add the site's vegetation class to the predictors")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Fit a model to prepared tables and save it; a model with more columns, or with classes, makes no maps."""
    check_new(out)
    for table in tables:
        check_input(table, "table")
    number = read_seed(seed)
    announce(f"fitting the model to {len(tables)} tables")
    from thalweg.gpp.train import train_model

    training = train_model(tables, out, columns or (), number, model, vegetation, target).card
    days, sites = training.training["days"], len(training.training["sites"])
    print(f"model: {out} ({training.members} members and one of all sites, {days} days at {sites} sites)")


@gpp.command()
def predict(
    source: Source,
    out: Annotated[Path, typer.Argument(help="map to write (Zarr), or series of a tower (CSV)")],
    model: Annotated[Path, typer.Option(help="model folder of `thalweg gpp train`")],
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    radius: Radius = None,
    footprint: FootprintOption = "auto",
    measurement_height: MeasurementHeight = None,
    canopy_height: CanopyHeight = None,
    boundary_layer_height: BoundaryLayer = None,
    flux: Flux = None,
    target: TargetOption = None,
    gpp_column: GppColumn = None,
    site: Site = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="level of the intervals")] = 0.9,
    embedding_model: EmbeddingModel = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Predict daily GPP, or the model's target, with intervals: a map of the cube, or the series of a tower.

    A tower's position is given by --lonlat, --xy or --pixel.
    """
    position = optional_position(pixel, xy, lonlat)
    check_new(out)
    check_input(model, "model folder")
    from thalweg.gpp.data.footprint_choice import footprint_choice

    choice = footprint_choice(footprint, measurement_height, canopy_height, boundary_layer_height)
    if position is None and choice.heights is not None:
        raise UsageError("expected a position with `measurement_height`: a map has no footprint")
    request = TowerRequest(
        source, position, radius, flux, gpp_column, site, embedding_model, assume_clear, target, choice
    )
    request.check_inputs()
    announce(f"predicting from {source.name}")
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.gpp.models.checkpoint import load_model
    from thalweg.gpp.predict import MapJob, predict_map, predict_series, write_series
    from thalweg.gpp.tables.target_columns import target_named

    loaded = load_model(model)
    if target is not None:
        loaded.check_target(target_named(target).name, "--target")
    elif not loaded.target.is_gpp or loaded.target.partitions:
        request = replace(request, target=loaded.target.name)
    if position is None:
        job = MapJob(request.open(), loaded, EarthModel.load(embedding_model), level, source.name)
        with progress("pixels") as show:
            predict_map(job, out, show)
        print(f"map: {out} ({len(job.time)} days)")
        return
    recipe = loaded.card.recipe
    table, made = request.table(recipe.size, recipe.gap_filling)
    loaded.check_embedding(made.embedding_model, source.name)
    series = predict_series(loaded, table, level)
    write_series(series, out)
    print(f"series: {out} ({len(series)} days); footprint: {made.footprint_details}")
