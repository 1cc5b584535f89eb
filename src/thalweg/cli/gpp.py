"""`thalweg gpp`: gross primary production from embeddings and tower tables."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.progress import progress
from thalweg.errors import UsageError

gpp = typer.Typer(no_args_is_help=True, help="Gross primary production from embeddings and flux towers.")


@gpp.command()
def evaluate(
    table: Annotated[
        Path, typer.Argument(help="a daily table (CSV with site, time, gpp), a flux file, or a folder of them")
    ],
    out: Annotated[Path, typer.Argument(help="report folder to write; must not exist")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="transformer, boosting, ridge or climatology; repeat for more; all by default"),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="site, year or site-year; repeat for more; site and year by default")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs with seeds 0, 1, ...")] = 1,
    groups: Annotated[
        int | None, typer.Option(min=2, help="hold sites out in so many groups, not one by one: quicker, easier")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="fit an ensemble for every site anew; slow, the members are not shared")
    ] = False,
    stride: Annotated[int, typer.Option(min=1, help="days between windows")] = 1,
    level: Annotated[float, typer.Option(min=0.5, max=0.99, help="of the intervals")] = 0.9,
    vegetation: Annotated[
        bool, typer.Option("--vegetation", help="give every set of predictors the site's vegetation class")
    ] = False,
    partitioning: Annotated[str, typer.Option(help="GPP of flux files: nt (night-time) or dt (daytime)")] = "nt",
    quality: Annotated[float, typer.Option(help="least share of good NEE of a day of a flux file")] = 0.75,
    drop_negative: Annotated[bool, typer.Option("--drop-negative", help="leave out days of negative GPP")] = False,
    sites: Annotated[Path | None, typer.Option(help="CSV of sites: site, lat, igbp; towers.csv by default")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Compare predictors and models on held-out sites and years; write a report of tables and figures."""
    from typing import cast

    from thalweg.earth.gpp.baselines import MODELS, predictor_sets, with_indices
    from thalweg.earth.gpp.flux import Partitioning, Rules, read_flux
    from thalweg.earth.gpp.protocol import Splitting
    from thalweg.earth.gpp.protocol import evaluate as run
    from thalweg.earth.gpp.report import write_report
    from thalweg.earth.gpp.tables import with_vegetation_columns

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    names = model or list(MODELS)
    if unknown := [name for name in names if name not in MODELS]:
        raise UsageError(f"model {unknown[0]!r}: expected {', '.join(MODELS)}")
    rules = Rules(cast(Partitioning, partitioning), quality, not drop_negative)
    daily = with_indices(read_flux(table, rules, sites))
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
    print(f"report: {write_report(found, out, [f'read from {table.name}', *left_out]) / 'report.md'}")
