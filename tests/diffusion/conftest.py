"""Generators on tiny pipelines with random weights."""

import pytest

from pipelines import BUILDERS, generator
from thalweg.diffusion import DiffusionGenerator


@pytest.fixture(params=BUILDERS)
def any_generator(request: pytest.FixtureRequest) -> DiffusionGenerator:
    return generator(request.param)


@pytest.fixture
def tiny() -> DiffusionGenerator:
    return generator("sd")
