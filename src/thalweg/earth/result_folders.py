"""Folders of results: clusters and changes as GeoTIFF, tables and figures."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.earth.analysis.clusters import Clusters, cluster_table
from thalweg.earth.export.bands import write_bands
from thalweg.earth.export.categorical import distinct_colours, write_categorical
from thalweg.earth.plots import change_map, class_map
from thalweg.earth.positions import dataset_geobox
from thalweg.io.atomic import atomic_folder

if TYPE_CHECKING:
    import xarray as xr


def write_clusters(dataset: "xr.Dataset", clusters: Clusters, out: str | Path) -> Path:
    """Write clusters: `clusters.tif` with colours, its QGIS style, `clusters.csv`, `summary.json` and `clusters.png`.

    Args:
        dataset: the embedding dataset that was clustered.
        clusters: its clusters.
        out: folder to write; must not exist.

    Raises:
        UsageError: `out` exists.
        ThalwegError: The folder cannot be written.
    """
    rows = cluster_table(clusters, float(dataset.attrs["geoemb:gsd"]) ** 2 / 10_000)
    summary = {
        "model": dataset.attrs["thalweg:model"],
        "dates": [str(day) for day in clusters.dates],
        "clusters": len(clusters.pixels),
        "stability": clusters.stability,
    }
    with atomic_folder(out) as folder:
        write_categorical(
            folder / "clusters.tif",
            clusters.labels,
            clusters.names,
            distinct_colours(len(clusters.pixels)),
            dataset_geobox(dataset),
        )
        with (folder / "clusters.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        draw_clusters(clusters, folder / "clusters.png")
    return Path(out)


def draw_clusters(clusters: Clusters, path: str | Path) -> Path:
    """Draw a map of clusters with their shares.

    Raises:
        ThalwegError: The file cannot be written.
    """
    shares = clusters.pixels / clusters.pixels.sum()
    names = [f"{name}: {share:.1%}" for name, share in zip(clusters.names, shares, strict=True)]
    first, last = clusters.dates[0], clusters.dates[-1]
    when = f"on {first}" if first == last else f"over {len(clusters.dates)} dates, {first} to {last}"
    title = f"{len(names)} clusters {when}"
    return class_map(clusters.labels, names, distinct_colours(len(names)), title, path)


def write_change(result: "xr.Dataset", out: str | Path) -> Path:
    """Write a change: `change.tif` with one band per variable, `summary.json` and `change.png`.

    Args:
        result: as `thalweg.earth.analysis.change.change` returns it.
        out: folder to write; must not exist.

    Raises:
        UsageError: `out` exists.
        ThalwegError: The folder cannot be written.
    """
    bands = {str(name): variable.values for name, variable in result.data_vars.items()}
    units = {str(name): str(variable.attrs["units"]) for name, variable in result.data_vars.items()}
    tags = {name: str(result.attrs[name]) for name in ("before", "after", "level")}
    summary = {name: value for name, value in result.attrs.items() if not name.startswith(("geoemb:", "proj:"))}
    with atomic_folder(out) as folder:
        write_bands(folder / "change.tif", bands, dataset_geobox(result), units, tags)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        change_map(result, folder / "change.png")
    return Path(out)
