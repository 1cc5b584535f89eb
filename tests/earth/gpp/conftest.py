from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.earth.gpp.radiation import potential_radiation
from thalweg.earth.gpp.tables import daily_table

FLUX = Path(__file__).parents[4] / "shared" / "flux"


@pytest.fixture(scope="session")
def flux() -> Path:
    if not FLUX.is_dir():
        pytest.skip("the real flux files are not beside the repository (shared/flux)")
    return FLUX


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pd.DataFrame]:
    """A daily table whose GPP follows radiation and a lagged, site-independent signal, with noise."""

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
