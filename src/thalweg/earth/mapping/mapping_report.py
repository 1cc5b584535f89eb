"""Report of a map: what it was learned from, how good it is on blocks that it did not see, and what it covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.learning.applicability import LIMIT_LEVELS
from thalweg.earth.mapping.learning.area_estimates import AreaEstimates, area_estimates, mean_estimate
from thalweg.earth.mapping.learning.cross_validation import score
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.mapping_fit import MappingFit
from thalweg.earth.mapping.output.mapping_figures import (
    draw_areas,
    draw_confusion,
    draw_learning_curve,
    draw_plausible,
    draw_scatter,
)
from thalweg.earth.mapping.output.prediction_windows import MapSummary
from thalweg.earth.positions import dataset_geobox

if TYPE_CHECKING:
    import xarray as xr

_SQUARE_METRES = 10_000
_LISTED = 12
"""Classes with their shares of the map in the report of an applied model."""


def write_fit_report(fit: MappingFit, summary: MapSummary, folder: Path) -> None:
    """Write `report.md` with its figures and tables to the folder of a map."""
    parts = _class_sections(fit, summary, folder) if fit.model.classes else _number_sections(fit, summary, folder)
    curve = fit.curve
    draw_learning_curve(curve, "macro F1" if fit.model.classes else "R$^2$", folder / "learning-curve.png")
    sections = [
        f"# Map of {fit.model.column}",
        _introduction(fit),
        *parts,
        "## Learning curve",
        _curve_text(curve),
        "![Learning curve](learning-curve.png)",
        "## Distance from the training pixels",
        _distance_text(fit.model, summary),
    ]
    (folder / "report.md").write_text("\n\n".join(sections) + "\n", "utf-8")


def applied_report(model: MappingModel, plan: FeaturePlan, summary: MapSummary, dataset: "xr.Dataset") -> str:
    """Return the report of a model that was applied to another store."""
    lines = [
        f"# Map of {model.column}",
        f"A model of {model.pixels} labelled pixels ({model.learner}), applied to {dataset.attrs['title']}. Features: "
        f"{plan.title}. {summary.mapped:,} of {summary.pixels:,} pixels have an embedding and a prediction.",
        "There are no labels here: the scores of the model's own report hold where pixels resemble its training "
        "pixels.",
        "## Distance from the training pixels",
        _distance_text(model, summary),
    ]
    if model.classes:
        hectares = mapped_hectares(dataset, summary)
        order = np.argsort(-summary.shares)[:_LISTED]
        rows = [[model.classes[index], f"{summary.shares[index] * hectares:,.1f}"] for index in order]
        lines += [
            "## Area on the map",
            markdown_lines(["class", "ha"], rows),
            "These are counts of pixels, which errors of the map bias; an estimate with an interval needs labels here.",
        ]
    return "\n\n".join(lines) + "\n"


def fit_areas(fit: MappingFit, summary: MapSummary) -> AreaEstimates:
    """Return the estimated shares of the area per class of a map."""
    predicted = fit.validation.predicted
    known = np.isfinite(predicted[:, 0])
    return area_estimates(
        summary.shares, predicted[known].argmax(1), fit.labels.values[known], fit.blocks.groups[known]
    )


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of each class on labelled pixels in blocks that the learner did not see, (C,) each.

    Attributes:
        precision: share of the pixels predicted as the class that are labelled so (user's accuracy).
        recall: share of the pixels labelled as the class that are predicted so (producer's accuracy).
        f1: harmonic mean of both.
        pixels: labelled pixels of the class.
        correct: share of all labelled pixels that are predicted as labelled.
    """

    precision: NDArray[np.floating]
    recall: NDArray[np.floating]
    f1: NDArray[np.floating]
    pixels: NDArray[np.integer]
    correct: float


