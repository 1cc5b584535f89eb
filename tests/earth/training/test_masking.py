"""Masking: masked parts are invalid and zero, everything else stays."""

from pathlib import Path

import pytest
import torch

from thalweg.earth.model.context import SensorContext
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.masking import MaskingConfig, mask_context, mask_half, mask_sensors, random_gain
from thalweg.earth.training.tiles import TrainingSite

NOTHING = MaskingConfig(dates=0, clouds=0, bands=0, sensors=0, gain=0)


@pytest.fixture(scope="module")
def site(cube_folder: Path) -> TrainingSite:
    return TrainingSite.load(cube_folder, ["sentinel-2", "sentinel-1"])


@pytest.fixture(scope="module")
def context(site: TrainingSite) -> SensorContext:
    return site.contexts["sentinel-2"]


def test_probabilities_of_zero_mask_nothing(context: SensorContext) -> None:
    same = mask_context(context, NOTHING)
    assert torch.equal(same.values, context.values)
    assert torch.equal(same.valid, context.valid)
    assert torch.equal(random_gain(context, 0.0).values, context.values)


@pytest.mark.parametrize("part", ["dates", "clouds"])
def test_masked_dates_and_clouds_are_invalid_and_zero(part: str, context: SensorContext) -> None:
    shares = []
    for seed in range(8):
        torch.manual_seed(seed)
        masked = mask_context(context, NOTHING.model_copy(update={part: 1.0}))
        shares.append(float(masked.valid.sum() / context.valid.sum()))
        assert (masked.valid <= context.valid).all()
        torch.testing.assert_close(masked.values, context.values * masked.valid)
        if part == "dates":
            per_date = masked.valid.sum((1, 2, 3))
            assert ((per_date == 0) | (per_date == context.valid.sum((1, 2, 3)))).all()
    assert len({share for share in shares if 0 < share < 1}) > 2


def test_masked_bands_are_absent_and_zero(context: SensorContext) -> None:
    torch.manual_seed(0)
    masked = mask_context(context, NOTHING.model_copy(update={"bands": 1.0}))
    assert 0 < masked.present.sum() < 10
    assert (masked.values[:, ~masked.present] == 0).all()
    assert torch.equal(masked.values[:, masked.present], context.values[:, masked.present])


def test_a_gain_is_one_factor_per_band(context: SensorContext) -> None:
    torch.manual_seed(0)
    gained = random_gain(context, 0.1)
    positive = context.values[:, :, 12:20, 12:20] > 0
    factors = (gained.values / context.values)[:, :, 12:20, 12:20]
    for band in range(10):
        of_band = factors[:, band][positive[:, band]]
        assert of_band.std() < 1e-5
    assert len({round(float(factors[:, band][positive[:, band]][0]), 4) for band in range(10)}) > 5


def test_half_of_the_dates_are_masked_and_centre_dates_spared(site: TrainingSite) -> None:
    torch.manual_seed(0)
    centre_days = site.centre_days[2:4]
    for spare_centres in (False, True):
        masked = mask_half(site.contexts, centre_days, spare_centres)
        assert list(masked) == list(site.contexts)
        for name, context in site.contexts.items():
            clear, still_clear = (part.valid.flatten(1).any(1) for part in (context, masked[name]))
            assert 0.2 < still_clear.sum() / clear.sum() < 0.8
            if spare_centres:
                centres = ((context.days[:, None] - centre_days).abs() < 0.5).any(1)
                assert torch.equal(still_clear[centres], clear[centres])


def test_at_times_all_but_one_centre_date_is_masked(site: TrainingSite) -> None:
    torch.manual_seed(0)
    centre_days = site.centre_days[2:4]
    single = mask_sensors(site.contexts, centre_days, "sentinel-2", MaskingConfig(context=1.0))
    assert list(single) == ["sentinel-2"]
    clear = single["sentinel-2"].valid.flatten(1).any(1)
    assert int(clear.sum()) == 1
    assert float((single["sentinel-2"].days[clear] - centre_days).abs().min()) < 0.5


def test_sensors_are_masked_but_never_all(site: TrainingSite) -> None:
    torch.manual_seed(0)
    for probability, expected in ((0.0, {2}), (1.0, {1})):
        config = MaskingConfig(context=0.0, sensors=probability)
        counts = {len(mask_sensors(site.contexts, site.centre_days[2:4], "sentinel-2", config)) for _ in range(5)}
        assert counts == expected


def test_a_card_calls_masking_by_the_name_of_its_format() -> None:
    settings = TrainingConfig(masking=MaskingConfig(dates=0.5)).model_dump()
    assert settings["hiding"]["dates"] == 0.5
    assert set(settings["linear_start"]) == {
        "small_companion_weight", "small_reach_days", "companion_weight", "noise_floor",
    }  # fmt: skip
