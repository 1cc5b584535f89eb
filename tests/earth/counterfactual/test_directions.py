"""Explain and between: the directions and paths that are decoded, and their figures."""

import numpy as np
import pytest
import torch
import xarray as xr

import thalweg  # noqa: F401  (gives datasets their .thalweg)
from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual import directions, interpolation
from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.earth.counterfactual.quantities import decoded
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def embedded(cube: object, model: EarthModel) -> xr.Dataset:
    return embed(cube, model, 32)


@pytest.fixture(scope="module")
def dates(embedded: xr.Dataset) -> list[str]:
    """The two clearest dates, in order."""
    share = np.isfinite(embedded.embeddings.values[:, 0]).mean((1, 2))
    return [np.datetime_as_string(embedded.time.values[index], "D") for index in np.sort(share.argsort()[-2:])]


def test_directions_are_decoded_where_they_lead(embedded: xr.Dataset, model: EarthModel) -> None:
    population = EmbeddingDistribution.of(embedded)
    found = directions.explain(embedded, model, population, 3)
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    assert 0 < sum(one.share for one in found) <= 1
    first = found[0]
    place = population.mean + 2 * first.spread * first.axis
    vector = torch.from_numpy(place.astype(np.float32))[None, :, None, None]
    np.testing.assert_allclose(
        first.bands["sentinel-1"][-1], decoded(model, "sentinel-1", vector)[0, :, 0, 0].numpy(), atol=1e-4
    )
    assert found[0].colours.shape == (5, 3)
    assert len(directions.draw(found, model).axes) == 3 * (len(model.sensors) + 1)


def test_directions_at_fault_are_refused(embedded: xr.Dataset, model: EarthModel) -> None:
    for count in (0, 33):
        with pytest.raises(UsageError, match=f"{count} directions: expected 1 to 32"):
            directions.explain(embedded, model, count=count)


def test_a_path_between_dates_begins_and_ends_there(embedded: xr.Dataset, model: EarthModel, dates: list[str]) -> None:
    found = interpolation.between(EarthGenerator(model, dataset=embedded), *dates, count=4)
    assert found.pictures.shape == (4, 32, 32, 3)
    assert found.bands.shape == (4, 10)
    index = int(np.abs(embedded.time.values - np.datetime64(dates[0], "ns")).argmin())
    bands = embedded.thalweg.decode("sentinel-2", model=model).values
    last = int(np.abs(embedded.time.values - np.datetime64(dates[1], "ns")).argmin())
    both = np.isfinite(bands[index, 0] + bands[last, 0])
    np.testing.assert_allclose(found.bands[0], bands[index][:, both].mean(1), atol=1e-4)
    np.testing.assert_allclose(found.bands[-1], bands[last][:, both].mean(1), atol=1e-4)
    assert (found.start, found.end) == tuple(dates)
    assert len(interpolation.draw(found).axes) == 5


def test_a_path_between_pixels_has_their_bands(embedded: xr.Dataset, model: EarthModel, dates: list[str]) -> None:
    generator = EarthGenerator(model, dataset=embedded)
    seen = np.argwhere(np.isfinite(embedded.embeddings.sel(time=dates[0], method="nearest").values).all(0))
    (row, column), (other_row, other_column) = seen[5], seen[-5]
    found = interpolation.between(
        generator, f"{column},{row}@{dates[0]}", f"{other_column},{other_row}@{dates[0]}", count=3
    )
    ends = [generator.showing("sentinel-2").render(found.embeddings[index], [0])[0, :, 0, 0] for index in (0, -1)]
    np.testing.assert_allclose(found.bands[[0, -1]], torch.stack(ends).numpy(), atol=1e-5)
    assert found.pictures.shape == (3, 1, 1, 3)


def test_paths_at_fault_are_refused(embedded: xr.Dataset, model: EarthModel, dates: list[str]) -> None:
    generator = EarthGenerator(model, dataset=embedded)
    with pytest.raises(UsageError, match="expected two pixels or two dates"):
        interpolation.between(generator, f"20,12@{dates[0]}", dates[1])
    with pytest.raises(UsageError, match="expected at least 2 embeddings"):
        interpolation.between(generator, *dates, count=1)
