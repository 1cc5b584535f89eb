"""Choice of a tower's footprint: that of Kljun et al. (2015) where the data allow it, or a disc."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from thalweg.errors import UsageError, unknown_name
from thalweg.gpp.data.gap_filling import GapFilling
from thalweg.gpp.flux.wind_records import read_wind
from thalweg.gpp.footprint.flow_records import FlowSeries
from thalweg.gpp.footprint.kljun import TowerHeights
from thalweg.gpp.tables.target_columns import GPP, FluxTarget

FootprintKind = Literal["auto", "kljun", "disc"]
"""Footprints by name; `auto` is `kljun` where heights and half-hourly wind are given, else `disc`."""


@dataclass(frozen=True)
class FootprintChoice:
    """Footprint that a user asks for.

    Attributes:
        kind: Key of the footprint.
        heights: Heights of the tower; None where they are not known.

    Raises:
        UsageError: The footprint is unknown, or heights are given for a disc.
    """

    kind: FootprintKind = "auto"
    heights: TowerHeights | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FootprintKind):
            raise unknown_name("footprint", self.kind, get_args(FootprintKind))
        if self.kind == "kljun" and self.heights is None:
            raise UsageError("footprint kljun: no height of the tower: give `measurement_height`, and `canopy_height`")
        if self.kind == "disc" and self.heights is not None:
            raise UsageError("footprint disc: it has no use for heights: leave them out, or choose kljun")

    def flow(
        self, flux: Path | None, site: str | None, gap_filling: GapFilling, target: FluxTarget = GPP
    ) -> tuple[FlowSeries | None, str]:
        """Read the wind and stability of the footprint.

        Args:
            flux: Flux file or folder of the tower.
            site: Site in a folder.
            gap_filling: Method of gap filling of the features.
            target: Target whose fluxes have the footprint.

        Returns:
            The records, or None for a disc with the reason, which is "" where it was asked for.

        Raises:
            UsageError: `kljun` was asked for and cannot be computed.
        """
        if self.heights is None:
            return None, ""
        if flux is None:
            reason = "no flux file: expected a half-hourly one (`flux`)"
        elif gap_filling != "linear":
            reason = f"gaps filled by {gap_filling}: expected linear for a footprint that varies by day"
        else:
            try:
                return read_wind(flux, site, target), ""
            except UsageError as error:
                reason = str(error)
        if self.kind == "kljun":
            raise UsageError(f"footprint kljun: {reason}")
        return None, reason


def footprint_choice(
    kind: str, measurement: float | None = None, canopy: float | None = None, boundary_layer: float | None = None
) -> FootprintChoice:
    """Return the choice of a footprint from single values.

    Args:
        kind: auto, kljun or disc.
        measurement: Height of the anemometer above the ground in m.
        canopy: Height of the canopy in m; 0 by default.
        boundary_layer: Height of the boundary layer in m; estimated by default.

    Raises:
        UsageError: A value is invalid, or other heights come without that of the anemometer.
    """
    if measurement is None and (canopy is not None or boundary_layer is not None):
        raise UsageError("no height of the tower: expected `measurement_height` with the other heights")
    heights = None if measurement is None else TowerHeights(measurement, canopy or 0.0, boundary_layer)
    return FootprintChoice(cast(FootprintKind, kind), heights)
