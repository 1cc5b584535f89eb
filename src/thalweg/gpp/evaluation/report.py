"""Report folder of an evaluation: scores as CSV and Markdown, scores by site, predictions and figures."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from thalweg.gpp.evaluation.protocol import Evaluation
from thalweg.gpp.evaluation.scores import UNITS, score_by_site, score_meanings
from thalweg.gpp.evaluation.site_draws import (
    MIN_COVERAGE,
    difference_table,
    error_table,
    quartile_table,
    scale_table,
)
from thalweg.gpp.evaluation.time_scales import SCALES
from thalweg.io.atomic import atomic_folder

_KEYS = ["split", "predictors", "model", "seed"]
_SPLITS = {
    "site": "Leave site out",
    "year": "Leave year out",
    "site-year": "Leave site and year out",
    "temperature": "From the cooler to the warmer sites",
}
REFERENCE = "lightgbm"
"""Model that a report compares the others with, where it was evaluated."""

_SHOWN = ["r2", "rmse", "mae", "bias", "nrmse_sd", "seasonal_r2", "anomaly_r2", "tail_rmse", "tail_bias", "coverage"]


def write_report(evaluation: Evaluation, folder: str | Path, notes: Sequence[str] = ()) -> Path:
    """Write a report folder atomically.

    The folder holds ``report.md``, ``scores.csv``, ``sites.csv`` (scores by site), ``scales.csv`` (R2 by time scale
    with intervals over draws of sites), ``errors.csv`` (RMSE and coverage with the same), ``differences.csv`` (R2 less
    that of LightGBM), ``quartiles.csv`` (over sites), ``predictions.csv``, and three figures of the best predictors and
    model of each split.

    Args:
        evaluation: Result of `evaluate`.
        folder: Folder to write; must not exist.
        notes: Lines at the beginning of the report: files that were read, values that were left out.

    Returns:
        The folder.

    Raises:
        UsageError: The folder exists.
        ThalwegError: The folder cannot be written.
    """
    from thalweg.gpp.evaluation.plots import error_by_month, observed_against_predicted, series_by_site

    with atomic_folder(folder) as unfinished:
        evaluation.scores.to_csv(unfinished / "scores.csv", index=False, float_format="%.5g")
        sites_table(evaluation).to_csv(unfinished / "sites.csv", index=False, float_format="%.5g")
        tables = {
            "scales": scale_table(evaluation.predictions),
            "errors": error_table(evaluation.predictions),
            "differences": difference_table(evaluation.predictions, REFERENCE),
            "quartiles": quartile_table(evaluation.predictions),
        }
        for name, table in tables.items():
            table.to_csv(unfinished / f"{name}.csv", index=False, float_format="%.5g")
        evaluation.predictions.to_csv(unfinished / "predictions.csv", index=False, float_format="%.5g")
        best = best_predictions(evaluation)
        for split, (title, predictions) in best.items():
            observed_against_predicted(
                predictions, unfinished / f"{split}-observed-predicted.png", title, evaluation.target
            )
            series_by_site(predictions, unfinished / f"{split}-series.png", title, evaluation.level, evaluation.target)
            error_by_month(predictions, unfinished / f"{split}-error-by-month.png", title, evaluation.target)
        (unfinished / "report.md").write_text(_markdown(evaluation, notes, best, tables))
    return Path(folder)


def sites_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return the scores by site of every split, set of predictors, model and seed."""
    parts = []
    for key, rows in evaluation.predictions.groupby(_KEYS, sort=False):
        sites = score_by_site(rows).reset_index()
        labels = pd.DataFrame([key] * len(sites), columns=_KEYS)
        parts.append(pd.concat([labels, sites], axis=1))
    return pd.concat(parts, ignore_index=True)


