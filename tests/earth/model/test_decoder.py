"""Decoder: the centre date as encoded, fading to a smooth trajectory."""

import pytest
import torch

from thalweg.earth.model.decoder import Decoder
from thalweg.earth.model.earth_model import EarthModel


@pytest.fixture(params=["sentinel-2", "sentinel-1"])
def decoder(request: pytest.FixtureRequest, model: EarthModel) -> Decoder:
    return model.autoencoder(request.param).decoder


@pytest.fixture
def encoding(decoder: Decoder) -> torch.Tensor:
    return torch.randn(2, decoder.linear.in_features, 3, 4, generator=torch.Generator().manual_seed(0))


def smooth(decoder: Decoder, encoding: torch.Tensor, days: torch.Tensor) -> torch.Tensor:
    """The spectra (Q, D, C, h, w) interpolated between the nodes, without the centre date."""
    return torch.einsum("qochw,qdo->qdchw", decoder.nodes(encoding), decoder.weights(days))


def test_the_centre_date_is_decoded_as_encoded(decoder: Decoder, encoding: torch.Tensor) -> None:
    days = torch.tensor([[0.0, 0.3, -0.4]]).expand(2, -1)
    decoded = decoder(encoding, days)
    bands = encoding[:, -decoder.bands :]
    torch.testing.assert_close(decoded[:, 0], bands, atol=1e-5, rtol=0)
    trajectory = smooth(decoder, encoding, days)
    assert (trajectory[:, 0] - bands).abs().max() > 0.1
    change = trajectory - trajectory[:, :1]
    torch.testing.assert_close(decoded, bands[:, None] + change, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_centre_date_fades_to_the_smooth_trajectory(sign: int, decoder: Decoder, encoding: torch.Tensor) -> None:
    days = sign * torch.tensor([[0.0, 4.0, 16.0, 64.0, 400.0]]).expand(2, -1)
    difference = (decoder(encoding, days) - smooth(decoder, encoding, days)).abs()
    mean = difference.mean((0, 2, 3, 4))
    assert mean[0] > 0.1
    assert (mean[1:] < mean[:-1]).all()
    assert difference[:, -1].max() < 1e-5


def test_spectra_between_two_nodes_are_interpolated(decoder: Decoder) -> None:
    offsets = decoder.offsets
    between = (offsets[:-1] + offsets[1:]) / 2
    weights = decoder.weights(torch.cat([offsets, between, torch.tensor([-999.0, 999.0])]))
    count = len(offsets)
    torch.testing.assert_close(weights[:count], torch.eye(count))
    torch.testing.assert_close(weights[count : 2 * count - 1], (torch.eye(count)[:-1] + torch.eye(count)[1:]) / 2)
    torch.testing.assert_close(weights[-2:], torch.eye(count)[[0, -1]])