def class_scores(fit: MappingFit) -> ClassScores:
    """Return the scores of each class of a fit."""
    from sklearn.metrics import precision_recall_fscore_support

    predicted = fit.validation.predicted
    known = np.isfinite(predicted[:, 0])
    truth, guess = fit.labels.values[known], predicted[known].argmax(1)
    precision, recall, f1, pixels = precision_recall_fscore_support(
        truth, guess, labels=range(len(fit.model.classes)), zero_division=0
    )
    return ClassScores(precision, recall, f1, pixels, float(np.mean(truth == guess)))


def confusion(fit: MappingFit) -> NDArray[np.int64]:
    """Return the confusion matrix (C, C): labels in rows, cross-validated predictions in columns."""
    known = np.isfinite(fit.validation.predicted[:, 0])
    table = np.zeros((len(fit.model.classes),) * 2, np.int64)
    np.add.at(table, (fit.labels.values[known], fit.validation.predicted[known].argmax(1)), 1)
    return table


def markdown_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _introduction(fit: MappingFit) -> str:
    choices = sorted({choice.title for choice in fit.validation.choices})
    text = (
        f"{fit.model.pixels} labelled pixels of {len(np.unique(fit.labels.features))} features in {fit.blocks.count} "
        f"blocks. Features: {fit.model.plan.title}. Learner: {fit.model.learner}, seed {fit.model.seed}.\n\n"
        f"**Blocks** of {fit.blocks.side} x {fit.blocks.side} px. {fit.blocks.reason} Every score below is of blocks "
        "that the learner was neither chosen nor fitted on (nested cross-validation; chosen in the folds: "
        f"{'; '.join(choices)})."
    )
    return "\n\n".join([text, *(f"- {note}" for note in fit.notes), "![Map](map.png)"])


def _class_sections(fit: MappingFit, summary: MapSummary, folder: Path) -> list[str]:
    classes, table = fit.model.classes, confusion(fit)
    draw_confusion(table, classes, folder / "confusion.png")
    _write_csv(folder / "confusion.csv", ["label", *classes], [[name, *map(str, row)] for name, row in
                                                               zip(classes, table, strict=True)])  # fmt: skip
    scores = class_scores(fit)
    rows = [
        [name, f"{f1:.3f}", f"{recall:.3f}", f"{precision:.3f}", str(int(pixels))]
        for name, f1, recall, precision, pixels in zip(
            classes, scores.f1, scores.recall, scores.precision, scores.pixels, strict=True
        )
    ]
    tested = [
        "## Scores",
        f"Macro F1 {fit.score:.3f}, {scores.correct:.1%} of the labelled pixels right.",
        markdown_lines(["class", "F1", "recall (producer's)", "precision (user's)", "pixels"], rows),
        "![Confusion matrix](confusion.png)",
        _candidates_text(fit, "macro F1"),
    ]
    return [*tested, *_area_sections(fit, summary, folder), *_set_sections(fit, summary, folder)]


def _area_sections(fit: MappingFit, summary: MapSummary, folder: Path) -> list[str]:
    classes, areas = fit.model.classes, fit_areas(fit, summary)
    hectares = mapped_hectares(fit.reader.dataset, summary)
    draw_areas(areas, classes, hectares, folder / "areas.png")
    numbers = np.stack([areas.mapped, areas.shares, areas.low, areas.high], 1) * hectares
    rows = [[name, *(f"{value:,.2f}" for value in row)] for name, row in zip(classes, numbers, strict=True)]
    plain = [[name, *(f"{value:.6g}" for value in row)] for name, row in zip(classes, numbers, strict=True)]
    _write_csv(folder / "areas.csv", ["class", "mapped_ha", "estimated_ha", "low_ha", "high_ha"], plain)
    return [
        "## Area",
        markdown_lines(["class", "on the map, ha", "estimate, ha", "from", "to"], rows),
        "![Area per class](areas.png)",
        "Stratified estimator (Olofsson et al. 2014): the strata are the classes of the map, the sample the labelled "
        "pixels as cross-validation predicted them; 90 % intervals, by the variance between blocks. **It holds if the "
        "labels of each stratum are a probability sample of it.** Labels that were collected where they were at hand, "
        "along roads or evenly over the classes, bias the areas by an amount that the interval does not show.",
    ]


