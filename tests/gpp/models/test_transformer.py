import numpy as np
import pytest
import torch

from thalweg.gpp.data.windows import DAYS, make_windows
from thalweg.gpp.evaluation.scores import r_squared
from thalweg.gpp.models.transformer import (
    LAYERS,
    PiecewiseEncoding,
    TemporalTransformer,
    TransformerConfig,
    TransformerLearner,
    _anomaly_loss,
)


def network() -> TemporalTransformer:
    torch.manual_seed(0)
    made = TemporalTransformer(3, 2, TransformerConfig(width=16)).eval()
    for attention in made.attentions:
        torch.nn.init.normal_(attention.lag_bias)
    return made


def test_the_layers_reach_90_days():
    assert sum((band - 1) * dilation for band, dilation in LAYERS) == DAYS - 1


@torch.no_grad()
def test_a_pass_over_years_equals_a_pass_over_each_window():
    days, means = torch.randn(1, 400, 3), torch.randn(1, 400, 2)
    dense = network()(days, means)
    for last in (DAYS - 1, 200, 399):
        here = slice(last - DAYS + 1, last + 1)
        window = network()(days[:, here], means[:, here])
        torch.testing.assert_close(window[0, -1], dense[0, last], rtol=1e-5, atol=1e-5)


def test_a_prediction_depends_on_each_of_its_90_days_and_no_other():
    days, means = torch.randn(1, 300, 3, requires_grad=True), torch.randn(1, 300, 2, requires_grad=True)
    network()(days, means)[0, 250, 1].backward()
    attended = days.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert attended.tolist() == list(range(250 - DAYS + 1, 251))
    assert means.grad[0].abs().sum(-1).nonzero()[:, 0].tolist() == [250]


def test_ramps_saturate_and_missing_values_are_zero():
    days = np.linspace(0, 8, 81, dtype=np.float32)[:, None]
    days = np.concatenate([days, np.full_like(days, 3.0)], 1)  # the second is constant
    encoding = PiecewiseEncoding(days, pieces=4)
    assert encoding.inputs == 8
    beyond = encoding(torch.tensor([[8, 3], [80, 3], [torch.nan, 3], [torch.nan, torch.nan]]))
    torch.testing.assert_close(beyond[0], beyond[1])
    assert not beyond[2].any() and not beyond[3].any()


def test_the_anomaly_loss_ignores_levels():
    target = torch.randn(4, 120)
    target[0, 30:50] = torch.nan
    site = torch.tensor([5, 5, 2, 2])
    season = torch.linspace(0, 9, 120).expand(4, -1) * torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    assert _anomaly_loss(target.nan_to_num(0.0) + site[:, None], target, site) == pytest.approx(0, abs=1e-6)
    assert _anomaly_loss(target.nan_to_num(0.0) + season, target, site) < 0.05
    daily = torch.tensor([1.0, -1.0]).repeat(60)
    assert _anomaly_loss(target.nan_to_num(0.0) + daily, target, site) == pytest.approx(0.5, abs=0.03)
    years = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    assert _anomaly_loss(target.nan_to_num(0.0) + years, target, site) == pytest.approx(0.5, abs=0.1)


def test_an_epoch_holds_every_target_day_once_and_a_batch_the_years_of_a_site(make_table):
    windows = make_windows(make_table(sites=4, years=3), ["SW_IN_POT", "wet"])
    learner = TransformerLearner(0, TransformerConfig(sites=2, crops=2, crop_days=365))
    batches = learner._batches(windows)
    days = torch.cat([rows[:, DAYS - 1 :].flatten() for rows, _ in batches])
    counts = days[days < len(windows.daily)].bincount(minlength=len(windows.daily))
    assert (counts[windows.last] == 1).all()
    for rows, site in batches:
        assert len(site) <= 4 and len(site.unique()) <= 2
        first, end = windows.runs[site].T
        assert (rows.amin(1).numpy() >= first).all()
        assert (rows.where(rows < len(windows.daily), -1).amax(1).numpy() < end).all()
    assert max(int(site.unique(return_counts=True)[1].max()) for _, site in batches) >= 2


def test_training_fits_the_windows(make_table):
    windows = make_windows(make_table(sites=4, years=1, noise=0.1), ["SW_IN_POT", "wet"])
    training, held_out = windows.split(sites=["S2"])
    learner = TransformerLearner(
        0, TransformerConfig(width=16, epochs=12, crop_days=120, dropout=0.0, rate=5e-3, decay=0.1)
    )
    path = learner.fit(training, held_out)
    assert path.shape == (12, len(held_out), 3)
    learner.select_stage(11)
    np.testing.assert_allclose(learner.predict(held_out), path[11], rtol=1e-4, atol=1e-4)
    assert r_squared(held_out.target, path[11, :, 1]) > 0.8
    assert (np.diff(path, axis=2) >= 0).all()
    some = held_out.select(np.array([0, 50, -1]))
    found = learner.estimate(torch.from_numpy(some.values)).detach().numpy()
    np.testing.assert_allclose(found, learner.predict(some)[:, 1], rtol=1e-4, atol=1e-4)
