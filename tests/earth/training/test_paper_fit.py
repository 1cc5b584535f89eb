"""Training of the `paper` baseline: weights, samples, losses, a tiny run that improves and resumes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.paper_samples import PaperSamples
from thalweg.earth.training.paper_fit import (
    LOSS_WEIGHTS,
    PaperTrainingConfig,
    centre_error,
    centre_weights,
    paper_loss,
    train_paper_baseline,
)
from thalweg.earth.training.paper_sampling import PaperSampler, is_short_enough, keep_usable_dates
from thalweg.earth.training.tiles import TrainingSite
from thalweg.errors import UsageError


def made_site(name: str = "made", dates: int = 24, step: float = 6.0, with_radar: bool = True) -> TrainingSite:
    """Return a site whose bands follow a season, with a cloudy date and a field border."""
    generator = torch.Generator().manual_seed(0)
    contexts = {}
    size = 40 + 2 * HALO
    for sensor, bands, count, every in (("sentinel-2", 10, dates, step), ("sentinel-1", 2, 2 * dates, step / 2)):
        if sensor == "sentinel-1" and not with_radar:
            continue
        days = 1000 + every * torch.arange(count)
        season = 0.3 + 0.2 * torch.sin(days / 30)[:, None, None, None]
        field = 1 + 0.5 * (torch.arange(size) > 25)[None, None, None]
        tilt = torch.linspace(0.5, 1.5, bands)[None, :, None, None]
        values = season * field * tilt + 0.01 * torch.randn((count, bands, size, size), generator=generator)
        valid = (torch.rand((count, 1, size, size), generator=generator) > 0.1).float()
        valid[3] = 0
        contexts[sensor] = SensorContext(values * valid, valid, days, torch.ones(bands, dtype=torch.bool))
    return TrainingSite(name, contexts, contexts["sentinel-2"].days, (40, 40))


@pytest.fixture(scope="module")
def site() -> TrainingSite:
    return made_site()


def drawn(sampler: PaperSampler, count: int = 16, seed: int = 0) -> dict[str, PaperSamples]:
    return sampler.draw(count, torch.Generator().manual_seed(seed))


def test_weights_fall_from_the_centre() -> None:
    weights = centre_weights()
    assert weights.shape == (11, 1, 15, 15) and float(weights.max()) == float(weights[5, 0, 7, 7]) == 1
    assert weights[5, 0, 6, 8] == pytest.approx(0.01) and weights[5, 0, 7, 9] == pytest.approx(1e-3)
    assert weights[5, 0, 0, 3] == pytest.approx(1e-8)
    assert weights[4, 0, 7, 7] == pytest.approx(0.1) and weights[7, 0, 8, 8] == pytest.approx(1e-4)
    assert torch.equal(weights, weights.flip(0, 2, 3))


def test_samples_have_eleven_of_twenty_dates_and_a_valid_centre(site: TrainingSite) -> None:
    samples = drawn(PaperSampler([site]), 48)
    optical, radar = samples["sentinel-2"], samples["sentinel-1"]
    assert optical.values.shape == (48, 11, 10, 15, 15) and radar.values.shape == (48, 11, 2, 15, 15)
    assert (optical.valid[:, 5, :, 7, 7] == 1).all()
    assert (optical.days.diff() > 0).all()
    spans = optical.days[:, -1] - optical.days[:, 0]
    assert 60 <= float(spans.min()) < float(spans.max()) <= 20 * 6.0
    assert not (optical.days == 1018).any()
    assert (radar.days - optical.days).abs().max() <= 3
    assert (optical.values[optical.valid == 0] == 0).all()


def test_samples_with_long_gaps_are_dropped() -> None:
    assert is_short_enough(torch.arange(11) * 19.9) and not is_short_enough(torch.arange(11) * 20.0)
    sparse = made_site(step=14.0)
    spans = drawn(PaperSampler([sparse]), 24)["sentinel-2"].days
    assert float((spans[:, -1] - spans[:, 0]).max()) < 200
    for unsuitable in (made_site(step=21.0), made_site(dates=9)):
        with pytest.raises(UsageError, match="no site has sentinel-2 on 11 dates"):
            PaperSampler([unsuitable])
        assert len(PaperSampler([unsuitable, sparse]).sites) == 1


def test_training_and_validation_samples_share_no_pixel(site: TrainingSite) -> None:
    optical = site.contexts["sentinel-2"]
    columns = torch.arange(optical.values.shape[-1], dtype=torch.float32).expand_as(optical.values)
    marked = replace(site, contexts={"sentinel-2": replace(optical, values=columns)})
    seen = []
    for held_out in (False, True):
        values = drawn(PaperSampler([marked], held_out=held_out), 64)["sentinel-2"]
        seen.append(values.values[values.valid > 0])
    assert float(seen[0].max()) < float(seen[1].min())


def test_a_site_without_radar_gives_samples_without_it(site: TrainingSite) -> None:
    plain = made_site("plain", with_radar=False)
    samples = drawn(PaperSampler([plain]), 2)["sentinel-1"]
    assert samples.valid.sum() == 0 and samples.values.shape == (2, 11, 2, 15, 15)
    assert [found.name for found in PaperSampler([plain, site], ["sentinel-1"]).sites] == ["made"]


def test_dates_without_use_are_left_out(site: TrainingSite) -> None:
    kept = keep_usable_dates(site)
    assert len(kept.contexts["sentinel-2"].days) == 23
    assert len(kept.contexts["sentinel-1"].days) < 48
    first, second = (drawn(PaperSampler([which])) for which in (site, kept))
    assert all(torch.equal(first[name].values, second[name].values) for name in first)


@pytest.mark.parametrize("sensor", ["sentinel-2", "sentinel-1"])
def test_missing_pixels_and_bands_do_not_count(sensor: str, site: TrainingSite) -> None:
    samples = drawn(PaperSampler([site]), 4)[sensor]
    valid = samples.valid.clone()
    valid[:2, :, 1] = 0
    samples = PaperSamples(samples.values * valid, valid, samples.days)
    guess = samples.values + 0.1 * torch.rand_like(samples.values)
    changed = torch.where(valid > 0, guess, 5.0)
    for loss in (lambda own: paper_loss(own, samples, LOSS_WEIGHTS[sensor]), lambda own: centre_error(own, samples)):
        torch.testing.assert_close(loss(changed), loss(guess))
    assert paper_loss(samples.values, samples, LOSS_WEIGHTS[sensor]) < 1e-2
    assert centre_error(samples.values + 0.03, samples) == pytest.approx(0.03, rel=1e-4)


def test_the_centre_dominates_the_loss(site: TrainingSite) -> None:
    samples = drawn(PaperSampler([site]), 4)["sentinel-1"]
    centre, border = samples.values.clone(), samples.values.clone()
    centre[:, 5, :, 7, 7] += 0.1
    border[:, :, :, 0] += 0.1
    at_centre, at_border = (paper_loss(own, samples, (1.0, 0.0, 0.0)) for own in (centre, border))
    assert at_centre > 1000 * at_border


def test_a_short_training_improves_resumes_and_is_refused_to_others(site: TrainingSite, tmp_path: Path) -> None:
    config = PaperTrainingConfig(steps=30, batch=4, learning_rate=1e-3, validations=3, validation_samples=8)
    lines: list[str] = []
    sites = [site, made_site("plain", with_radar=False)]

    def killed(line: str) -> None:
        lines.append(line)
        if line.startswith("sentinel-1: 6"):
            raise KeyboardInterrupt

    train: Callable = lambda out, run, report: train_paper_baseline(  # noqa: E731
        sites, tmp_path / out, tmp_path / run, config, report=report
    )
    with pytest.raises(KeyboardInterrupt):
        train("model", "run", killed)
    assert not (tmp_path / "model").exists() and {line.split(":")[0] for line in lines} == {"sentinel-2", "sentinel-1"}
    model = train("model", "run", lines.append)
    whole = train("whole", "other", None)
    assert model.identifier == whole.identifier
    errors = [float(line.split("centre error ")[1].split(",")[0]) for line in lines if line.startswith("sentinel-2")]
    assert len(errors) == 3 and errors[-1] < errors[0]
    with pytest.raises(UsageError, match="the run began with"):
        train_paper_baseline([site], tmp_path / "third", tmp_path / "run", config)
    with pytest.raises(UsageError, match="exists already"):
        train("model", "run", None)


def test_a_budget_is_needed() -> None:
    with pytest.raises(ValidationError, match="give at least one"):
        PaperTrainingConfig()
