from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.gpp.data.features import FeatureRecipe
from thalweg.gpp.data.radiation import potential_radiation
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.models.checkpoint import save_model
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.transformer import TransformerConfig, TransformerLearner
from thalweg.gpp.tables.daily_table import daily_table

FLUX = Path(__file__).parents[3] / "shared" / "flux"


@pytest.fixture(scope="session")
def flux() -> Path:
    if not FLUX.is_dir():
        pytest.skip("the real flux files are not next to the repository (shared/flux)")
    return FLUX


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    """Function that makes a daily table: GPP follows radiation and a lagged signal common to all sites, with noise."""

    def make(sites: int = 6, years: int = 2, noise: float = 0.3, seed: int = 0) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        time = pd.date_range("2017-01-01", periods=365 * years).to_numpy()
        parts = []
        for index in range(sites):
            latitude = 40.0 + 3 * index
            light = potential_radiation(latitude, time)
            wet = np.convolve(random.normal(size=len(time) + 29), np.ones(30) / 30**0.5, "valid")
            gpp = light / 40 * (1 + 0.3 * wet) + noise * random.normal(size=len(time))
            parts.append(
                pd.DataFrame(
                    {
                        "site": f"S{index}", "time": time, "gpp": gpp, "latitude": latitude,
                        "vegetation": "ENF" if index % 2 else "DBF", "SW_IN_POT": light, "wet": wet,
                    }
                )
            )  # fmt: skip
        return daily_table(pd.concat(parts))

    return make


@pytest.fixture(scope="session")
def embedded(cube: Cube, model: EarthModel) -> xr.Dataset:
    """Embeddings of the small landscape."""
    return embed(cube, model)


@pytest.fixture(scope="session")
def embedding_store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of the small landscape as a store."""
    return embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("store") / "embeddings.zarr")


@pytest.fixture(scope="session")
def recipe(model: EarthModel) -> FeatureRecipe:
    return FeatureRecipe(embedding_model=model.identifier, size=7, gap_filling="linear")


@pytest.fixture(scope="session")
def fitted(make_table: Callable[..., pd.DataFrame]) -> tuple[Ensemble, Windows]:
    """Tiny ensemble of transformers on seven random dimensions of an embedding and potential radiation."""
    table = make_table(sites=4, years=1)
    random = np.random.default_rng(1)
    for index in range(7):
        table[f"e{index + 1}"] = table["gpp"] * random.normal() / 4 + random.normal(size=len(table))
    windows = make_windows(table, [*(f"e{index + 1}" for index in range(7)), "SW_IN_POT"])
    return Ensemble({"tiny": tiny_transformer}, members=2).fit(windows), windows


def tiny_transformer(seed: int) -> TransformerLearner:
    return TransformerLearner(seed, TransformerConfig(width=8, heads=2, epochs=1))


@pytest.fixture(scope="session")
def gpp_model(
    fitted: tuple[Ensemble, Windows], recipe: FeatureRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("gpp") / "model"
    save_model(*fitted, recipe, folder)
    return folder
