"""Spectral indices: the formulas of spyndex, for arrays and tensors, differentiable."""

import numpy as np
import pytest
import torch

from thalweg.earth.indices import INDICES, index_band_numbers, index_name, spectral_index
from thalweg.earth.sensors import LANDSAT_8, SENTINEL_1, SENTINEL_2
from thalweg.errors import UsageError


@pytest.fixture
def bands() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.uniform(0.01, 0.6, (4, 5)) for name in ("blue", "red", "nir")}


@pytest.mark.parametrize("name", INDICES)
def test_indices_are_those_of_spyndex(name: str, bands: dict[str, np.ndarray]) -> None:
    spyndex = pytest.importorskip("spyndex")
    red, nir = bands["red"], bands["nir"]
    parameters = {"N": nir, "R": red, "B": bands["blue"], "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0, "kNN": 1.0}
    parameters["kNR"] = spyndex.computeKernel("RBF", a=nir, b=red, sigma=0.5 * (nir + red))
    np.testing.assert_allclose(spectral_index(name, bands), spyndex.computeIndex(name, params=parameters), rtol=1e-12)


@pytest.mark.parametrize("name", INDICES)
def test_indices_of_tensors_are_differentiable(name: str, bands: dict[str, np.ndarray]) -> None:
    tensors = {band: torch.from_numpy(values).requires_grad_() for band, values in bands.items()}
    found = spectral_index(name.lower(), tensors)
    np.testing.assert_allclose(found.detach().numpy(), spectral_index(name, bands), rtol=1e-12)
    assert torch.autograd.gradcheck(lambda nir: spectral_index(name, {**tensors, "nir": nir}), tensors["nir"])


def test_an_unknown_index_or_a_missing_band_is_refused(bands: dict[str, np.ndarray]) -> None:
    assert index_name("kndvi") == "kNDVI"
    assert index_name("savi") is None
    with pytest.raises(UsageError, match="expected one of NDVI, EVI, NIRv, kNDVI, got 'savi'"):
        spectral_index("savi", bands)
    with pytest.raises(UsageError, match="NDVI: expected the bands blue, red, nir, got no red"):
        spectral_index("ndvi", {"blue": bands["blue"], "nir": bands["nir"]})


def test_the_bands_of_an_index_are_found_by_their_common_names() -> None:
    assert index_band_numbers(SENTINEL_2) == {"blue": 0, "red": 2, "nir": 6}
    assert index_band_numbers(LANDSAT_8) == {"blue": 0, "red": 2, "nir": 3}
    with pytest.raises(UsageError, match="sentinel-1 has no blue band"):
        index_band_numbers(SENTINEL_1)
