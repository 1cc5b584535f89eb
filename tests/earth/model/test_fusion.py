"""Fusion: any set of sensors, a nested embedding, a spread for every dimension."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.context import HALO, SensorContext, cube_context, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.model.encoding import Encoding
from thalweg.earth.model.fusion import FULL_SIZE, NUM_AUX_DIMS, NUM_BAND_RATIOS, QUANTILE_LEVELS, SMALL_SIZE, Fusion
from thalweg.earth.model.linear_baseline import LinearFusionConfig, decoded_trajectories, fit_fusion
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
    widths = [model.fusion.interval_half_width(spread, level) for level in QUANTILE_LEVELS]
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


def linear_fusion(model: EarthModel, encodings: torch.Tensor, changes: torch.Tensor) -> Fusion:
    """A fusion of the model's sensors with its linear parts fitted."""
    fusion = Fusion(model.fusion.sensors)
    decoder_weight = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    spectrum = model.autoencoder("sentinel-2").centre_spectrum()
    fit_fusion(fusion, encodings, changes, decoder_weight, spectrum, LinearFusionConfig())
    return fusion


@pytest.fixture(scope="module")
def fitted(model: EarthModel, encodings: dict[str, Encoding]) -> Fusion:
    """Fitted to the encodings of the small cube itself."""
    joined = model.fusion.complete(encodings)[0].flatten(0, 2) + model.fusion.mean
    changes = 0.1 * torch.randn(500, len(model.fusion.mean), generator=torch.Generator().manual_seed(0))
    return linear_fusion(model, joined, changes).requires_grad_(False)


def test_the_first_fraction_has_the_best_signal_to_noise_ratio(model: EarthModel) -> None:
    generator = torch.Generator().manual_seed(0)
    size = len(model.fusion.mean)
    encodings = torch.randn(4000, size, generator=generator) * 0.1
    changes = torch.randn(4000, size, generator=generator) * 0.01
    encodings[:, 0] *= 30  # varies most, and changes as much when dates are masked
    changes[:, 0] *= 300
    encodings[:, 1] *= 20  # varies less, and does not change
    first = linear_fusion(model, encodings, changes).linear.weight[0].abs()
    assert first.argmax() == 1
    assert first[1] > 5 * first[0]


def centre_observations(
    contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentinel-2 on the centre dates (Q, h, w, C), and where it is clear (Q, h, w)."""
    context = contexts["sentinel-2"]
    date = (context.days[None] - centre_days[:, None]).abs().argmin(1)
    inner = slice(HALO, -HALO)
    return context.values[date][..., inner, inner].movedim(1, -1), context.valid[date][:, 0, inner, inner] > 0


def test_the_centre_spectrum_is_the_observed_one(
    model: EarthModel,
    contexts: dict[str, SensorContext],
    centre_days: torch.Tensor,
    encodings: dict[str, Encoding],
) -> None:
    weight, offset = model.autoencoder("sentinel-2").centre_spectrum()
    truth, clear = centre_observations(contexts, centre_days)
    found = encodings["sentinel-2"].values.movedim(1, -1) @ weight.T + offset
    assert clear.any()
    torch.testing.assert_close(found[clear], truth[clear], atol=1e-4, rtol=0)


def test_band_ratios_are_those_of_the_observed_spectrum(
    fitted: Fusion,
    contexts: dict[str, SensorContext],
    centre_days: torch.Tensor,
    encodings: dict[str, Encoding],
) -> None:
    truth, clear = centre_observations(contexts, centre_days)
    ratios = fitted.band_ratios(fitted.complete(encodings)[0])
    assert ratios.shape[-1] == NUM_BAND_RATIOS
    logs = truth[clear].clamp(min=0.005).log()
    torch.testing.assert_close(ratios[clear], (logs - fitted.colour_mean) @ fitted.colour_axes.T, atol=1e-2, rtol=1e-2)
    reconstructed = ((ratios[clear] @ fitted.colour_inverse.T) + fitted.colour_mean).exp()
    assert (reconstructed - truth[clear]).abs().mean() < 0.2 * truth[clear].std()
    standardised = (reconstructed - fitted.spectrum_mean) / fitted.spectrum_scale
    torch.testing.assert_close(fitted.reconstructed_spectrum(ratios[clear]), standardised)


def test_the_embedding_of_a_single_date_is_predicted_from_its_band_ratios(
    fitted: Fusion, model: EarthModel, contexts: dict[str, SensorContext], centre_days: torch.Tensor
) -> None:
    context, day = contexts["sentinel-2"], centre_days[:1]
    single = {"sentinel-2": context.mask((context.days - day).abs() >= 0.5)}
    completed, evidence = fitted.complete(model.encode(single, day))
    clear = centre_observations(contexts, day)[1]
    ratios = fitted.band_ratios(completed)[clear]
    values = fitted(model.encode(single, day)).values.movedim(1, -1)[clear]
    assert fitted.context_share(evidence)[clear].max() < 1e-5
    predicted = ratios @ fitted.expected.T
    expected = torch.cat([predicted[:, :SMALL_SIZE], ratios, predicted[:, SMALL_SIZE:]], 1)
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-4)
    full = fitted.complete(model.encode(contexts, day))
    assert (fitted.context_share(full[1])[clear] == 1).float().mean() > 0.9


def test_the_prediction_from_band_ratios_leaves_no_correlated_residual(
    fitted: Fusion, encodings: dict[str, Encoding]
) -> None:
    completed = fitted.complete(encodings)[0].flatten(0, 2)
    ratios, fractions = fitted.band_ratios(completed), fitted.linear(completed)
    residual = fractions - ratios @ fitted.expected.T
    scale = ratios.std(0)[:, None] * fractions.std(0)
    assert ((ratios.T @ residual / len(residual)) / scale).abs().max() < 0.05
    assert ((ratios.T @ fractions / len(residual)) / scale).abs().max() > 0.3


def test_two_dimensions_hold_the_radar_on_the_centre_date(model: EarthModel) -> None:
    generator = torch.Generator().manual_seed(0)
    size = len(model.fusion.mean)
    encodings, changes = (torch.randn(4000, size, generator=generator) * scale for scale in (1.0, 0.1))
    decoder_weight = torch.block_diag(*[model.autoencoder(name).decoder.linear.weight for name in model.sensors])
    _, auxiliary = decoded_trajectories(model.fusion.sensors, decoder_weight, auxiliary_weight=1.0)
    truth = (encodings @ auxiliary.T).detach()
    values = (encodings @ linear_fusion(model, encodings, changes).linear.weight.T).detach()

    def unexplained(count: int) -> float:
        """Share of the radar's two bands that the first linear dimensions leave unexplained."""
        known = values[:, :count]
        rest = truth - known @ torch.linalg.lstsq(known, truth).solution
        return float(rest.square().mean() / truth.square().mean())

    assert truth.shape[1] == NUM_AUX_DIMS
    assert unexplained(SMALL_SIZE + NUM_AUX_DIMS) < 1e-3 < unexplained(SMALL_SIZE)


def test_a_radar_alone_is_context(fitted: Fusion, encodings: dict[str, Encoding]) -> None:
    evidence = fitted.complete({"sentinel-1": encodings["sentinel-1"]})[1]
    assert (fitted.context_share(evidence) == 1).float().mean() > 0.9


def test_a_fusion_needs_a_reference_sensor(model: EarthModel) -> None:
    radar = next(sensor for sensor in model.fusion.sensors if sensor.name == "sentinel-1")
    with pytest.raises(UsageError, match="no reference sensor among sentinel-1"):
        Fusion([radar])
