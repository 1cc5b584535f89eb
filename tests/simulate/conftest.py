import pytest

from thalweg.simulate import Landscape, simulate


@pytest.fixture(scope="session")
def landscape() -> Landscape:
    """A temperate landscape of one year, large enough for every land cover class."""
    return simulate(seed=3, size=64, years=1, climate="temperate")
