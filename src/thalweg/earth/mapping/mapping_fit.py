"""Fit of a mapping model to the labelled pixels of a store, with everything that its report says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.mapping.features.feature_plan import FeaturePlan, FeatureReader
from thalweg.earth.mapping.labels.label_pixels import LabelPixels, label_pixels
from thalweg.earth.mapping.learning.applicability import Applicability
from thalweg.earth.mapping.learning.conformal import (
    interval_half_width,
    label_weights,
    plausible_classes,
    set_threshold,
)
from thalweg.earth.mapping.learning.cross_validation import CrossValidation, cross_validate, learning_curve, score
from thalweg.earth.mapping.learning.learners import learners
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.learning.single_threaded import single_threaded
from thalweg.earth.mapping.learning.spatial_blocks import SpatialBlocks
from thalweg.earth.mapping.mapping_config import MappingConfig, window_side
from thalweg.earth.mapping.output.prediction_windows import sampled_shares
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import geopandas
    import xarray as xr


@dataclass(frozen=True, eq=False)
class MappingFit:
    """Mapping model and how it was found.

    Attributes:
        model: the model.
        reader: reader of its features from the store that it learned from.
        labels: labelled pixels with an embedding.
        blocks: their spatial blocks.
        validation: cross-validation over the blocks.
        curve: learning curve: share of the training blocks, mean number of training pixels, and score.
        side: side of the windows to map, in pixels.
        coverage: share of the labelled pixels whose class lies in the set, or number in the interval, with a threshold
            from the other folds.
        notes: sentences on what was left out.
    """

    model: MappingModel
    reader: FeatureReader
    labels: LabelPixels
    blocks: SpatialBlocks
    validation: CrossValidation
    curve: tuple[tuple[float, float, float], ...]
    side: int
    coverage: float
    notes: tuple[str, ...]

    @property
    def score(self) -> float:
        """Macro F1, or R2, of the labelled pixels in blocks that the learner did not see."""
        predicted = self.validation.predicted
        known = np.isfinite(predicted.reshape(len(predicted), -1)[:, 0])
        return score(self.labels.values[known], predicted[known], len(self.model.classes))


@single_threaded()
def fit_mapping(
    dataset: "xr.Dataset",
    labels: "geopandas.GeoDataFrame",
    column: str,
    is_class: bool,
    config: MappingConfig | None = None,
    name: str = "labels",
) -> MappingFit:
    """Fit a mapping model.

    Args:
        dataset: embeddings, dims (time, embedding, y, x).
        labels: points and polygons in any reference system.
        column: column of the labels: classes, or numbers.
        is_class: whether the labels are classes.
        config: settings.
        name: name of the labels for messages.

    Raises:
        UsageError: The labels, the calendar or a setting is not usable; the message says which and what to do.
    """
    config = config or MappingConfig()
    learners(config.learner, is_class, 0)  # an unknown name is refused before anything is read
    plan = FeaturePlan.of(dataset, config.calendar, config.date)
    found = label_pixels(dataset, labels, column, is_class, name)
    side = window_side(plan, config.memory, len(found))
    SpatialBlocks.of(found, config.block)  # labels in too few blocks are refused before the features are read
    reader = plan.reader(dataset)
    features = reader.pixels(found.rows, found.columns)
    found, features, notes = _with_embedding(found, features, name)
    blocks = SpatialBlocks.of(found, config.block)
    classes = len(found.classes)
    rarest = int(np.bincount(found.values).min()) if is_class else len(found)
    candidates = learners(config.learner, is_class, rarest)
    validation = cross_validate(features, found.values, blocks.groups, candidates, classes, config.seed)
    if len(np.unique(validation.folds[validation.folds >= 0])) < 2:
        raise UsageError(f"{name}: every class lies in one block of {blocks.side} px: label each in several places")
    notes += _untested(found, blocks)
    best = validation.best
    model = MappingModel(
        column=column,
        classes=found.classes,
        plan=plan,
        estimator=best.fit(features, found.values, config.seed),
        learner=best.title,
        threshold=0.0,
        applicability=Applicability.of(features, blocks.groups),
        pixels=len(found),
        seed=config.seed,
    )
    weights = None
    if is_class:
        weights = label_weights(found.values, sampled_shares(model, reader, side))
    threshold = _threshold(validation.predicted, found.values, weights)
    coverage = _coverage(validation, found.values, weights)
    curve = learning_curve(features, found.values, blocks.groups, best, classes, config.seed)
    return MappingFit(model.with_threshold(threshold), reader, found, blocks, validation, curve, side, coverage, notes)


def _with_embedding(
    labels: LabelPixels, features: NDArray[np.floating], name: str
) -> tuple[LabelPixels, NDArray[np.floating], tuple[str, ...]]:
    """Return the labelled pixels with finite features, and notes on what was left out so far.

    Raises:
        UsageError: None has, or a class has none.
    """
    known = np.isfinite(features).all(1)
    if not known.any():
        raise UsageError(f"{name}: no labelled pixel has an embedding on the chosen dates: choose others")
    notes = list(labels.notes)
    if not known.all():
        notes.append(f"{(~known).sum()} labelled pixels without an embedding on the chosen dates were left out.")
    kept = labels.subset(known)
    if labels.classes:
        missing = sorted(set(range(len(labels.classes))) - set(kept.values.tolist()))
        if missing:
            raise UsageError(
                f"{name}: no pixel of class {labels.classes[missing[0]]} has an embedding on the chosen dates: choose "
                "others, or leave the class out"
            )
    return kept, features[known], tuple(notes)


def _untested(labels: LabelPixels, blocks: SpatialBlocks) -> tuple[str, ...]:
    """Return a note on the classes that lie in one block only."""
    alone = [
        name for code, name in enumerate(labels.classes) if len(np.unique(blocks.groups[labels.values == code])) == 1
    ]
    if not alone:
        return ()
    return (f"In one block only, so that their scores are 0 and say nothing: {', '.join(alone)}.",)


def _threshold(predicted: NDArray[np.floating], values: NDArray, weights: NDArray | None) -> float:
    """Return the largest score of a plausible class, or the half-width of the interval around a number."""
    is_known = np.isfinite(predicted if weights is None else predicted[:, 0])
    if weights is None:
        return interval_half_width((values - predicted)[is_known])
    return set_threshold(predicted[is_known], values[is_known], weights[is_known])


def _coverage(validation: CrossValidation, values: NDArray, weights: NDArray | None) -> float:
    """Return the weighted share of labelled pixels that sets, or intervals, of the other folds' threshold hold."""
    held = np.full(len(values), np.nan)
    for fold in np.unique(validation.folds[validation.folds >= 0]):
        own, others = validation.folds == fold, (validation.folds != fold) & (validation.folds >= 0)
        predicted = validation.predicted[others]
        limit = _threshold(predicted, values[others], None if weights is None else weights[others])
        if weights is None:
            held[own] = np.abs(values - validation.predicted)[own] <= limit
        else:
            plausible = plausible_classes(validation.predicted[own], limit)
            held[own] = plausible[np.arange(own.sum()), values[own]]
    known = np.isfinite(held)
    return float(np.average(held[known], weights=None if weights is None else weights[known]))
