"""Masking: masked parts are invalid and zero, everything else stays."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thalweg.earth.model.context import SensorContext
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.masking import MaskingConfig, disturb, mask_context, mask_half, mask_sensors
from thalweg.earth.training.tiles import TrainingSite

NOTHING = MaskingConfig(dates=0, centres=0, clouds=0, bands=0, sensors=0, context=0, gain=0, offset=0)
NO_CENTRES = torch.zeros(0)


@pytest.fixture(scope="module")
def site(cube_folder: Path) -> TrainingSite:
    return TrainingSite.load(cube_folder, ["sentinel-2", "sentinel-1"])


@pytest.fixture(scope="module")
def context(site: TrainingSite) -> SensorContext:
    return site.contexts["sentinel-2"]


def test_probabilities_of_zero_mask_nothing(context: SensorContext) -> None:
    same = mask_context(context, NO_CENTRES, NOTHING)
    assert torch.equal(same.values, context.values)
    assert torch.equal(same.valid, context.valid)
    assert torch.equal(disturb(context, NOTHING).values, context.values)


@pytest.mark.parametrize("part", ["dates", "clouds"])
def test_masked_dates_and_clouds_are_invalid_and_zero(part: str, context: SensorContext) -> None:
    shares = []
    for seed in range(8):
        torch.manual_seed(seed)
        masked = mask_context(context, NO_CENTRES, NOTHING.model_copy(update={part: 1.0}))
        shares.append(float(masked.valid.sum() / context.valid.sum()))
        assert (masked.valid <= context.valid).all()
        torch.testing.assert_close(masked.values, context.values * masked.valid)
        if part == "dates":
            per_date = masked.valid.sum((1, 2, 3))
            assert ((per_date == 0) | (per_date == context.valid.sum((1, 2, 3)))).all()
    assert len({share for share in shares if 0 < share < 1}) > 2


def test_masked_bands_are_absent_and_zero(context: SensorContext) -> None:
    torch.manual_seed(0)
    masked = mask_context(context, NO_CENTRES, NOTHING.model_copy(update={"bands": 1.0}))
    assert 0 < masked.present.sum() < 10
    assert (masked.values[:, ~masked.present] == 0).all()
    assert torch.equal(masked.values[:, masked.present], context.values[:, masked.present])


def test_only_the_centre_dates_are_masked(site: TrainingSite, context: SensorContext) -> None:
    centre_days = site.centre_days[2:5]
    centres = ((context.days[:, None] - centre_days).abs() < 0.5).any(1)
    clear = context.valid.flatten(1).any(1)
    masked = mask_context(context, centre_days, NOTHING.model_copy(update={"centres": 1.0}))
    assert centres.sum() == 3
    assert torch.equal(masked.valid.flatten(1).any(1), clear & ~centres)
    assert torch.equal(masked.values[~centres], context.values[~centres])
    torch.manual_seed(0)
    half = NOTHING.model_copy(update={"centres": 0.5})
    hidden = [int((clear & ~mask_context(context, centre_days, half).valid.flatten(1).any(1)).sum()) for _ in range(30)]
    assert set(hidden) == {0, 1, 2, 3}


def test_a_disturbance_is_a_gain_and_an_offset_per_band(context: SensorContext) -> None:
    torch.manual_seed(0)
    context = replace(context, values=(0.2 + 0.5 * context.values) * context.valid)
    disturbed = disturb(context, NOTHING.model_copy(update={"gain": 0.05, "offset": 0.01}))
    assert torch.equal(disturbed.values * (1 - context.valid), torch.zeros_like(context.values))
    clear = context.valid[:, 0] > 0
    found = []
    for band in range(10):
        before, after = context.values[:, band][clear], disturbed.values[:, band][clear]
        line = torch.stack([before, torch.ones_like(before)], 1).double()
        gain, offset = torch.linalg.lstsq(line, after.double()[:, None]).solution[:, 0]
        torch.testing.assert_close(gain * before.double() + offset, after.double(), atol=1e-5, rtol=0)
        assert 0 < abs(gain - 1) < 0.4 and 0 < abs(offset) < 0.08
        found.append((round(float(gain), 4), round(float(offset), 5)))
    assert len(set(found)) == 10


def test_a_disturbance_leaves_absent_bands_zero_and_values_in_range(context: SensorContext) -> None:
    torch.manual_seed(0)
    present = torch.arange(10) != 4
    lacking = replace(context, values=context.values * present[:, None, None], present=present)
    disturbed = disturb(lacking, MaskingConfig(gain=0.5, offset=0.5))
    assert (disturbed.values[:, 4] == 0).all()
    assert disturbed.values.min() >= 0 and disturbed.values.max() <= 1
    assert not torch.equal(disturbed.values, lacking.values)


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
    assert TrainingConfig.model_validate({"masking": {"dates": 0.5}}).masking.dates == 0.5
