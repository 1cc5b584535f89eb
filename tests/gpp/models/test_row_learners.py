"""Learners for tables of single rows: every setting learns, and scaling treats sets of any size alike."""

import numpy as np
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.row_learners import ROW_LEARNERS, row_learners


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Features with two shared columns last, and a target that follows one column of each kind."""
    random = np.random.default_rng(0)
    features = random.normal(size=(240, 6)) * [1, 10, 0.1, 5, 1, 1] + [0, 3, 0, 100, 0, 0]
    return features, 4 + 2 * features[:, 0] + 2 * features[:, -1] + 0.1 * random.normal(size=len(features))


@pytest.mark.parametrize("name", ROW_LEARNERS)
def test_every_setting_learns(name, rows):
    features, target = rows
    made = row_learners(name, shared=2)
    assert len(made) >= 4
    for setting, make in made.items():
        predicted = make().fit(features[:200], target[:200]).predict(features[200:])
        assert predicted.shape == (40,)
        assert r_squared(target[200:], predicted) > 0.5, setting


@pytest.mark.parametrize("name", ["svr", "gp"])
def test_kernels_ignore_units_and_repeated_columns(name, rows):
    features, target = rows
    setting = next(key for key in row_learners(name, 2) if key.startswith("standardised"))
    repeated = np.hstack([np.repeat(1e3 * features[:, :-2] + 7, 5, axis=1), features[:, -2:]])
    predictions = [
        row_learners(name, 2)[setting]().fit(some[:200], target[:200]).predict(some[200:])
        for some in (features, repeated)
    ]
    np.testing.assert_allclose(*predictions, rtol=1e-3)


def test_an_unknown_learner_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match=r"learner 'svn': expected rf, svr, gp, lgbm; did you mean svr\?"):
        row_learners("svn", 2)
