"""`thalweg earth sample`, `classify`, `regress` and `apply`: from embeddings and labels to tables and maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_input, check_model, check_new, check_store
from thalweg.cli.common.progress import announce, progress
from thalweg.cli.common.seed_options import SEED_FLAGS

if TYPE_CHECKING:
    from thalweg.earth.mapping.mapping_config import MappingConfig

Store = Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")]
AnyStore = Annotated[
    Path, typer.Argument(help="an embedding store written by `thalweg earth embed`, or AlphaEarth or TESSERA files")
]
Labels = Annotated[
    Path, typer.Argument(help="points or polygons: GeoPackage, GeoJSON, Shapefile, Parquet, or CSV with lon and lat")
]
GeometryCrs = Annotated[
    str | None, typer.Option("--crs", help="reference system of the geometries, where their file states none")
]
Layer = Annotated[str | None, typer.Option("--layer", help="layer of a GeoPackage with several")]


def sample(
    store: Store,
    geometries: Labels,
    out: Annotated[Path, typer.Argument(help="table to write: .parquet or .csv")],
    what: Annotated[
        str,
        typer.Option(
            help="what to sample, comma-separated: embedding, lai, fapar, chlorophyll, soil_moisture, "
            "ndvi, evi, nirv, kndvi, or bands such as B8"
        ),
    ] = "embedding",
    model: Annotated[
        Path | None, typer.Option(help="folder of the model that made the store; the shipped by default")
    ] = None,
    crs: GeometryCrs = None,
    layer: Layer = None,
) -> None:
    """Sample series at points, and means and spreads in polygons, with uncertainty and quality."""
    check_store(store)
    check_input(geometries)
    check_model(model)
    check_new(out)
    announce(f"reading {geometries}")
    from thalweg.earth.mapping.labels.geometry_files import read_geometries
    from thalweg.earth.mapping.labels.series_sample import check_sample_name, write_sample
    from thalweg.earth.mapping.labels.series_sample import sample as sample_series
    from thalweg.earth.store.reader import open_store

    check_sample_name(out)
    shapes = read_geometries(geometries, crs, layer)
    dataset = open_store(store)
    with progress("features") as show:
        table = sample_series(dataset, shapes, what.split(","), model, geometries.name, show)
    write_sample(table, out)
    print(f"table: {out} ({table['feature'].nunique()} features, {len(table)} rows)")


Column = Annotated[str, typer.Option("--column", help="column of the labels")]
MapFolder = Annotated[Path, typer.Argument(help="folder to write; must not exist")]
Calendar = Annotated[
    str | None,
    typer.Option(help="days of the features: a period such as P15D (the default), or start/end/period; interpolated"),
]
OneDate = Annotated[str | None, typer.Option("--date", help="one date such as 2018-06-30 instead of a calendar")]
LearnerName = Annotated[
    str, typer.Option("--learner", help="auto, logistic (ridge for numbers), forest, boosting or knn")
]
BlockSide = Annotated[
    int | None, typer.Option("--block", min=1, help="side of a spatial block in pixels; chosen by default")
]
MemoryLimit = Annotated[str | None, typer.Option("--memory", help="memory limit such as 4GB; 2GiB by default")]
LearnerSeed = Annotated[str, typer.Option(*SEED_FLAGS, help="seed of the learners")]


def classify(
    store: AnyStore,
    labels: Labels,
    out: MapFolder,
    column: Column,
    calendar: Calendar = None,
    date: OneDate = None,
    learner: LearnerName = "auto",
    block: BlockSide = None,
    memory: MemoryLimit = None,
    seed: LearnerSeed = "0",
    crs: GeometryCrs = None,
    layer: Layer = None,
) -> None:
    """Map classes from labels: model, map, probabilities, plausible classes and a report."""
    config = _config(calendar, date, learner, block, memory, seed)
    _map(store, labels, out, column, True, config, crs, layer)


def regress(
    store: AnyStore,
    labels: Labels,
    out: MapFolder,
    column: Column,
    calendar: Calendar = None,
    date: OneDate = None,
    learner: LearnerName = "auto",
    block: BlockSide = None,
    memory: MemoryLimit = None,
    seed: LearnerSeed = "0",
    crs: GeometryCrs = None,
    layer: Layer = None,
) -> None:
    """Map a number from labels: model, map with its interval, and a report."""
    config = _config(calendar, date, learner, block, memory, seed)
    _map(store, labels, out, column, False, config, crs, layer)


def apply(
    model: Annotated[Path, typer.Argument(help="folder of `thalweg earth classify` or `regress`, or its model.skops")],
    store: AnyStore,
    out: MapFolder,
    date: OneDate = None,
    memory: MemoryLimit = None,
) -> None:
    """Map another place or year with a model, and say how far its pixels lie from the training ones."""
    from thalweg.earth.inference.memory import parse_size

    check_input(model, "mapping model")
    check_store(store)
    check_new(out)
    budget = parse_size(memory) if memory else None
    announce(f"reading {model}")
    from thalweg.earth.foreign.opening import open_grid
    from thalweg.earth.mapping.learning.mapping_model import MappingModel
    from thalweg.earth.mapping.mapping_run import apply_model

    with progress("pixels") as show:
        result = apply_model(MappingModel.load(model), open_grid(store), out, date, budget, show)
    print(f"map: {out}\n{result.distance_line}")


def _config(
    calendar: str | None, date: str | None, learner: str, block: int | None, memory: str | None, seed: str
) -> "MappingConfig":
    from thalweg.earth.inference.memory import parse_size
    from thalweg.earth.mapping.mapping_config import MappingConfig
    from thalweg.limits import check_count
    from thalweg.seeds import read_seed

    number = check_count("--seed", read_seed(seed), 0, 2**32 - 1)
    return MappingConfig(calendar, date, learner, block, parse_size(memory) if memory else None, number)


def _map(
    store: Path,
    labels: Path,
    out: Path,
    column: str,
    is_class: bool,
    config: "MappingConfig",
    crs: str | None,
    layer: str | None,
) -> None:
    """Learn from labels and write the folder of a map; print its scores."""
    check_store(store)
    check_input(labels)
    check_new(out)
    announce(f"reading {labels}")
    from thalweg.earth.foreign.opening import open_grid
    from thalweg.earth.mapping.labels.geometry_files import read_geometries
    from thalweg.earth.mapping.mapping_run import map_labels

    shapes = read_geometries(labels, crs, layer)
    announce("learning from the labels")
    with progress("pixels") as show:
        result = map_labels(open_grid(store), shapes, column, out, is_class, config, labels.name, show)
    print(f"map: {out}\n{result.score_line}\n{result.distance_line}")
