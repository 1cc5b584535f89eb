"""Fusion: any set of sensors, a nested embedding, a spread for every dimension."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, cube_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.fusion import BOUND, FULL_SIZE, QUANTILE_LEVELS, SMALL_SIZE, TRAITS, Fusion
from thalweg.earth.model.sensor_encoding import Encoding
from thalweg.earth.sensors import SENTINEL_2
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


def masked(encoding: Encoding, observed: torch.Tensor) -> Encoding:
    """The encoding as if the sensor had been observed only where `observed` (h, w) is 1."""
    return Encoding(encoding.values * observed, encoding.support * observed, encoding.observed * observed)


@pytest.mark.parametrize("present", [("sentinel-2",), ("sentinel-1",), ("sentinel-2", "sentinel-1")])
def test_any_set_of_sensors_gives_finite_values(
    present: tuple[str, ...], model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    fused = model({name: contexts[name] for name in present}, centre_days)
    assert fused.values.shape == fused.spread.shape == (2, FULL_SIZE, 32, 32)
    assert torch.isfinite(fused.values).all()
    assert torch.isfinite(fused.spread).all()
    assert (fused.spread > 0).all()
    assert (fused.values.std((0, 2, 3)) > 0).all()


def test_every_sensor_contributes(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    both = model.fusion(encodings).values
    for name in encodings:
        alone = model.fusion({name: encodings[name]}).values
        assert (alone - both).abs().max() > 1e-3


def test_the_order_of_sensors_does_not_matter(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    other_order = model.fusion(dict(reversed(list(encodings.items()))))
    assert torch.equal(other_order.values, model.fusion(encodings).values)


def test_an_unobserved_sensor_equals_an_absent_one(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    unobserved = {**encodings, "sentinel-1": masked(encodings["sentinel-1"], torch.zeros(32, 32))}
    absent = {"sentinel-2": encodings["sentinel-2"]}
    torch.testing.assert_close(model.fusion(unobserved).values, model.fusion(absent).values, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.fusion(unobserved).spread, model.fusion(absent).spread, atol=1e-5, rtol=0)


def test_missing_sensors_are_filled_per_pixel(model: EarthModel, encodings: dict[str, Encoding]) -> None:
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
        name: Encoding(*(part[..., 4:9, 2:5] for part in (encoding.values, encoding.support, encoding.observed)))
        for name, encoding in encodings.items()
    }
    torch.testing.assert_close(
        model.fusion(crop).values, model.fusion(encodings).values[..., 4:9, 2:5], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["sentinel-2", "sentinel-1"])
def test_the_first_seven_dimensions_are_decoded_without_the_others(
    name: str, model: EarthModel, encodings: dict[str, Encoding]
) -> None:
    embedding = model.fusion(encodings).values
    days = torch.tensor([[-30.0, 0.0, 14.0], [0.0, 20.0, 60.0]])
    changed = embedding.clone()
    changed[:, SMALL_SIZE:] = 1000.0
    small = model.decode(embedding, name, days, size=SMALL_SIZE)
    bands = len(model.autoencoder(name).sensor.bands)
    assert small.shape == (2, 3, bands, 32, 32)
    assert torch.equal(model.decode(changed, name, days, size=SMALL_SIZE), small)
    assert not torch.allclose(model.decode(changed, name, days, size=FULL_SIZE), model.decode(embedding, name, days))
    changed = embedding.clone()
    changed[:, SMALL_SIZE - 1] += 1
    assert not torch.allclose(model.decode(changed, name, days, size=SMALL_SIZE), small)


def test_more_dimensions_reconstruct_the_centre_better(
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
        for size in (SMALL_SIZE, FULL_SIZE)
    ]
    spread = (truth.movedim(1, -1)[clear] - truth.movedim(1, -1)[clear].mean(0)).abs().mean()
    assert errors[1] < errors[0] < spread


def test_intervals_widen_with_their_level(model: EarthModel, encodings: dict[str, Encoding]) -> None:
    spread = model.fusion(encodings).spread
    for size in (SMALL_SIZE, FULL_SIZE):
        widths = [model.fusion.interval_half_width(spread, level, size) for level in QUANTILE_LEVELS]
        for narrow, wide in pairwise(widths):
            assert (wide > narrow).all()


def test_embeddings_are_deterministic(
    model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    assert torch.equal(model(contexts, centre_days).values, model(contexts, centre_days).values)


def test_an_unknown_sensor_is_ignored(
    model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    more = {**contexts, "landsat-8": contexts["sentinel-2"]}
    assert torch.equal(model(more, centre_days).values, model(contexts, centre_days).values)
    assert list(model.encode(more, centre_days)) == list(model.sensors)
    np.testing.assert_array_equal(model.sensors, ["sentinel-2", "sentinel-1"])


def test_the_bands_of_the_centre_date_are_the_observed_ones(
    fitted_folder: Path, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    model = EarthModel.load(fitted_folder)
    context = contexts["sentinel-2"]
    date = (context.days[None] - centre_days[:, None]).abs().argmin(1)
    inner = slice(HALO, -HALO)
    truth = context.values[date][..., inner, inner].movedim(1, -1)
    clear = context.valid[date][:, 0, inner, inner] > 0
    bands = model.fusion.bands(model.fusion.complete(model.encode(contexts, centre_days))[0])
    assert bands.shape[-1] == 12
    assert clear.any()
    torch.testing.assert_close(bands[clear][:, :10], truth[clear], atol=1e-5, rtol=0)


def test_radar_has_no_logarithms(model: EarthModel) -> None:
    fusion = model.fusion
    assert fusion.log_positions.tolist() == list(range(10))
    assert fusion.linear.in_features == sum(fusion.sizes.values()) + 10


@pytest.mark.parametrize("name", ["sentinel-2", "sentinel-1"])
@pytest.mark.parametrize("value", [0.0, 1.0, "alternating"])
def test_embeddings_are_bounded_far_from_the_training_data(name: str, value: float | str, fitted_folder: Path) -> None:
    model = EarthModel.load(fitted_folder)
    bands = len(model.autoencoder(name).sensor.bands)
    spectrum = torch.arange(bands) % 2.0 if isinstance(value, str) else torch.full((bands,), value)
    values = spectrum[None, :, None, None].expand(1, -1, 16, 16).clone()
    day = torch.tensor([1200.0])
    lone = SensorContext(values, torch.ones(1, 1, 16, 16), day, torch.ones(bands, dtype=torch.bool))
    fused = model({name: lone}, day)
    fusion = model.fusion
    assert fused.values.shape == (1, FULL_SIZE, 2, 2)
    assert torch.isfinite(fused.values).all()
    assert torch.isfinite(fused.spread).all() and (fused.spread > 0).all()
    assert fusion.standardised(fused.values).abs().max() <= BOUND + 1e-3
    decoded = model.decode(fused.values, name)
    assert torch.isfinite(decoded).all()


def test_the_bound_leaves_usual_embeddings_and_limits_extreme_ones(model: EarthModel) -> None:
    fusion = model.fusion
    steps = torch.tensor([0.0, 0.5, 1.0, 100.0, -1e6])[:, None]
    bounded = (fusion.bounded(fusion.embedding_mean + steps * fusion.embedding_scale) - fusion.embedding_mean) / (
        fusion.embedding_scale
    )
    torch.testing.assert_close(bounded[:3], steps[:3].expand(-1, FULL_SIZE), atol=0.02, rtol=0)
    torch.testing.assert_close(bounded[3], torch.full((FULL_SIZE,), BOUND), atol=1e-3, rtol=0)
    torch.testing.assert_close(bounded[4], torch.full((FULL_SIZE,), -BOUND), atol=1e-3, rtol=0)


def test_the_spread_has_a_unit_of_its_own_where_the_centre_date_is_hidden(
    model_folder: Path, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    model = EarthModel.load(model_folder)
    context = contexts["sentinel-2"]
    hidden = ((context.days[:, None] - centre_days).abs() < 0.5).any(1)
    views = (contexts, {**contexts, "sentinel-2": context.mask(hidden)}, {"sentinel-1": contexts["sentinel-1"]})
    encodings = [model.encode(view, centre_days) for view in views]
    seen = context.valid[(context.days[None] - centre_days[:, None]).abs().argmin(1)][:, 0, HALO:-HALO, HALO:-HALO]
    shares = [model.fusion.centre_share(one)[..., 0] for one in encodings]
    assert 0 < seen.mean() < 1
    assert torch.equal(shares[0], seen)
    assert not shares[1].any() and not shares[2].any()
    before = [model.fusion(one).spread for one in encodings]
    model.fusion.spread_scale[0] *= 3
    after = [model.fusion(one).spread for one in encodings]
    observed = seen[:, None].expand_as(before[0]) > 0
    torch.testing.assert_close(after[0][observed], before[0][observed])
    torch.testing.assert_close(after[0][~observed], 3 * before[0][~observed])
    torch.testing.assert_close(after[1], 3 * before[1])
    torch.testing.assert_close(after[2], 3 * before[2])


@pytest.mark.parametrize("name", list(TRAITS))
def test_traits_are_unknown_without_training_data(name: str, model: EarthModel) -> None:
    assert not any(model.fusion.trait_head(name, size).is_trained for size in (SMALL_SIZE, FULL_SIZE))
    with pytest.raises(UsageError, match=f"{name}: this model was trained without it"):
        model.decode_trait(torch.zeros(1, FULL_SIZE, 2, 2), name)
    with pytest.raises(UsageError, match="trait 'yield'"):
        model.decode_trait(torch.zeros(1, FULL_SIZE, 2, 2), "yield")


def test_traits_of_seven_dimensions_do_not_depend_on_the_others_and_stay_in_bounds() -> None:
    torch.manual_seed(0)
    fusion = Fusion([SENTINEL_2]).requires_grad_(False)
    embeddings = 3 * torch.randn(2, FULL_SIZE, 4, 5)
    changed = embeddings.clone()
    changed[:, SMALL_SIZE:] += 10
    for name, trait in TRAITS.items():
        for size in (SMALL_SIZE, FULL_SIZE):
            head = fusion.trait_head(name, size)
            head.scale.fill_(5.0)
            head.linear.weight.normal_()
            value, half_width = fusion.trait(embeddings, name, size)
            assert value.shape == half_width.shape == (2, 4, 5)
            assert value.min() == 0 and value.max() <= trait.largest
            assert torch.isfinite(half_width).all() and (half_width > 0).all()
            assert torch.equal(fusion.trait(changed, name, size)[0], value) == (size == SMALL_SIZE)
            head.half_width.fill_(2.0)
            torch.testing.assert_close(fusion.trait(embeddings, name, size)[1], 2 * half_width)


def test_a_fusion_needs_a_reference_sensor(model: EarthModel) -> None:
    radar = next(sensor for sensor in model.fusion.sensors if sensor.name == "sentinel-1")
    with pytest.raises(UsageError, match="no reference sensor among sentinel-1"):
        Fusion([radar])
