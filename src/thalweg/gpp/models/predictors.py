"""Sets of predictors: the columns of a daily table that a model predicts from, and the sets that a report compares."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.tables.daily_table import feature_columns
from thalweg.gpp.tables.physical_limits import METEOROLOGY_COLUMN, POTENTIAL_RADIATION

_EMBEDDING = re.compile(r"e\d+$")
_REMEDIES = {"potential radiation": "; list the sites with their latitude (site, lat) in towers.csv next to the files"}
_NUM_COMPONENTS = 7  # of the bands, where the table has no embedding to take the number from


@dataclass(frozen=True)
class PredictorSet:
    """Named set of predictors.

    Attributes:
        name: Name in reports.
        columns: Columns of the daily table.
        reduced: Those of ``columns`` that are replaced by their first principal components, fitted on training days.
        components: Number of principal components; 0 replaces nothing.
    """

    name: str
    columns: tuple[str, ...]
    reduced: tuple[str, ...] = ()
    components: int = 0

    def reduce(self, training: Windows, held_out: Windows) -> tuple[Windows, Windows]:
        """Replace the columns ``reduced`` by their principal components, fitted on the days of the training part.

        Args:
            training: Windows of the training part.
            held_out: Windows of the held-out part, over the same days.

        Returns:
            Both with the features ``component_1``, ... first; unchanged where ``components`` is 0.
        """
        if not self.components:
            return training, held_out
        names = training.features
        chosen = np.isin(names, self.reduced)
        daily = training.daily
        known = daily[training.covered][:, chosen]
        known = known[np.isfinite(known).all(1)]
        pca = PrincipalComponents.fit(known, self.components, standardise=True)
        components = pca.transform(daily[:, chosen], axis=-1)
        others = (name for name, here in zip(names, chosen, strict=True) if not here)
        features = (*(f"component_{index + 1}" for index in range(self.components)), *others)
        changed = np.concatenate([components.astype(np.float32), daily[:, ~chosen]], 1)
        return replace(training, features=features, daily=changed), replace(held_out, features=features, daily=changed)


def with_indices(table: pd.DataFrame) -> pd.DataFrame:
    """Add NDVI, EVI, NIRv and kNDVI where the table has the bands B02, B04 and B08 (reflectance) but not the index."""
    from thalweg.earth.indices import INDICES

    missing = [name for name in INDICES if name not in table]
    if not missing or not {"B02", "B04", "B08"} <= set(table):
        return table
    wider = table.assign(**{name: values for name, values in vegetation_indices(table).items() if name in missing})
    wider.attrs = dict(table.attrs)
    return wider


def vegetation_indices(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Compute NDVI, EVI, NIRv and kNDVI from the columns B02, B04 and B08 (reflectance as a fraction)."""
    from thalweg.earth.indices import INDICES, spectral_index

    columns = {"blue": "B02", "red": "B04", "nir": "B08"}
    bands = {common: table[name].to_numpy(float) for common, name in columns.items()}
    return {name: spectral_index(name, bands) for name in INDICES}


def predictor_sets(table: pd.DataFrame, shared: Sequence[str] = ()) -> tuple[list[PredictorSet], list[str]]:
    """Return the sets of predictors that a report compares, as far as the table has their columns.

    Args:
        table: Daily table. The dimensions of an embedding are named e1, e2, ..., bands and indices by their names,
            meteorology and potential radiation as in FLUXNET.
        shared: Columns that are added to every set, such as vegetation classes and constants of the site.

    Returns:
        The sets: potential radiation, meteorology, indices, bands, radar bands only, optical bands only, as many
        principal components of the bands as the embedding has dimensions, and the embedding, those of satellites with
        and without radiation; and one line per set that the table has no columns for.

    Raises:
        UsageError: The table has no column of any set.
    """
    from thalweg.earth.indices import INDICES

    columns = feature_columns(table)
    radiation = tuple(name for name in columns if name == POTENTIAL_RADIATION)
    weather = tuple(name for name in columns if METEOROLOGY_COLUMN.match(name))
    radar, optical = SENTINEL_1.band_names, SENTINEL_2.band_names
    bands = tuple(name for name in columns if name in optical + radar)
    embedding = tuple(name for name in columns if _EMBEDDING.match(name))
    satellite = [
        PredictorSet("indices", tuple(name for name in columns if name in INDICES)),
        PredictorSet("bands, Sentinel-1 only", tuple(name for name in bands if name in radar)),
        PredictorSet("bands, Sentinel-2 only", tuple(name for name in bands if name in optical)),
        PredictorSet("bands", bands),
        PredictorSet("principal components", bands, bands, min(len(embedding) or _NUM_COMPONENTS, len(bands))),
        PredictorSet("embedding", embedding),
    ]
    if not (set(bands) & set(radar) and set(bands) & set(optical)):  # a single sensor: "only" would repeat "bands"
        satellite = [one for one in satellite if not one.name.endswith("only")]
    everything = PredictorSet("embedding, meteorology", embedding + weather if embedding and weather else ())
    wanted = [
        PredictorSet("potential radiation", radiation),
        PredictorSet("meteorology", weather),
        *satellite,
    ]
    with_radiation = [
        replace(one, name=f"{one.name}, potential radiation", columns=one.columns + radiation)
        for one in [wanted[1], *satellite, everything]
        if one.columns
    ]
    found = [one for one in wanted if one.columns] + (with_radiation if radiation else [])
    left_out = [
        f"{one.name}: the table has no such columns{_REMEDIES.get(one.name, '')}" for one in wanted if not one.columns
    ]
    if not found:
        raise UsageError(
            f"no columns to predict from: the table has {', '.join(columns) or 'none'}: expected an embedding's "
            f"dimensions (e1, ...), bands, indices, meteorology or {POTENTIAL_RADIATION}"
        )
    return [replace(one, columns=tuple(dict.fromkeys((*one.columns, *shared)))) for one in found], left_out
