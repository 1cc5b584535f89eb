import pytest

from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.evaluation.cost import count_fits, estimate_seconds
from thalweg.gpp.evaluation.protocol import EvaluationConfig
from thalweg.gpp.models.predictors import PredictorSet
from thalweg.gpp.models.registry import climatology, ridge

LIGHT = PredictorSet("light", ("SW_IN_POT",))


@pytest.mark.parametrize(
    ("config", "fits"),
    [
        (EvaluationConfig(partitions=3), 15),
        (EvaluationConfig(), 72),
        (EvaluationConfig(groups=4), 24),
        (EvaluationConfig(("year",)), 12),
        (EvaluationConfig(("site", "temperature"), partitions=1), 11),
    ],
)
def test_fits_are_counted(make_table, config, fits):
    windows = make_windows(make_table(sites=12, years=2), ["SW_IN_POT"])
    assert count_fits(windows, ridge(), config) == fits


def test_the_cost_grows_with_seeds_and_falls_with_workers(make_table, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("thalweg.gpp.evaluation.cost.time.perf_counter", lambda: float(next(clock)))
    table = make_table(sites=4)
    models = {"ridge": ridge, "again": ridge, "climatology": climatology}
    run = (table, [LIGHT], models)
    one = estimate_seconds(*run, EvaluationConfig(partitions=1, featureless=("climatology",)))
    two = estimate_seconds(*run, EvaluationConfig(partitions=1, seeds=(0, 1), featureless=("climatology",)))
    half = estimate_seconds(*run, EvaluationConfig(partitions=1, workers=2, featureless=("climatology",)))
    assert two == pytest.approx(2 * one) and half == pytest.approx(one / 2)
