"""`thalweg earth cluster` and `change`, and the quantities that `map` shows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_model, check_new, check_store
from thalweg.cli.common.progress import announce, progress
from thalweg.cli.common.seed_options import SEED_FLAGS

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.analysis.pca import PrincipalComponents

Store = Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")]
ModelFolder = Annotated[Path | None, typer.Option("--model", help="model folder; the shipped weights by default")]
Out = Annotated[Path | None, typer.Option("--out", help="folder to write; must not exist")]
SHOWN = ("embedding", "quality", "cluster")
"""Quantities that `map` shows in addition to spectral indices and traits."""
MAP_CLUSTERS = 8
"""Number of clusters that `map` shows."""


def cluster(
    store: Store,
    out: Out = None,
    k: Annotated[int, typer.Option("--k", help="number of clusters")] = 8,
    period: Annotated[
        str | None, typer.Option(help="a date, a month or a range such as 2018-06/2018-08; all dates by default")
    ] = None,
    seed: Annotated[str, typer.Option(*SEED_FLAGS, help="seed of the clustering")] = "0",
    model: ModelFolder = None,
) -> None:
    """Divide the pixels into clusters: a GeoTIFF with colours, a QGIS style, a table of spectra and a figure."""
    from thalweg.earth.analysis.clusters import check_count_of_clusters
    from thalweg.earth.analysis.periods import parse_period
    from thalweg.seeds import read_seed

    check_count_of_clusters(k)
    number = read_seed(seed)
    if period is not None:
        parse_period(period)
    check_store(store)
    check_model(model)
    out = out or Path(f"{store.stem}-clusters")
    check_new(out)
    announce(f"opening {store}")
    from thalweg.earth.analysis.clusters import cluster as find_clusters
    from thalweg.earth.result_folders import write_clusters
    from thalweg.earth.store.reader import open_store

    dataset = open_store(store)
    with progress("blocks") as show:
        clusters = find_clusters(dataset, k, period, model, number, show)
    write_clusters(dataset, clusters, out)
    total = int(clusters.pixels.sum())
    for name, pixels in zip(clusters.names, clusters.pixels, strict=True):
        print(f"{name}: {pixels} px, {pixels / total:.1%}")
    print(f"stability: adjusted Rand index {clusters.stability:.2f} between two halves of the sample")
    print(f"clusters: {out}")


def change(
    store: Store,
    before: Annotated[str, typer.Option("--from", help="the earlier period: a date, a month 2018-07 or a range")],
    after: Annotated[str, typer.Option("--to", help="the later period")],
    out: Out = None,
    level: Annotated[float, typer.Option(help="false discovery rate, between 0 and 1")] = 0.05,
    model: ModelFolder = None,
) -> None:
    """Compare two periods: a GeoTIFF of the difference and its significance, and a figure."""
    from thalweg.earth.analysis.change import check_level, check_periods

    check_level(level)
    check_periods(before, after)
    check_store(store)
    check_model(model)
    out = out or Path(f"{store.stem}-change")
    check_new(out)
    announce(f"opening {store}")
    from thalweg.earth.analysis.change import change as compare
    from thalweg.earth.result_folders import write_change
    from thalweg.earth.store.reader import open_store

    with progress("blocks") as show:
        result = compare(open_store(store), before, after, model, level, show)
    write_change(result, out)
    found = result.attrs
    share = found["changed_pixels"] / found["compared_pixels"]
    print(f"compared: {len(found['dates_before'])} date(s) of {before}, {len(found['dates_after'])} of {after}")
    print(f"changed: {share:.1%} of {found['compared_pixels']} px, {found['changed_area_ha']:,.2f} ha")
    print(f"change: {out}")


def check_shown(name: str) -> None:
    """Raise a `UsageError` if `map` cannot show a quantity."""
    from thalweg.earth.analysis.decoded import decoded_names
    from thalweg.errors import unknown_name

    if name.lower() not in (*SHOWN, *(known.lower() for known in decoded_names())):
        raise unknown_name("`show`", name, [*SHOWN, *(known.lower() for known in decoded_names())])


def draw_shown(
    dataset: "xr.Dataset",
    show: str,
    index: int,
    model: Path | None,
    png: Path,
    components: "PrincipalComponents | None" = None,
) -> Path:
    """Draw one date of a dataset as `map` shows it."""
    from thalweg.earth.plots import embedding_map, quality_map, quantity_map

    if show == "embedding":
        return embedding_map(dataset, png, index, components)
    if show == "quality":
        return quality_map(dataset, png, index)
    from thalweg.earth.model.earth_model import EarthModel

    announce("loading the model")
    loaded = EarthModel.load(model)
    if show != "cluster":
        return quantity_map(dataset, png, show, loaded, index)
    from thalweg.earth.analysis.clusters import cluster as find_clusters
    from thalweg.earth.result_folders import draw_clusters

    return draw_clusters(find_clusters(dataset.isel(time=[index]), MAP_CLUSTERS, None, loaded), png)
