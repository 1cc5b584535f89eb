"""Earth model: decoding to physical units, and the model that made a dataset."""

import pytest
import torch
import xarray as xr

from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def embeddings() -> torch.Tensor:
    return torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["sentinel-2", "sentinel-1"])
def test_decoding_gives_the_units_of_the_models_own_sensor(
    name: str, model: EarthModel, embeddings: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder = model.autoencoder(name)
    scaled = autoencoder.reconstruct(model.fusion.sensor_encoding(embeddings, name), torch.zeros(2, 1))[:, 0]
    monkeypatch.setattr(autoencoder, "sensor", autoencoder.sensor.model_copy(update={"value_range": (-40.0, 10.0)}))
    torch.testing.assert_close(model.decode(embeddings, name), scaled * 50 - 40)


def test_days_are_one_number_or_several_per_embedding(model: EarthModel, embeddings: torch.Tensor) -> None:
    days = torch.tensor([[-30.0, 0.0, 14.0], [14.0, -30.0, 0.0]])
    several = model.decode(embeddings, "sentinel-1", days)
    assert several.shape == (2, 3, 2, 3, 4)
    for index in range(2):
        for column, day in enumerate(days[index].tolist()):
            one = model.decode(embeddings, "sentinel-1", day)
            torch.testing.assert_close(several[index, column], one[index])


def test_decoding_is_differentiable(model: EarthModel, embeddings: torch.Tensor) -> None:
    leaf = embeddings.clone().requires_grad_()
    model.decode(leaf, "sentinel-2").mean().backward()
    assert leaf.grad is not None
    assert (leaf.grad != 0).any((0, 2, 3)).all()


def test_an_unknown_sensor_or_size_is_refused(model: EarthModel, embeddings: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="sensor 'landsat-8': the model knows sentinel-2, sentinel-1"):
        model.decode(embeddings, "landsat-8")
    with pytest.raises(UsageError, match="embeddings of 8 dimensions, decoded from 8: expected 7 or 32"):
        model.decode(embeddings[:, :8], "sentinel-2")
    with pytest.raises(UsageError, match="embeddings of 7 dimensions, decoded from 32"):
        model.decode(embeddings[:, :7], "sentinel-2", size=32)


def test_a_dataset_of_another_model_is_refused(model: EarthModel) -> None:
    model.check_made(xr.Dataset(attrs={"thalweg:model": model.identifier}))
    with pytest.raises(UsageError, match=r"embeddings of other, model thalweg-earth-.*: embed the cube again"):
        model.check_made(xr.Dataset(attrs={"thalweg:model": "other"}))
    with pytest.raises(UsageError, match="not a dataset of embeddings"):
        model.check_made(xr.Dataset())


def test_the_reference_sensor_gives_the_dates(model: EarthModel) -> None:
    assert model.reference.name == "sentinel-2"
    assert model.reference.is_reference
