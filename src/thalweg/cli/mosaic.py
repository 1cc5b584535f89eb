"""`thalweg earth mosaic`, and the option `--axes` of maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_new, check_store, check_writable
from thalweg.cli.common.progress import announce, progress
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

    from thalweg.earth.analysis.pca import PrincipalComponents

Axes = Annotated[
    Path | None,
    typer.Option(
        "--axes", help="JSON file of colour axes that maps of several stores share; made of this store if missing"
    ),
]


def mosaic(
    stores: Annotated[list[Path], typer.Argument(help="embedding stores of one model, on one pixel lattice")],
    out: Annotated[Path, typer.Argument(help="Zarr store to write; must not exist")],
    axes: Annotated[
        Path | None, typer.Option("--axes", help="also write the mosaic's colour axes to this JSON file")
    ] = None,
) -> None:
    """Write one store from several: where they overlap, the lower uncertainty wins. A killed run resumes."""
    if len(stores) < 2:
        raise UsageError(f"{len(stores)} store(s): expected two or more stores, then the store to write")
    for store in stores:
        check_store(store)
    check_new(out)
    if axes is not None:
        check_new(axes)
    announce("opening the stores")
    from thalweg.earth.store.store_mosaic import write_mosaic

    with progress("pixel-dates") as show:
        write_mosaic(stores, out, show)
    print(f"mosaic: {out}")
    if axes is not None:
        from thalweg.earth.store.reader import open_store

        shared_axes(open_store(out), axes)


def shared_axes(dataset: "xr.Dataset", path: Path) -> "PrincipalComponents":
    """Return the colour axes in a file; where there is none, fit them to a dataset and write the file."""
    from thalweg.earth.analysis.colour_axes import load_axes, save_axes
    from thalweg.earth.analysis.pca import PrincipalComponents

    if path.exists():
        return load_axes(path, dataset)
    check_writable(path)
    announce("fitting the colour axes")
    components = PrincipalComponents.of(dataset)
    print(f"axes: {save_axes(components, dataset.attrs['thalweg:model'], path)}")
    return components
