from .climatology import SMOOTHING_DAYS, day_of_year
from .features import (
    FeatureRecipe,
    join_flux,
    model_columns,
    open_source,
    read_tables,
    reconstructed_bands,
    tower_table,
    write_table,
)
from .fluxnet import FluxConfig, Partitioning, read_flux
from .gap_filling import GapFilling, check_gap_filling, fill_to_days
from .radiation import potential_radiation
from .simulated_towers import SimulatedTower, TowerSite, simulate_tower, tower_sites
from .windows import DAYS, MEANS, Windows, make_windows

__all__ = [
    "DAYS",
    "MEANS",
    "SMOOTHING_DAYS",
    "FeatureRecipe",
    "FluxConfig",
    "GapFilling",
    "Partitioning",
    "SimulatedTower",
    "TowerSite",
    "Windows",
    "check_gap_filling",
    "day_of_year",
    "fill_to_days",
    "join_flux",
    "make_windows",
    "model_columns",
    "open_source",
    "potential_radiation",
    "read_flux",
    "read_tables",
    "reconstructed_bands",
    "simulate_tower",
    "tower_sites",
    "tower_table",
    "write_table",
]
