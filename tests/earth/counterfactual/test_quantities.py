"""Quantities: names, values and gradients."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import thalweg  # noqa: F401  (gives datasets their .thalweg)
from thalweg.earth.counterfactual.quantities import LinearProbe, check_quantity_name, quantity_by_name
from thalweg.earth.indices import INDICES
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import known_sensors
from thalweg.errors import MissingPathError, UsageError


@pytest.fixture(scope="module")
def embedded(cube: object, model: EarthModel) -> xr.Dataset:
    return embed(cube, model, 32)


@pytest.fixture(scope="module")
def vectors(embedded: xr.Dataset) -> torch.Tensor:
    """A few real embeddings (Q, 32, 1, 1)."""
    flat = np.moveaxis(embedded.embeddings.values, 1, -1).reshape(-1, 32)
    return torch.from_numpy(flat[np.isfinite(flat).all(1)][::500])[..., None, None]


def test_decoded_bands_are_those_of_the_accessor(embedded: xr.Dataset, model: EarthModel) -> None:
    for sensor in model.sensors:
        theirs = embedded.thalweg.decode(sensor, model=model).isel(time=2).values
        ours = model.decode(torch.from_numpy(embedded.embeddings.values[2:3]), sensor)[0].numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_indices_follow_from_the_bands(vectors: torch.Tensor, model: EarthModel) -> None:
    seen = model.decode(vectors, "sentinel-2").clamp(min=1e-4)
    blue, red, near = seen[:, 0], seen[:, 2], seen[:, 6]
    ndvi = (near - red) / (near + red)
    expected = {
        "NDVI": ndvi,
        "NIRv": ndvi * near,
        "EVI": 2.5 * (near - red) / (near + 6 * red - 7.5 * blue + 1),
        "kNDVI": torch.tanh(ndvi**2),
    }
    assert set(expected) == set(INDICES)
    for name, value in expected.items():
        torch.testing.assert_close(quantity_by_name(name.lower(), model).evaluate(vectors), value)


@pytest.mark.parametrize("name", ["B4", "b04", "red", "VH", "NDVI", "nirv", "EVI", "kndvi"])
def test_gradients_are_those_of_finite_differences(name: str, vectors: torch.Tensor, model: EarthModel) -> None:
    quantity = quantity_by_name(name, model)
    place = vectors[:1].clone().requires_grad_()
    slope = torch.autograd.grad(quantity.evaluate(place).sum(), place)[0]
    step = torch.nn.functional.normalize(slope.flatten(), dim=0).reshape(slope.shape)
    with torch.no_grad():
        found = (quantity.evaluate(vectors[:1] + 1e-2 * step) - quantity.evaluate(vectors[:1] - 1e-2 * step)) / 2e-2
    assert float(found) == pytest.approx(float(slope.norm()), rel=0.02)


def test_names_of_bands(model: EarthModel) -> None:
    assert quantity_by_name("B8", model).name == "B08"
    assert quantity_by_name("b8a", model).name == "B8A"
    assert [(band.name, band.unit) for band in (quantity_by_name(name, model) for name in ("vv", "VV"))] == [
        ("VV", "dB"),
        ("VV", "dB"),
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("B99", "target 'B99': expected NDVI, EVI, NIRv, kNDVI, "),
        ("height", "target 'height': expected NDVI, EVI, NIRv, kNDVI, lai, fapar, chlorophyll, soil_moisture, "),
        ("nvdi", "did you mean NDVI?"),
    ],
)
def test_an_unknown_quantity_is_refused_with_the_names(name: str, words: str, model: EarthModel) -> None:
    for check in (
        lambda: quantity_by_name(name, model),
        lambda: check_quantity_name(name, model.fusion.sensors),
        lambda: check_quantity_name(name, known_sensors()),
    ):
        with pytest.raises(UsageError) as caught:
            check()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_traits_are_not_cut_to_their_bounds(vectors: torch.Tensor, model: EarthModel) -> None:
    trained = copy.deepcopy(model)
    head = trained.fusion.trait_head("fapar")
    with torch.no_grad():
        head.mean.fill_(-0.5)
        head.scale.fill_(2.0)
        head.linear.weight.fill_(0.3)
    quantity = quantity_by_name("FAPAR", trained)
    assert (quantity.name, quantity.unit, quantity.tolerance) == ("fapar", "1", 0.001)
    values, cut = quantity.evaluate(vectors), trained.decode_trait(vectors, "fapar")[0]
    assert (values < 0).any()
    torch.testing.assert_close(values.clamp(0, 1), cut)
    lowest = vectors[int(values.argmin())][None].clone().requires_grad_()
    assert torch.autograd.grad(quantity.evaluate(lowest).sum(), lowest)[0].norm() > 0


def test_a_linear_probe_is_fitted_saved_and_read(vectors: torch.Tensor, model: EarthModel, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows, weights = random.normal(size=(400, 32)), random.normal(size=32)
    fitted = LinearProbe.fit(rows, rows @ weights + 2, "lai", "m2 m-2", model.identifier, "made up")
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-9)
    again = LinearProbe.load(fitted.save(tmp_path / "lai.json"))
    np.testing.assert_array_equal(again.weights, fitted.weights)
    assert (again.name, again.unit, again.offset) == (fitted.name, fitted.unit, fitted.offset)
    torch.testing.assert_close(
        again.quantity(model).evaluate(vectors)[:, 0, 0].double(),
        torch.from_numpy(fitted.predict(vectors[..., 0, 0].numpy())),
        atol=1e-4,
        rtol=1e-4,
    )


def test_invalid_linear_probes_are_refused(vectors: torch.Tensor, model: EarthModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="100 embeddings for a linear probe of 32 dimensions"):
        LinearProbe.fit(np.zeros((100, 32)), np.zeros(100), "lai", "1", model.identifier)
    foreign = LinearProbe("lai", "1", "another", np.zeros(32), 0.0)
    with pytest.raises(UsageError, match="linear probe lai: fitted to another"):
        foreign.quantity(model)
    short = LinearProbe("lai", "1", model.identifier, np.zeros(7), 0.0)
    with pytest.raises(UsageError, match="takes 7 dimensions, the embeddings have 32"):
        short.quantity(model).evaluate(vectors)
    for content in ("no json", "[]", "{}", '{"format": "thalweg-readout"}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UsageError, match=r"bad\.json: not a linear probe"):
            LinearProbe.load(tmp_path / "bad.json")
    with pytest.raises(MissingPathError, match="there is no such file"):
        LinearProbe.load(tmp_path / "missing.json")
