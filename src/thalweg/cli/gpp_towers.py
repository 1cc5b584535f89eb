"""Tower of a cube or store as the command line gives it, with its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_input, check_model
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.positions import Position
    from thalweg.gpp.data.features import FeatureRecipe
    from thalweg.gpp.data.footprint_choice import FootprintChoice
    from thalweg.gpp.data.gap_filling import GapFilling

Source = Annotated[
    Path, typer.Argument(help="a satellite cube (NetCDF, Zarr or a folder), or a store of `thalweg earth embed`")
]
Radius = Annotated[
    float | None,
    typer.Option(help="radius around the tower, m: 100 by default, or what holds 80 % of a footprint from wind"),
]
FootprintOption = Annotated[
    str,
    typer.Option(
        "--footprint",
        help="kljun (Kljun et al. 2015, from half-hourly wind), disc, or auto: kljun where the flux file and the "
        "tower's height allow it",
    ),
]
MeasurementHeight = Annotated[
    float | None, typer.Option("--measurement-height", help="height of the anemometer above the ground, m")
]
CanopyHeight = Annotated[float | None, typer.Option("--canopy-height", help="height of the canopy, m; 0 by default")]
BoundaryLayer = Annotated[
    float | None,
    typer.Option("--boundary-layer-height", help="height of the boundary layer, m; estimated by default"),
]
Flux = Annotated[
    Path | None, typer.Option(help="flux file or daily table; its target and meteorology are joined by day")
]
Site = Annotated[str | None, typer.Option(help="name of the site; selects one of a flux file with several sites")]
EmbeddingModel = Annotated[Path | None, typer.Option(help="folder of the embedding model; the shipped by default")]


@dataclass(frozen=True)
class TowerRequest:
    """Tower of a cube or store, and its flux file, as the command line gives them.

    Attributes:
        source: Satellite cube or embedding store.
        position: Position of the tower; None for a map.
        radius: Radius around the tower in m; None for the default of the footprint.
        flux: Flux file or daily table of the tower.
        gpp_column: Column of the target in the flux file.
        site: Name of the site.
        embedding_model: Folder of the model that embeds a cube; None for the shipped weights.
        assume_clear: Take a cube without a cloud mask as clear everywhere.
        target: FluxTarget of the flux file; None for GPP.
        footprint: Footprint of the tower.
    """

    source: Path
    position: "Position | None"
    radius: float | None
    flux: Path | None
    gpp_column: str | None
    site: str | None
    embedding_model: Path | None
    assume_clear: bool
    target: str | None
    footprint: "FootprintChoice"

    def check_inputs(self) -> None:
        """Check the request before anything is opened.

        Raises:
            MissingPathError: a file or folder does not exist.
            UsageError: a column of a flux file without a flux file.
        """
        check_input(self.source)
        check_model(self.embedding_model)
        if self.flux is not None:
            check_input(self.flux)
        elif self.gpp_column is not None:
            raise UsageError("expected `flux` with `gpp_column`, which is a column of a flux file")

    def open(self) -> "Cube | xr.Dataset":
        """Open the cube or store."""
        from thalweg.gpp.data.features import open_source

        return open_source(self.source, self.assume_clear)

    def table(self, size: int, gap_filling: "GapFilling") -> "tuple[pd.DataFrame, FeatureRecipe]":
        """Return the tower's daily table and its recipe, with the flux file joined."""
        from thalweg.earth.model.earth_model import EarthModel
        from thalweg.gpp.data.features import join_flux, tower_table
        from thalweg.gpp.data.fluxnet import FluxConfig, read_flux
        from thalweg.gpp.footprint.footprint import Tower

        assert self.position is not None
        opened = self.open()
        config = FluxConfig(gpp_column=self.gpp_column, target=self.target)
        measured = None if self.flux is None else read_flux(self.flux, config)
        flow, reason = self.footprint.flow(self.flux, self.site, gap_filling, config.quantity)
        table, recipe = tower_table(
            opened,
            Tower(self.position, self.radius, flow, self.footprint.heights),
            self.site or self.source.stem,
            EarthModel.load(self.embedding_model),
            size,
            gap_filling,
            self.source.name,
        )
        if reason:
            recipe = recipe.model_copy(update={"footprint_details": f"{recipe.footprint_details} ({reason})"})
        if self.flux is None or measured is None:
            return table, recipe
        return join_flux(table, recipe, measured, self.site, self.flux.name)
