"""Published networks: their own test cases, their domain, and the refusal without coefficients."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import biophysical_networks
from biophysical_networks import BiophysicalNetwork, angle_cosines, coefficients_folder
from thalweg.errors import UsageError


@pytest.fixture(scope="module", autouse=True)
def _coefficients() -> None:
    try:
        coefficients_folder()
    except UsageError as error:
        pytest.skip(str(error))


def cases(name: str) -> np.ndarray:
    """Published test cases (100, 12): eleven inputs and the output."""
    return np.genfromtxt(coefficients_folder() / name / f"{name}_TestCases", delimiter=",")


@pytest.mark.parametrize("name", ["LAI", "FAPAR", "LAI_Cab"])
def test_published_test_cases_are_met(name: str) -> None:
    inputs, expected = cases(name)[:, :-1], cases(name)[:, -1]
    known = np.isfinite(expected)
    assert known.sum() >= 20
    found = BiophysicalNetwork.load(name).estimate(inputs)[known]
    np.testing.assert_allclose(found, expected[known], rtol=2e-4, atol=2e-4)


def test_bands_outside_the_domain_give_no_estimate() -> None:
    network, inputs = BiophysicalNetwork.load("LAI"), cases("LAI")[:, :-1]
    inside = network.estimate(inputs)
    inputs[::2, 4] = 0.9
    found = network.estimate(inputs.reshape(10, 10, -1)).ravel()
    assert np.isnan(found[::2]).all()
    np.testing.assert_array_equal(found[1::2], inside[1::2])


def test_cosines_are_in_the_order_of_the_networks() -> None:
    found = angle_cosines(np.array([60.0]), np.array([150.0]), np.array([0.0]), np.array([330.0]))
    np.testing.assert_allclose(found, [[1.0, 0.5, -1.0]])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(biophysical_networks, "distribution", missing)
    with pytest.raises(UsageError, match="pip install --no-deps satellitetools") as caught:
        BiophysicalNetwork.load("LAI")
    assert "\n" not in str(caught.value)
