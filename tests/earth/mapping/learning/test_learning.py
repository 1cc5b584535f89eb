"""Blocks, cross-validation, plausible classes, areas and distances, against what is known of them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mapping_scenes import mapping_scene, point_labels
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.labels.label_pixels import LabelPixels, label_pixels
from thalweg.earth.mapping.learning.applicability import Applicability
from thalweg.earth.mapping.learning.area_estimates import area_estimates, mean_estimate
from thalweg.earth.mapping.learning.conformal import (
    interval_half_width,
    label_weights,
    plausible_classes,
    set_threshold,
    weighted_quantile,
)
from thalweg.earth.mapping.learning.cross_validation import cross_validate, learning_curve
from thalweg.earth.mapping.learning.estimator_checks import check_estimator
from thalweg.earth.mapping.learning.learners import CLASSIFIERS, REGRESSORS, learners
from thalweg.earth.mapping.learning.mapping_model import MappingModel
from thalweg.earth.mapping.learning.spatial_blocks import SpatialBlocks, autocorrelation_range, block_folds
from thalweg.errors import MissingPathError, UsageError


def labels_at(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> LabelPixels:
    return LabelPixels("crop", rows, columns, np.arange(len(rows)), values, ("a", "b"), np.zeros(0), ())


def patchy_labels(patch: int, count: int = 900) -> LabelPixels:
    random = np.random.default_rng(3)
    rows, columns = random.integers(0, 240, (2, count))
    kinds = random.integers(0, 2, (240 // patch, 240 // patch))
    return labels_at(rows, columns, kinds[rows // patch, columns // patch])


def test_the_range_follows_the_size_of_the_patches() -> None:
    found = [autocorrelation_range(patchy_labels(patch)) for patch in (6, 24, 60)]
    assert found == sorted(found)
    assert 3 <= found[0] <= 8 and 12 <= found[1] <= 24 and 32 <= found[2] <= 64
    assert autocorrelation_range(patchy_labels(6, 8)) is None


def test_blocks_hold_whole_features_and_are_enough() -> None:
    labels = patchy_labels(24)
    blocks = SpatialBlocks.of(labels)
    assert 12 <= blocks.side <= 24
    assert "correlated over" in blocks.reason
    assert blocks.count == len(np.unique(labels.rows // blocks.side * 1000 + labels.columns // blocks.side))
    wide = LabelPixels("crop", np.arange(40), np.zeros(40, int), np.arange(40) // 10, np.arange(40) % 2, ("a", "b"),
                       np.zeros(0), ())  # fmt: skip
    groups = SpatialBlocks.of(wide, 8).groups
    assert all(len(np.unique(groups[wide.features == feature])) == 1 for feature in range(4))
    near = labels_at(np.array([1, 2, 9]), np.array([1, 2, 3]), np.array([0, 1, 0]))
    with pytest.raises(UsageError, match=r"the labels lie in 2 block\(s\) of 8 px: expected at least 3"):
        SpatialBlocks.of(near)


def test_folds_never_split_a_block() -> None:
    groups = np.repeat(np.arange(12), 5)
    values = np.arange(60) % 3
    tested = []
    for training, test in block_folds(groups, values):
        assert not set(groups[training]) & set(groups[test])
        tested += test.tolist()
    assert sorted(tested) == list(range(60))


def test_classes_of_one_pixel_each_make_no_folds() -> None:
    assert not list(block_folds(np.arange(3), np.arange(3)))
    assert len(list(block_folds(np.arange(5), np.array([0, 0, 1, 1, 2])))) == 2


@pytest.mark.parametrize("learner", [*CLASSIFIERS, *REGRESSORS], ids=lambda one: one.make.__name__)
def test_learners_predict_blocks_that_they_did_not_see_and_can_be_saved(learner: object, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    is_class = learner in CLASSIFIERS
    values = np.arange(90) % 3
    features = (np.eye(3)[values] @ random.normal(size=(3, 5)) * 2 + random.normal(size=(90, 5))).astype(np.float32)
    targets = values if is_class else features[:, 0] + 0.1 * random.normal(size=90)
    groups = np.arange(90) // 6
    found = cross_validate(features, targets, groups, [learner], 3 if is_class else 0, 7)
    right = found.predicted.argmax(1) == values if is_class else np.abs(found.predicted - targets) < 1.5
    assert right.mean() > 0.75
    plan = FeaturePlan(("2018-03-01",), False, 5, "scene")
    model = MappingModel(
        column="crop", classes=("a", "b", "c") if is_class else (), plan=plan,
        estimator=found.best.fit(features, targets, 7), learner="learner", threshold=0.5,
        applicability=Applicability.of(features, groups), pixels=90, seed=7,
    )  # fmt: skip
    model.save(tmp_path / "model.skops")
    loaded = MappingModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(features), model.predict(features))
    assert (loaded.plan, loaded.threshold, loaded.classes) == (plan, 0.5, model.classes)


def test_scores_are_deterministic_and_the_curve_rises() -> None:
    random = np.random.default_rng(8)
    values = np.arange(90) % 3
    features = (1.5 * np.eye(3)[values] + random.normal(size=(90, 3))).astype(np.float32)
    groups = np.arange(90) // 6
    found = [cross_validate(features, values, groups, CLASSIFIERS[:1], 3, 0) for _ in range(2)]
    np.testing.assert_array_equal(found[0].predicted, found[1].predicted)
    curve = learning_curve(features, values, groups, found[0].best, 3, 0)
    assert [share for share, *_ in curve] == [0.25, 0.5, 0.75, 1.0]
    assert curve[0][2] < curve[-1][2]


def test_labels_do_not_change_the_predictions_of_their_own_block() -> None:
    random = np.random.default_rng(1)
    features, values = random.normal(size=(60, 4)), random.normal(size=60)
    groups = np.arange(60) // 5
    before = cross_validate(features, values, groups, REGRESSORS[:1], 0, 0)
    block = groups == 3
    after = cross_validate(features, np.where(block, 100.0, values), groups, REGRESSORS[:1], 0, 0)
    np.testing.assert_array_equal(before.predicted[block], after.predicted[block])
    others = before.folds != before.folds[block][0]
    assert (before.predicted[others] != after.predicted[others]).all()


def test_foreign_types_in_a_model_file_are_refused(tmp_path: Path) -> None:
    from skops.io import dump

    dump({"card": "{}", "estimator": Fraction(1, 2)}, tmp_path / "model.skops")
    with pytest.raises(UsageError, match=r"holds fractions\.Fraction: no mapping model has these, do not trust it"):
        MappingModel.load(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"noise")
    with pytest.raises(UsageError, match="not a mapping model"):
        MappingModel.load(tmp_path / "model.skops")
    with pytest.raises(MissingPathError, match="no such mapping model"):
        MappingModel.load(tmp_path / "nothing")


def test_a_forged_tree_is_refused() -> None:
    features, values = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    for learner in CLASSIFIERS[1:3]:
        estimator = learner.make(learner.settings[0], 0).fit(features, values)
        check_estimator(estimator, 4, 2)
        if learner.name == "forest":
            tree = estimator.estimators_[3].tree_
            state = tree.__getstate__()
            state["nodes"]["left_child"][0] = 10_000
            tree.__setstate__(state)
        else:
            estimator._predictors[3][0].nodes["feature_idx"][0] = 77
        with pytest.raises(UsageError, match="a tree whose nodes point outside of it"):
            check_estimator(estimator, 4, 2)
    with pytest.raises(UsageError, match="of other features than the 5"):
        check_estimator(CLASSIFIERS[0].make({"C": 1.0}, 0).fit(features, values), 5, 2)
    with pytest.raises(UsageError, match="a learner of type Fraction"):
        check_estimator(Fraction(1, 2), 4, 2)


def test_few_labels_in_few_blocks_are_enough() -> None:
    features, values, groups = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 2, np.arange(6) // 2
    found = cross_validate(features, values, groups, CLASSIFIERS[3:], 2, 0)
    assert np.isfinite(found.predicted).all()


def test_an_unknown_learner_is_named() -> None:
    with pytest.raises(UsageError, match=r"learner 'forrest': expected auto, logistic, .*did you mean forest"):
        learners("forrest", True, 100)
    assert "boosting" not in [one.name for one in learners("auto", True, 5)]


def test_learners_compute_with_one_thread() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    from thalweg.earth.mapping.learning.single_threaded import single_threaded

    with threadpool_limits(2):
        with single_threaded():
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
            assert any("sklearn" in pool["filepath"] or pool["user_api"] == "openmp" for pool in threadpool_info())
        assert 2 in {pool["num_threads"] for pool in threadpool_info()}


def test_sets_hold_the_class_as_often_as_they_say() -> None:
    random = np.random.default_rng(2)
    hits = []
    for _ in range(60):
        values = random.integers(0, 4, 300)
        logits = 1.2 * np.eye(4)[values] + random.normal(size=(300, 4))
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        shown = slice(0, 60)
        weights = label_weights(values[shown], np.full(4, 0.25))
        limit = set_threshold(chances[shown], values[shown], weights)
        hits.append(plausible_classes(chances[60:], limit)[np.arange(240), values[60:]].mean())
    assert 0.88 < np.mean(hits) < 0.93


def test_weights_restore_the_shares_of_the_map() -> None:
    values = np.array([0, 0, 0, 1])
    weights = label_weights(values, np.array([0.1, 0.9]))
    assert weights.sum() == pytest.approx(1)
    assert weights[values == 1].sum() == pytest.approx(0.9)
    assert weighted_quantile(np.arange(10.0), np.ones(10), 0.9) == pytest.approx(8.5)
    assert interval_half_width(np.array([-3.0, 1.0, 2.0]), 0.5) == pytest.approx(2.0)


def test_areas_hold_the_truth_and_correct_a_biased_map() -> None:
    random = np.random.default_rng(4)
    true = np.array([0.55, 0.3, 0.15])
    confusion = np.array([[0.85, 0.1, 0.05], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]])
    mapped = true @ confusion
    hits, errors = [], []
    for _ in range(300):
        truth = random.choice(3, 150, p=true)
        predicted = np.array([random.choice(3, p=confusion[one]) for one in truth])
        found = area_estimates(mapped, predicted, truth, np.arange(150))
        hits.append((found.low <= true) & (true <= found.high))
        errors.append(found.shares - true)
    assert (np.mean(hits, 0) > 0.85).all()
    assert np.abs(np.mean(errors, 0)).max() < 0.01 < np.abs(mapped - true).max()


def test_intervals_of_areas_are_wider_where_labels_cluster() -> None:
    random = np.random.default_rng(5)
    kind = np.repeat(random.integers(0, 2, 30), 10)
    predicted = np.where(random.random(30).repeat(10) < 0.2, 1 - kind, kind)
    shares = np.array([0.5, 0.5])
    alone = area_estimates(shares, predicted, kind, np.arange(300)).half_widths
    clustered = area_estimates(shares, predicted, kind, np.arange(300) // 10).half_widths
    assert (clustered > 2 * alone).all()


def test_the_mean_is_corrected_by_the_error_on_the_labels() -> None:
    errors = np.random.default_rng(6).normal(0.5, 0.1, 100)
    mean, half_width = mean_estimate(2.0, errors, np.arange(100))
    assert mean == pytest.approx(2.5, abs=0.03)
    assert 0.01 < half_width < 0.03


def test_distances_grow_away_from_the_training_pixels() -> None:
    random = np.random.default_rng(7)
    training = random.normal(size=(200, 6))
    found = Applicability.of(training, np.arange(200) // 10)
    assert found.limits[0] < found.limits[1]
    share = (found.index(random.normal(size=(2000, 6))) > found.limits[0]).mean()
    assert 0.01 < share < 0.12
    assert (found.index(random.normal(size=(50, 6)) + 6) > found.limits[1]).all()


def test_scene_labels_have_blocks() -> None:
    labels = label_pixels(mapping_scene(dates=2), point_labels(), "crop", True)
    assert SpatialBlocks.of(labels).count >= 3
