"""`thalweg earth embed` at scale, and `thalweg earth export`."""

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_model, check_new, check_store
from thalweg.cli.common.progress import announce, progress
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from thalweg.earth.inference.job import Job

Scheduler = Annotated[
    str | None, typer.Option(help="address of a running dask scheduler, such as tcp://host:8786, whose workers embed")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="processes on this machine; by default one, or one per core for a large cube")
]
Memory = Annotated[
    str | None,
    typer.Option(help="memory limit of all processes together, such as 4GB; of each process with --scheduler"),
]
Quantise = Annotated[int | None, typer.Option(help="store integers of 8 or 16 bits; float32 by default")]
Dates = Annotated[
    str | None,
    typer.Option(
        "--dates",
        help="days to embed, observed or not: start/end/period such as 2018-03-01/2018-10-31/P10D; by default the "
        "dates that the reference sensor observed",
    ),
]


def check_execution(scheduler: str | None, workers: int | None) -> None:
    """Raise a `UsageError` if both a scheduler and local workers are requested."""
    if scheduler and workers:
        raise UsageError("--scheduler and --workers: give one of them, a scheduler has its own workers")


def write_embeddings(job: "Job", out: Path, scheduler: str | None, workers: int | None, memory: str | None) -> None:
    """Embed a job into a store with the requested processes and memory; print the loss by quantization."""
    from thalweg.earth.inference.dask_backend import default_workers, local_workers, scheduler_workers
    from thalweg.earth.inference.memory import parse_size, plan_memory
    from thalweg.earth.inference.quantization_loss import measure_loss
    from thalweg.earth.inference.runner import embed_to_zarr, run_in_process

    budget = parse_size(memory) if memory else None
    with ExitStack() as stack:
        executor = stack.enter_context(scheduler_workers(scheduler)) if scheduler else run_in_process
        count = 1 if scheduler else workers or default_workers(job)
        if budget is not None:
            planned = plan_memory(job, budget, count)
            job, count = planned.job, planned.workers
            print(
                f"memory: at most {planned.bytes / 1e6:,.0f} MB with {count} worker(s), blocks of {job.block} px, "
                f"{job.dates_at_once} date(s) at once"
            )
        if count > 1:
            print(f"workers: {count}")
            executor = stack.enter_context(local_workers(count))
        with progress("pixel-dates") as show:
            embed_to_zarr(job, out, show, executor)
    print(f"embeddings: {out}")
    if job.quantize:
        loss = measure_loss(job)
        probe = (
            f"a linear probe of the RGB preview loses {loss.probe:.3%} of its R2, " if loss.probe == loss.probe else ""
        )
        print(f"quantized to {job.quantize} bits: {probe}{loss.clipped:.3%} of the values are clipped (one block)")


class Format(StrEnum):
    """Formats that a store can be exported to."""

    COG = "cog"
    GEOPARQUET = "geoparquet"
    STAC = "stac"
    UNSHARDED = "unsharded"


def export(
    store: Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")],
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    format: Annotated[
        Format,
        typer.Option(
            help="GeoTIFFs or one table per date, a STAC catalogue of GeoTIFFs, or a Zarr store of format 2 without "
            "shards, which GDAL reads since 3.4"
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="folder of the model that STAC describes; the shipped weights by default")
    ] = None,
) -> None:
    """Export embeddings, their uncertainty and quality: GeoTIFFs, GeoParquet, a STAC collection, or a plain store."""
    check_store(store)
    check_new(out)
    check_model(model)
    announce(f"opening {store}")
    from thalweg.earth.export.geoparquet import write_geoparquet
    from thalweg.earth.export.raster import write_cogs
    from thalweg.earth.export.stac import write_catalogue
    from thalweg.earth.export.unsharded import write_unsharded
    from thalweg.earth.store.reader import open_store

    writers = {Format.COG: write_cogs, Format.GEOPARQUET: write_geoparquet, Format.UNSHARDED: write_unsharded}
    dataset = open_store(store)
    with progress("dates") as show:
        if format == Format.STAC:
            write_catalogue(dataset, out, model, show)
        else:
            writers[format](dataset, out, show)
    print(f"{format}: {out}")