def _set_sections(fit: MappingFit, summary: MapSummary, folder: Path) -> list[str]:
    draw_plausible(summary.plausible, folder / "plausible.png")
    single = summary.plausible[1] / max(summary.mapped, 1)
    return [
        "## Plausible classes",
        "`plausible.tif` holds the classes that are plausible at a pixel at 90 %: those with a probability of at least "
        f"{1 - fit.model.threshold:.3f}, and always the most probable. {single:.1%} of the map has one plausible "
        f"class. With the threshold from the other folds, the sets hold {fit.coverage:.1%} of the labels "
        "(classes count by their share of the map).",
        "![Number of plausible classes](plausible.png)",
    ]


def _number_sections(fit: MappingFit, summary: MapSummary, folder: Path) -> list[str]:
    known = np.isfinite(fit.validation.predicted)
    values, predicted = fit.labels.values[known], fit.validation.predicted[known]
    errors = predicted - values
    draw_scatter(values, predicted, fit.model.threshold, fit.model.column, folder / "scatter.png")
    mapped = summary.total / max(summary.mapped, 1)
    mean, half_width = mean_estimate(mapped, -errors, fit.blocks.groups[known])
    rows = [
        ["R2", f"{score(values, predicted, 0):.3f}"],
        ["RMSE", f"{np.sqrt(np.mean(errors**2)):.4g}"],
        ["MAE", f"{np.abs(errors).mean():.4g}"],
        ["bias", f"{errors.mean():.4g}"],
    ]
    return [
        "## Scores",
        markdown_lines(["score", "value"], rows),
        "![Labels against predictions](scatter.png)",
        _candidates_text(fit, "R2"),
        "## Intervals",
        f"The 90 % interval of a pixel is its number plus or minus {fit.model.threshold:.4g} (conformal)."
        f" With the half-width from the other folds, it holds {fit.coverage:.1%} of the labels.",
        "## Mean",
        f"{mean:.5g}, 90 % interval {mean - half_width:.5g} to {mean + half_width:.5g}; the mean of the map, corrected "
        f"by the mean error on the labels, is {mapped:.5g} without the correction. It holds if the labels are a "
        "probability sample of the map.",
    ]


def _candidates_text(fit: MappingFit, name: str) -> str:
    rows = [[choice.title, f"{choice.score:.3f}"] for choice in fit.validation.candidates if np.isfinite(choice.score)]
    if not rows:
        return "One learner with one setting: nothing was chosen."
    return f"Candidates on all labels, by which the learner was chosen:\n\n{markdown_lines(['learner', name], rows)}"


def _curve_text(curve: Sequence[tuple[float, float, float]]) -> str:
    rows = [[f"{share:.0%}", f"{size:.0f}", f"{found:.3f}"] for share, size, found in curve]
    return (
        f"{markdown_lines(['training blocks', 'pixels', 'score'], rows)}\n\nThe same blocks are tested throughout. If "
        "the curve still rises at its end, more labels will help."
    )


def _distance_text(model: MappingModel, summary: MapSummary) -> str:
    parts = [
        f"{share:.1%} of the mapped pixels are farther than {limit:.3g}, the {level:.0%} quantile of the training "
        "pixels"
        for share, limit, level in zip(summary.shares_beyond, model.applicability.limits, LIMIT_LEVELS, strict=True)
    ]
    return (
        f"`dissimilarity.tif` is the dissimilarity index (Meyer & Pebesma 2021): the distance to the nearest training "
        f"pixel over the mean distance between them. {'; '.join(parts)}, each measured to training pixels of other "
        "blocks. Beyond these limits the map is an extrapolation, and its scores do not hold."
    )


def mapped_hectares(dataset: "xr.Dataset", summary: MapSummary) -> float:
    """Return the mapped area in hectares."""
    grid = dataset_geobox(dataset)
    return abs(grid.resolution.x * grid.resolution.y) * summary.mapped / _SQUARE_METRES


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
