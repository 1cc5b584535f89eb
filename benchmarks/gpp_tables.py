"""GPP on real tower tables: an embedding of single chips, and the temporal transformer on meteorology.

`hls_*`: 729 chip means of six HLS bands at 31 towers. The shipped model embeds each as one date without context (four
bands, the neighbours and all other dates are missing). The embedding is compared with bands, indices and day of year by
a random forest of 500 trees with at least 3 rows per leaf, leave one site out. The embedding has all 32 dimensions;
`..._7` are its first 7. `hls_lead_of_both_low` and `..._high` are the 95 % bootstrap interval over towers of the
difference in R2 between both together and the embedding alone: if it contains 0, other towers could reverse the order.

`towers_*`: daily GPP of 30 towers from 90 days of ERA meteorology, potential radiation and the IGBP class, leave one
site out. Both models get the last day and means of 7, 30 and 90 days; the transformer also gets every day. Both are
ensembles whose members left out a group of sites. A site is predicted by members that left it out, and its GPP has no
part in model choice, early stopping or calibration. `coverage_90` is the coverage of the transformer's 90 % intervals.

    gpp_tables.py [--part hls|towers] [--flux FOLDER] [--forest-seeds 1] [--partitions 3] [--seeds 1] [--workers 2]
                  [--report FOLDER]
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from common import SHARED, parser, report
from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD, SensorContext
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import SMALL_SIZE
from thalweg.earth.sensors import SENTINEL_2
from thalweg.gpp.data.fluxnet import read_flux
from thalweg.gpp.evaluation.protocol import Evaluation, EvaluationConfig, evaluate
from thalweg.gpp.evaluation.report import mean_scores, write_report
from thalweg.gpp.evaluation.scores import r_squared, r_squared_difference
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.models.registry import FEATURELESS, MODELS
from thalweg.gpp.tables.daily_table import feature_columns, with_vegetation_columns

HLS_BANDS = {"b2": "B02", "b3": "B03", "b4": "B04", "b5": "B8A", "b6": "B11", "b7": "B12"}
HLS_INDICES = ["NDVI", "EVI", "GCI", "NDWI", "NIRv", "kNDVI"]


@torch.inference_mode()
def embed_chips(chips: pd.DataFrame, model: EarthModel) -> NDArray[np.float32]:
    """Embed N chip means (reflectance), each a single pixel on a single date; (N, 32).

    The chips are placed on one grid, a receptive field apart, so that none is in the context of another.
    """
    side = int(np.ceil(len(chips) ** 0.5))
    size = side * RECEPTIVE_FIELD
    values = np.zeros((1, len(SENTINEL_2.bands), size, size), np.float32)
    valid = np.zeros((1, 1, size, size), np.float32)
    rows, columns = (HALO + RECEPTIVE_FIELD * index for index in np.divmod(np.arange(len(chips)), side))
    for column, band in HLS_BANDS.items():
        values[0, SENTINEL_2.band_names.index(band), rows, columns] = SENTINEL_2.scale(chips[column].to_numpy())
    valid[0, 0, rows, columns] = 1
    present = torch.from_numpy(np.isin(SENTINEL_2.band_names, list(HLS_BANDS.values())))
    context = SensorContext(torch.from_numpy(values), torch.from_numpy(valid), torch.zeros(1), present)
    embedded = model({SENTINEL_2.name: context}, torch.zeros(1)).values[0]
    return embedded[:, rows - HALO, columns - HALO].T.numpy()


def forest(predictors: NDArray, chips: pd.DataFrame, seed: int) -> NDArray:
    """Leave-one-site-out predictions of a random forest."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

    learner = RandomForestRegressor(500, min_samples_leaf=3, random_state=seed)
    found = cross_val_predict(
        learner, predictors, chips["GPP"], groups=chips["SITE_ID"], cv=LeaveOneGroupOut(), n_jobs=2
    )
    return np.asarray(found)


