"""Principal directions and paths between places: decoded bands and figures."""

import numpy as np
import pytest
import torch
import xarray as xr

import thalweg  # noqa: F401  (gives datasets their .thalweg)
from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.counterfactual_plots import draw_directions, draw_path
from thalweg.earth.counterfactual.directions import principal_directions
from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.earth.counterfactual.interpolation import decode_path
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


def test_directions_are_decoded_along_their_axes(embedded: xr.Dataset, model: EarthModel) -> None:
    distribution = EmbeddingDistribution.of(embedded)
    found = principal_directions(embedded, model, distribution, 3)
    assert [one.variance_share for one in found] == sorted((one.variance_share for one in found), reverse=True)
    assert 0 < sum(one.variance_share for one in found) <= 1
    first = found[0]
    point = distribution.mean + 2 * first.std * first.axis
    vector = torch.from_numpy(point.astype(np.float32))[None, :, None, None]
    np.testing.assert_allclose(
        first.bands["sentinel-1"][-1], model.decode(vector, "sentinel-1")[0, :, 0, 0].numpy(), atol=1e-4
    )
    assert found[0].rgb.shape == (5, 3)
    assert len(draw_directions(found, model).axes) == 3 * (len(model.sensors) + 1)


def test_an_invalid_number_of_directions_is_refused(embedded: xr.Dataset, model: EarthModel) -> None:
    for count in (0, 33):
        with pytest.raises(UsageError, match=f"{count} directions: expected 1 to 32"):
            principal_directions(embedded, model, count=count)


def test_a_path_between_dates_starts_and_ends_at_their_bands(
    embedded: xr.Dataset, model: EarthModel, dates: list[str]
) -> None:
    found = decode_path(EarthGenerator(model, dataset=embedded), *dates, count=4)
    assert found.previews.shape == (4, 32, 32, 3)
    assert found.bands.shape == (4, 10)
    index = int(np.abs(embedded.time.values - np.datetime64(dates[0], "ns")).argmin())
    bands = embedded.thalweg.decode("sentinel-2", model=model).values
    last = int(np.abs(embedded.time.values - np.datetime64(dates[1], "ns")).argmin())
    both = np.isfinite(bands[index, 0] + bands[last, 0])
    np.testing.assert_allclose(found.bands[0], bands[index][:, both].mean(1), atol=1e-4)
    np.testing.assert_allclose(found.bands[-1], bands[last][:, both].mean(1), atol=1e-4)
    assert (found.start, found.end) == tuple(dates)
    assert len(draw_path(found).axes) == 5


def test_a_path_between_pixels_has_their_bands(embedded: xr.Dataset, model: EarthModel, dates: list[str]) -> None:
    generator = EarthGenerator(model, dataset=embedded)
    usable = np.argwhere(np.isfinite(embedded.embeddings.sel(time=dates[0], method="nearest").values).all(0))
    (row, column), (other_row, other_column) = usable[5], usable[-5]
    found = decode_path(
        generator, f"pixel:{row},{column}@{dates[0]}", f"pixel:{other_row},{other_column}@{dates[0]}", count=3
    )
    ends = [generator.showing("sentinel-2").render(found.embeddings[index], [0])[0, :, 0, 0] for index in (0, -1)]
    np.testing.assert_allclose(found.bands[[0, -1]], torch.stack(ends).numpy(), atol=1e-5)
    assert found.previews.shape == (3, 1, 1, 3)


def test_invalid_paths_are_refused(embedded: xr.Dataset, model: EarthModel, dates: list[str]) -> None:
    generator = EarthGenerator(model, dataset=embedded)
    with pytest.raises(UsageError, match="expected two pixels or two dates"):
        decode_path(generator, f"pixel:12,20@{dates[0]}", dates[1])
    with pytest.raises(UsageError, match="expected at least 2 embeddings"):
        decode_path(generator, *dates, count=1)
