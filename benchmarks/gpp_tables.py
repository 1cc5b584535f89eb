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
site out. Both models get the last day and means of 7, 30 and 90 days; the transformer also gets every day. Both are
ensembles whose members left out a group of sites. A site is predicted by members that left it out, and its GPP has no
part in model choice, early stopping or calibration. `coverage_90` is the coverage of the transformer's 90 % intervals.

    gpp_tables.py [--part hls|towers] [--flux FOLDER] [--chip-seeds 1] [--partitions 3] [--seeds 1] [--workers 2]
                  [--report FOLDER]
"""

from pathlib import Path

import pandas as pd
import torch

from common import SHARED, parser, report
from flux_chips import flux_chips
from thalweg.earth.model.earth_model import EarthModel
from thalweg.gpp.data.fluxnet import read_flux
from thalweg.gpp.evaluation.protocol import Evaluation, EvaluationConfig, evaluate
from thalweg.gpp.evaluation.report import mean_scores, write_report
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.models.registry import FEATURELESS, MODELS
from thalweg.gpp.tables.daily_table import feature_columns, with_vegetation_columns


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
        "--chip-seeds", type=int, default=1, help="runs on the chips, with other groups; scores are averaged"
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
        results |= flux_chips(chips, EarthModel.load(options.model), options.chip_seeds, options.workers)
    report(results, options.json)


if __name__ == "__main__":
    main()
