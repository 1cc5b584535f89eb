"""The fusion: any set of sensors, a nested embedding, a spread for every value."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, cube_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.encoder import Encoding
from thalweg.earth.model.fusion import BESIDE, COLOURS, FULL, QUANTILE_LEVELS, SMALL, Fusion, LinearStart
from thalweg.earth.training.modules import FusionStage, TrainingConfig
from thalweg.earth.training.tiles import Masking
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def centre_days(cube: Cube) -> torch.Tensor:
    return torch.from_numpy(days_since_epoch(cube.reference.dates[cube.eligible()])[2:4]).float()


@pytest.fixture(scope="module")
def contexts(cube: Cube, model: EarthModel) -> dict[str, SensorContext]:
    return cube_context(cube, cube.whole.grown(HALO), model.sensors)


@pytest.fixture(scope="module")
def encodings(model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor) -> dict[str, Encoding]:
    return model.encode(contexts, centre_days)


def masked(encoding: Encoding, seen: torch.Tensor) -> Encoding:
    """The encoding as if the sensor had been seen only where `seen` (h, w)."""
    return Encoding(encoding.values * seen, encoding.support * seen, encoding.seen * seen)


@pytest.mark.parametrize("present", [("sentinel-2",), ("sentinel-1",), ("sentinel-2", "sentinel-1")])
def test_any_set_of_sensors_gives_finite_values(
    present: tuple[str, ...], model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    fused = model({name: contexts[name] for name in present}, centre_days)
    assert fused.values.shape == fused.spread.shape == (2, FULL, 32, 32)
    assert torch.isfinite(fused.values).all()
    assert torch.isfinite(fused.spread).all()
    assert (fused.spread > 0).all()
    assert (fused.values.std((0, 2, 3)) > 0).all()


def test_every_sensor_counts(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    both = model.fusion(encodings).values
    for name in encodings:
        alone = model.fusion({name: encodings[name]}).values
        assert (alone - both).abs().max() > 1e-3


def test_the_order_of_sensors_does_not_matter(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    turned = model.fusion(dict(reversed(list(encodings.items()))))
    assert torch.equal(turned.values, model.fusion(encodings).values)


def test_an_unseen_sensor_is_an_absent_one(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    unseen = {**encodings, "sentinel-1": masked(encodings["sentinel-1"], torch.zeros(32, 32))}
    absent = {"sentinel-2": encodings["sentinel-2"]}
    torch.testing.assert_close(model.fusion(unseen).values, model.fusion(absent).values, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.fusion(unseen).spread, model.fusion(absent).spread, atol=1e-5, rtol=0)


def test_a_mix_of_missing_sensors_equals_each_pattern_alone(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    radar, optical = torch.zeros(32, 32), torch.zeros(32, 32)
    radar[:, 10:] = 1
    optical[8:] = 1
    mixed = {
        "sentinel-2": masked(encodings["sentinel-2"], optical),
        "sentinel-1": masked(encodings["sentinel-1"], radar),
    }
    fused = model.fusion(mixed).values
    expected = {
        (1, 1): model.fusion(encodings),
        (1, 0): model.fusion({"sentinel-2": encodings["sentinel-2"]}),
        (0, 1): model.fusion({"sentinel-1": encodings["sentinel-1"]}),
    }
    for (sees_optical, sees_radar), alone in expected.items():
        here = (optical == sees_optical) & (radar == sees_radar)
        assert here.any()
        torch.testing.assert_close(fused[..., here], alone.values[..., here], atol=1e-5, rtol=0)
    assert torch.isfinite(fused).all()


def test_a_pixels_embedding_needs_only_its_own_encoding(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    crop = {
        name: Encoding(encoding.values[..., 4:9, 2:5], encoding.support[..., 4:9, 2:5], encoding.seen[..., 4:9, 2:5])
        for name, encoding in encodings.items()
    }
    torch.testing.assert_close(
        model.fusion(crop).values, model.fusion(encodings).values[..., 4:9, 2:5], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["sentinel-2", "sentinel-1"])
def test_the_first_seven_values_stand_alone(name: str, model: EarthModel, encodings: dict[str, Encoding]) -> None:
    embedding = model.fusion(encodings).values
    days = torch.tensor([[-30.0, 0.0, 14.0], [0.0, 20.0, 60.0]])
    changed = embedding.clone()
    changed[:, SMALL:] = 1000.0
    small = model.decode(embedding, name, days, size=SMALL)
    bands = len(model.autoencoder(name).sensor.bands)
    assert small.shape == (2, 3, bands, 32, 32)
    assert torch.equal(model.decode(changed, name, days, size=SMALL), small)
    assert not torch.allclose(model.decode(changed, name, days, size=FULL), model.decode(embedding, name, days))
    changed = embedding.clone()
    changed[:, SMALL - 1] += 1
    assert not torch.allclose(model.decode(changed, name, days, size=SMALL), small)


def test_more_values_rebuild_the_centre_better(
    fitted_folder: Path, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    model = EarthModel.load(fitted_folder)
    embedding = model(contexts, centre_days).values
    context = contexts["sentinel-2"]
    date = (context.days[None] - centre_days[:, None]).abs().argmin(1)
    truth = context.values[date][..., HALO:-HALO, HALO:-HALO]
    clear = context.valid[date][:, 0, HALO:-HALO, HALO:-HALO] > 0
    errors = [
        (model.decode(embedding, "sentinel-2", size=size) - truth).abs().mean(1)[clear].mean()
        for size in (SMALL, FULL)
    ]
    spread = (truth.movedim(1, -1)[clear] - truth.movedim(1, -1)[clear].mean(0)).abs().mean()
    assert errors[1] < errors[0] < spread


def test_intervals_widen_with_their_level(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    spread = model.fusion(encodings).spread
    widths = [model.fusion.intervals(spread, level) for level in QUANTILE_LEVELS]
    for narrow, wide in pairwise(widths):
        assert (wide > narrow).all()


def test_embeddings_are_deterministic(
    model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    assert torch.equal(model(contexts, centre_days).values, model(contexts, centre_days).values)


def test_a_sensor_the_model_does_not_know_is_ignored(
    model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    more = {**contexts, "landsat-8": contexts["sentinel-2"]}
    assert torch.equal(model(more, centre_days).values, model(contexts, centre_days).values)
    assert list(model.encode(more, centre_days)) == list(model.sensors)
    np.testing.assert_array_equal(model.sensors, ["sentinel-2", "sentinel-1"])


def begun(model: EarthModel, joined: torch.Tensor, moved: torch.Tensor) -> Fusion:
    """A fusion of the model's sensors with its linear parts fitted."""
    fusion = Fusion(model.fusion.sensors)
    rebuild = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    fusion.fit_linear(joined, moved, rebuild, model.autoencoder("sentinel-2").centre_spectrum(), LinearStart())
    return fusion


