"""GPP on real tower tables: bands and embedding of single chips, and the temporal transformer on meteorology.

`hls_*`: 729 chip means of six HLS bands at 31 towers, each a single date. Sets of predictors: `bands`, `embedding` (32
dimensions of the shipped model; four of its ten bands and all other dates are missing), `embedding7` (the first 7),
`both` and `both7`, each with the day of year. Learners: random forest (`rf`), support vectors (`svr`), Gaussian process
(`gp`), LightGBM (`lgbm`). Leave one site out, nested: the settings, and whether indices are added, are chosen for a
group of sites on the other groups (`thalweg.gpp.evaluation.nested`), from the same grid for every set. `_low` and
`_high` are the 95 % bootstrap interval over draws of towers; `hls_lead_of_A_over_B_*` is a difference in R2, and
`hls_A_leads_B` is true if A is ahead with every learner. `hls_site_*_p25` etc. are quartiles over the towers with ten
chips or more.

`towers_*`: daily GPP of 30 towers from 90 days of ERA meteorology, potential radiation and the IGBP class, leave one
site out. The models get the last day and means of 7, 30 and 90 days; the transformer also gets every day, LightGBM the
day of the year; `site-level` is LightGBM relative to a level of the site, `stack` weighs these three. A site is
predicted by members that left its group out; its GPP has no part in settings, stopping, weights or intervals. `_low`
and `_high` are 95 % intervals over draws of towers; `towers_lead_of_A_over_lightgbm_*` are differences in R2. Three
keys are of the stack: `towers_loso_r2_q25`, the lower quartile over towers of their own R2; `towers_site_mean_r2`, the
R2 of the towers' means; `coverage_90`, the coverage of its 90 % intervals. The same exist with the name of each model.

    gpp_tables.py [--part hls|towers] [--flux FOLDER] [--chip-seeds 1] [--models transformer lightgbm ...]
                  [--partitions 3] [--seeds 1] [--workers 2] [--report FOLDER]
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from common import SHARED, parser, report
from flux_chips import flux_chips
from thalweg.earth.model.earth_model import EarthModel
from thalweg.gpp.data.fluxnet import read_flux
from thalweg.gpp.evaluation.protocol import Evaluation, EvaluationConfig, evaluate
from thalweg.gpp.evaluation.report import mean_scores, write_report
from thalweg.gpp.evaluation.site_draws import difference_table, error_table, quartile_table, scale_table
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.models.registry import FEATURELESS, MODELS, PHYSICAL
from thalweg.gpp.tables.daily_table import feature_columns, with_vegetation_columns

MODELS_SHOWN = ("transformer", "lightgbm", "site-level", "stack", "lue", "climatology")
"""Models by default; `site-level-transformer` takes as long as the transformer again."""
MAIN = "stack"
"""Model of the keys without a model's name."""


def towers(folder: Path, names: Sequence[str], partitions: int, seeds: int, workers: int) -> Evaluation:
    """Leave-one-site-out on the daily towers."""
    table, classes = with_vegetation_columns(read_flux(folder))
    predictors = PredictorSet("meteorology, potential radiation, vegetation", tuple(feature_columns(table)))
    assert set(classes) <= set(predictors.columns)
    models = {name: MODELS[name] for name in names}
    config = EvaluationConfig(
        seeds=tuple(range(seeds)), partitions=partitions, workers=workers, featureless=FEATURELESS, physical=PHYSICAL
    )
    return evaluate(
        table,
        [predictors],
        models,
        config,
        lambda done, total, last: print(f"towers: {done} of {total} models; {last}", flush=True),
    )


def tower_scores(evaluation: Evaluation) -> dict[str, float]:
    """The report's scores as JSON keys, means over seeds."""
    results: dict[str, float] = {}
    for row in mean_scores(evaluation).to_dict("records"):
        for score in ("r2", "rmse", "mae", "bias", "tail_rmse", "interval_width", "coverage"):
            results[f"towers_loso_{score}_{row['model']}"] = row[score]
        for score in ("week_r2", "season_r2", "seasonal_r2", "anomaly_r2", "year_r2", "site_mean_r2"):
            results[f"towers_{score}_{row['model']}"] = row[score]
        results["towers_days"] = row["days"]
    scales = scale_table(evaluation.predictions).groupby(["model", "scale"]).mean(numeric_only=True)
    for row in scales.reset_index().to_dict("records"):
        for bound in ("low", "high"):
            results[f"towers_{row['scale']}_r2_{row['model']}_{bound}"] = row[bound]
    gains = difference_table(evaluation.predictions, "lightgbm").groupby(["model", "scale"]).mean(numeric_only=True)
    for row in gains.reset_index().to_dict("records"):
        key = f"towers_lead_of_{row['model']}_over_lightgbm_{row['scale']}"
        results |= {key: row["difference"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
    errors = error_table(evaluation.predictions).groupby("model").mean(numeric_only=True)
    for row in errors.reset_index().to_dict("records"):
        for key in ("rmse_low", "rmse_high", "coverage_low", "coverage_high"):
            score, bound = key.split("_")
            results[f"towers_loso_{score}_{row['model']}_{bound}"] = row[key]
    quartiles = quartile_table(evaluation.predictions).groupby("model").mean(numeric_only=True)
    for row in quartiles.reset_index().to_dict("records"):
        for score in ("r2_p25", "r2_p50", "r2_p75", "rmse_p25", "rmse_p50", "rmse_p75", "coverage_min", "covered"):
            results[f"towers_site_{score}_{row['model']}"] = row[score]
    for key, name in (("towers_loso_r2_q25", "towers_site_r2_p25"), ("towers_site_mean_r2", "towers_site_mean_r2")):
        if f"{name}_{MAIN}" in results:
            results[key] = results[f"{name}_{MAIN}"]
    if f"towers_loso_coverage_{MAIN}" in results:
        results["coverage_90"] = results[f"towers_loso_coverage_{MAIN}"]
    return results


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--flux", type=Path, default=SHARED.parent / "flux", help="folder of the flux tables")
    arguments.add_argument(
        "--chip-seeds", type=int, default=1, help="runs on the chips, with other groups; scores are averaged"
    )
    arguments.add_argument("--models", nargs="+", default=MODELS_SHOWN, choices=MODELS, help="models on the towers")
    arguments.add_argument("--partitions", type=int, default=3, help="members per tower")
    arguments.add_argument("--seeds", type=int, default=1, help="runs on the towers; scores are averaged")
    arguments.add_argument("--workers", type=int, default=2, help="processes")
    arguments.add_argument("--part", choices=("hls", "towers"), help="only one of the two parts; both by default")
    arguments.add_argument("--report", type=Path, help="also write the towers' report folder here")
    options = arguments.parse_args()
    torch.set_num_threads(1)

    results: dict[str, float | str] = {}
    if options.part != "hls":
        evaluation = towers(options.flux / "daily", options.models, options.partitions, options.seeds, options.workers)
        results |= tower_scores(evaluation)
        if options.report is not None:
            write_report(evaluation, options.report, ["towers of ICOS Warm Winter 2020 and FLUXNET, 2015 to 2020"])
    if options.part != "towers":
        chips = pd.read_csv(options.flux / "hls_gpp.csv")
        results |= flux_chips(chips, EarthModel.load(options.model), options.chip_seeds, options.workers)
    report(results, options.json)


if __name__ == "__main__":
    main()