def best_predictions(evaluation: Evaluation) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return, by split, a title and the predictions of the predictors and model with the smallest RMSE."""
    found = {}
    for split, scores in evaluation.scores.groupby("split", sort=False):
        best = scores.sort_values("rmse").iloc[0]
        chosen = (evaluation.predictions[_KEYS] == best[_KEYS]).all(axis=1)
        title = f"{_SPLITS[str(split)]}: {best['model']} on {best['predictors']}"
        found[str(split)] = (title, evaluation.predictions[chosen])
    return found


def mean_scores(evaluation: Evaluation) -> pd.DataFrame:
    """Return mean scores over seeds, and the standard deviation of R2 between seeds (NaN with one seed)."""
    grouped = evaluation.scores.groupby(_KEYS[:-1], sort=False)
    table = grouped[[*UNITS]].mean()
    table.insert(1, "r2_between_seeds", grouped["r2"].std())
    return table.reset_index()


def _differences(differences: pd.DataFrame, split: str) -> list[str]:
    """Return the table of differences to the reference; nothing where it was not evaluated."""
    if not (differences["split"] == split).any():
        return []
    return [
        f"R2 less that of {REFERENCE} on the same predictors, over the same draws:",
        _wide(differences, split, "difference"),
    ]


def _wide(table: pd.DataFrame, split: str, value: str) -> str:
    """Return a Markdown table of values with their intervals, one column per time scale; the first seed only."""
    own = table[(table["split"] == split) & (table["seed"] == table["seed"].min())]
    cells = [f"{row[value]:.3f} ({row['low']:.3f} to {row['high']:.3f})" for row in own.to_dict("records")]
    wide = own.assign(cell=cells).pivot(index=["predictors", "model"], columns="scale", values="cell")
    return markdown_table(wide[[scale for scale in SCALES if scale in wide]].reset_index())


def markdown_table(table: pd.DataFrame) -> str:
    """Format a table as Markdown with numbers to three decimals."""
    header = [str(name) for name in table.columns]
    rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy()]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(
    evaluation: Evaluation,
    notes: Sequence[str],
    best: dict[str, tuple[str, pd.DataFrame]],
    tables: dict[str, pd.DataFrame],
) -> str:
    days = evaluation.predictions.drop_duplicates(["site", "time"])
    parts = [
        f"# Daily {evaluation.target.label}: evaluation",
        f"{days['site'].nunique()} sites, {len(days)} held-out days, {days['time'].min():%Y-%m-%d} to "
        f"{days['time'].max():%Y-%m-%d}. Every row is scored on the same days.",
        *([("\n".join(f"- {note}" for note in notes))] if notes else []),
    ]
    table = mean_scores(evaluation)
    for split, (title, _) in best.items():
        rows = table[table["split"] == split].sort_values("rmse")
        shown = rows[["predictors", "model", *_SHOWN]]
        if rows["r2_between_seeds"].notna().any():
            shown = shown.assign(r2_between_seeds=rows["r2_between_seeds"])
        parts += [
            f"## {_SPLITS[split]}",
            markdown_table(shown),
            "R2 by time scale, with its 95 % interval over draws of sites:",
            _wide(tables["scales"], split, "r2"),
            "RMSE and coverage, with their 95 % intervals over draws of sites:",
            markdown_table(tables["errors"].query("split == @split").drop(columns="split")),
            *_differences(tables["differences"], split),
            f"Quartiles over sites, and the share of sites whose coverage is at least {MIN_COVERAGE:.0%} (`covered`):",
            markdown_table(tables["quartiles"].query("split == @split").drop(columns="split")),
            f"![Observed against predicted]({split}-observed-predicted.png)",
            f"![Series by site]({split}-series.png)",
            f"![Error by month]({split}-error-by-month.png)",
            f"Figures: {title}.",
        ]
    parts += [
        "## Scores",
        "\n".join(f"- {name}: {meaning}" for name, meaning in score_meanings(evaluation.target.units).items()),
        f"The coverage of calibrated intervals is {evaluation.level:.0%}.",
    ]
    return "\n\n".join(parts) + "\n"