@pytest.fixture(scope="module")
def fitted(model: EarthModel, encodings: dict[str, Encoding]) -> Fusion:
    """Fitted to the encodings of the small cube itself."""
    joined = model.fusion.join(encodings)[0].flatten(0, 2) + model.fusion.mean
    moved = 0.1 * torch.randn(500, len(model.fusion.mean), generator=torch.Generator().manual_seed(0))
    return begun(model, joined, moved).requires_grad_(False)


def test_the_linear_start_prefers_what_hidden_dates_do_not_move(model: EarthModel) -> None:
    generator = torch.Generator().manual_seed(0)
    size = len(model.fusion.mean)
    joined = torch.randn(4000, size, generator=generator) * 0.1
    moved = torch.randn(4000, size, generator=generator) * 0.01
    joined[:, 0] *= 30  # varies most, and moves as much when dates are hidden
    moved[:, 0] *= 300
    joined[:, 1] *= 20  # varies less, and stays
    first = begun(model, joined, moved).linear.weight[0].abs()
    assert first.argmax() == 1
    assert first[1] > 5 * first[0]


def seen_at_centre(contexts: dict[str, SensorContext], centre_days: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentinel-2 on the centre dates (Q, h, w, C), and where it is clear (Q, h, w)."""
    context = contexts["sentinel-2"]
    date = (context.days[None] - centre_days[:, None]).abs().argmin(1)
    inner = slice(HALO, -HALO)
    return context.values[date][..., inner, inner].movedim(1, -1), context.valid[date][:, 0, inner, inner] > 0


def test_the_centre_date_is_what_the_sensor_saw_of_it(
    model: EarthModel,
    contexts: dict[str, SensorContext],
    centre_days: torch.Tensor,
    encodings: dict[str, Encoding],
) -> None:
    weight, offset = model.autoencoder("sentinel-2").centre_spectrum()
    truth, clear = seen_at_centre(contexts, centre_days)
    found = encodings["sentinel-2"].values.movedim(1, -1) @ weight.T + offset
    assert clear.any()
    torch.testing.assert_close(found[clear], truth[clear], atol=1e-4, rtol=0)


def test_colours_tell_the_centre_date(
    fitted: Fusion,
    contexts: dict[str, SensorContext],
    centre_days: torch.Tensor,
    encodings: dict[str, Encoding],
) -> None:
    truth, clear = seen_at_centre(contexts, centre_days)
    colours = fitted.colours(fitted.join(encodings)[0])
    assert colours.shape[-1] == COLOURS
    tones = truth[clear].clamp(min=0.005).log()
    torch.testing.assert_close(
        colours[clear], (tones - fitted.colour_mean) @ fitted.colour_axes.T, atol=1e-2, rtol=1e-2
    )
    rebuilt = ((colours[clear] @ fitted.colour_inverse.T) + fitted.colour_mean).exp()
    assert (rebuilt - truth[clear]).abs().mean() < 0.2 * truth[clear].std()


def test_a_lone_date_is_what_its_colours_let_expect(
    fitted: Fusion, model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    context, day = contexts["sentinel-2"], centre_days[:1]
    lone = {"sentinel-2": context.hide((context.days - day).abs() >= 0.5)}
    completed, evidence = fitted.join(model.encode(lone, day))
    clear = seen_at_centre(contexts, day)[1]
    colours = fitted.colours(completed)[clear]
    values = fitted(model.encode(lone, day)).values.movedim(1, -1)[clear]
    assert fitted.context_share(evidence)[clear].max() < 1e-5
    expected = colours @ fitted.expected.T
    told = torch.cat([expected[:, :SMALL], colours, expected[:, SMALL:]], 1)
    torch.testing.assert_close(values, told, atol=1e-4, rtol=1e-4)
    whole = fitted.join(model.encode(contexts, day))
    assert (fitted.context_share(whole[1])[clear] == 1).float().mean() > 0.9


def test_what_colours_let_expect_leaves_nothing_they_could_tell(fitted: Fusion, encodings: dict[str, Encoding]) -> None:
    completed = fitted.join(encodings)[0].flatten(0, 2)
    colours, fractions = fitted.colours(completed), fitted.linear(completed)
    left = fractions - colours @ fitted.expected.T
    scale = colours.std(0)[:, None] * fractions.std(0)
    assert ((colours.T @ left / len(left)) / scale).abs().max() < 0.05
    assert ((colours.T @ fractions / len(left)) / scale).abs().max() > 0.3


def test_two_values_hold_what_the_radar_says_of_the_centre_date(model: EarthModel) -> None:
    generator = torch.Generator().manual_seed(0)
    size = len(model.fusion.mean)
    joined, moved = (torch.randn(4000, size, generator=generator) * scale for scale in (1.0, 0.1))
    rebuild = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    _, companions = LinearStart().views(model.fusion.sensors, rebuild, companion_weight=1.0)
    truth = (joined @ companions.T).detach()
    values = (joined @ begun(model, joined, moved).linear.weight.T).detach()

    def left(count: int) -> float:
        """What the first linear values leave of the radar's two bands."""
        known = values[:, :count]
        rest = truth - known @ torch.linalg.lstsq(known, truth).solution
        return float(rest.square().mean() / truth.square().mean())

    assert truth.shape[1] == BESIDE
    assert left(SMALL + BESIDE) < 1e-3 < left(SMALL)


def test_a_radar_alone_is_context(fitted: Fusion, encodings: dict[str, Encoding]) -> None:
    evidence = fitted.join({"sentinel-1": encodings["sentinel-1"]})[1]
    assert (fitted.context_share(evidence) == 1).float().mean() > 0.9


def test_a_fusion_needs_a_sensor_that_sets_the_dates(model: EarthModel) -> None:
    radar = next(sensor for sensor in model.fusion.sensors if sensor.name == "sentinel-1")
    with pytest.raises(UsageError, match="sets the dates"):
        Fusion([radar])


def test_the_fusion_is_at_times_shown_one_centre_date_alone(
    model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    torch.manual_seed(0)
    shown = FusionStage(model, TrainingConfig(hiding=Masking(context=1.0))).visible(contexts, centre_days)
    assert list(shown) == ["sentinel-2"]
    clear = shown["sentinel-2"].valid.flatten(1).any(1)
    assert int(clear.sum()) == 1
    assert float((shown["sentinel-2"].days[clear] - centre_days).abs().min()) < 0.5
    more = FusionStage(model, TrainingConfig(hiding=Masking(context=0.0, sensors=0.0))).visible(contexts, centre_days)
    assert set(more) == set(model.sensors)