def hls(chips: pd.DataFrame, model: EarthModel, seeds: int) -> dict[str, float]:
    """Scores of the chip table, means over seeds of the forest."""
    angle = 2 * np.pi * chips["doy"].to_numpy() / 365.25
    season = np.stack([np.sin(angle), np.cos(angle)], 1)
    bands = np.column_stack([chips[list(HLS_BANDS)], chips[HLS_INDICES], season])
    embedded = embed_chips(chips, model)
    sets = {
        "embedding": np.column_stack([embedded, season]),
        "embedding_7": np.column_stack([embedded[:, :SMALL_SIZE], season]),
        "bands_vi_doy": bands,
        "both": np.column_stack([embedded, bands]),
        "both_7": np.column_stack([embedded[:, :SMALL_SIZE], bands]),
    }
    observed = chips["GPP"].to_numpy()
    results, found = {}, {}
    for name, predictors in sets.items():
        found[name] = np.stack([forest(predictors, chips, seed) for seed in range(seeds)])
        scores = [r_squared(observed, one) for one in found[name]]
        results[f"hls_loso_r2_{name}"] = float(np.mean(scores))
        errors = [np.sqrt(np.square(one - observed).mean()) for one in found[name]]
        results[f"hls_loso_rmse_{name}"] = float(np.mean(errors))
        print(f"{name}: R2 {', '.join(f'{score:.4f}' for score in scores)}", flush=True)
    for suffix in ("", "_7"):
        both, alone = found[f"both{suffix}"], found[f"embedding{suffix}"]
        low, high = r_squared_difference(observed, both, alone, chips["SITE_ID"].to_numpy())
        results |= {f"hls_lead_of_both{suffix}_low": low, f"hls_lead_of_both{suffix}_high": high}
    return results


def towers(folder: Path, partitions: int, seeds: int, workers: int) -> Evaluation:
    """Leave-one-site-out on the daily towers."""
    table, classes = with_vegetation_columns(read_flux(folder))
    predictors = PredictorSet("meteorology, potential radiation, vegetation", tuple(feature_columns(table)))
    assert set(classes) <= set(predictors.columns)
    models = {name: MODELS[name] for name in ("transformer", "boosting", "climatology")}
    config = EvaluationConfig(
        seeds=tuple(range(seeds)), partitions=partitions, workers=workers, featureless=FEATURELESS
    )
    return evaluate(
        table, [predictors], models, config, lambda done, total: print(f"towers: {done} of {total} models", flush=True)
    )


def tower_scores(evaluation: Evaluation) -> dict[str, float]:
    """The report's scores as JSON keys."""
    results = {}
    for row in mean_scores(evaluation).to_dict("records"):
        for score in ("r2", "rmse", "mae", "bias", "tail_rmse", "interval_width", "coverage"):
            results[f"towers_loso_{score}_{row['model']}"] = row[score]
        for score in ("anomaly_r2", "seasonal_r2"):
            results[f"towers_{score}_{row['model']}"] = row[score]
        if row["model"] == "transformer":
            results["coverage_90"] = row["coverage"]
        results["towers_days"] = row["days"]
    return results


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--flux", type=Path, default=SHARED.parent / "flux", help="folder of the flux tables")
    arguments.add_argument(
        "--forest-seeds", type=int, default=1, help="forests per set of predictors; scores are averaged"
    )
    arguments.add_argument("--partitions", type=int, default=3, help="members per tower")
    arguments.add_argument("--seeds", type=int, default=1, help="runs on the towers; scores are averaged")
    arguments.add_argument("--workers", type=int, default=2, help="processes")
    arguments.add_argument("--part", choices=("hls", "towers"), help="only one of the two parts; both by default")
    arguments.add_argument("--report", type=Path, help="also write the towers' report folder here")
    options = arguments.parse_args()
    torch.set_num_threads(1)

    results: dict[str, float | str] = {}
    if options.part != "hls":
        evaluation = towers(options.flux / "daily", options.partitions, options.seeds, options.workers)
        results |= tower_scores(evaluation)
        if options.report is not None:
            write_report(evaluation, options.report, ["towers of ICOS Warm Winter 2020 and FLUXNET, 2015 to 2020"])
    if options.part != "towers":
        chips = pd.read_csv(options.flux / "hls_gpp.csv")
        results |= hls(chips, EarthModel.load(options.model), options.forest_seeds)
    report(results, options.json)


if __name__ == "__main__":
    main()
