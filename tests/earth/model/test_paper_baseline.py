"""The `paper` baseline: shapes, windows of dates, fill, dense embedding, model folder."""

from pathlib import Path

import pytest
import torch

from thalweg.earth.model.context import HALO, SensorContext
from thalweg.earth.model.paper_baseline import PaperModel, elapsed_days
from thalweg.earth.model.paper_samples import (
    NUM_DATES,
    PaperSamples,
    centred_window,
    paired_window,
    usable_dates,
    window_frames,
)
from thalweg.errors import UsageError

BANDS = {"sentinel-2": 10, "sentinel-1": 2}


@pytest.fixture(scope="module")
def model() -> PaperModel:
    """An untrained model whose embeddings differ between pixels."""
    torch.manual_seed(0)
    model = PaperModel().eval()
    with torch.no_grad():
        for layer in (model.autoencoder("sentinel-2").bottleneck, model.fusion.output):
            layer.weight.mul_(30)
    return model


def context(bands: int, dates: int, step: float, size: tuple[int, int] = (4, 3), seed: int = 0) -> SensorContext:
    """Return random observations, a fifth of them missing, on dates from day 1000 on."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (length + 2 * HALO for length in size)
    valid = (torch.rand((dates, 1, height, width), generator=generator) > 0.2).float()
    values = torch.rand((dates, bands, height, width), generator=generator) * valid
    return SensorContext(values, valid, 1000 + step * torch.arange(dates), torch.ones(bands, dtype=torch.bool))


@pytest.fixture(scope="module")
def contexts() -> dict[str, SensorContext]:
    return {"sentinel-2": context(10, 16, 7.0), "sentinel-1": context(2, 30, 4.0, seed=1)}


def samples(bands: int, count: int = 2) -> PaperSamples:
    generator = torch.Generator().manual_seed(bands)
    shape = (count, NUM_DATES, bands, 15, 15)
    valid = (torch.rand(shape, generator=generator) > 0.3).float()
    return PaperSamples(torch.rand(shape, generator=generator) * valid, valid, torch.arange(11.0).expand(count, -1) * 8)


def test_shapes_are_the_published_ones(model: PaperModel) -> None:
    both = {name: samples(bands) for name, bands in BANDS.items()}
    encodings, gaps = model.encode(both)
    assert {name: tuple(values.shape) for name, values in encodings.items()} == {
        "sentinel-2": (2, 9),
        "sentinel-1": (2, 2),
    }
    assert all((values >= 0).all() for values in encodings.values())
    embedded = model.fuse(encodings, gaps)
    assert embedded.shape == (2, 7) and (embedded >= 0).all()
    optical = model.autoencoder("sentinel-2")
    tokens = optical.frame_encoder(both["sentinel-2"].values[:, 0])
    assert tokens.shape == (2, 16, 4, 4)
    assert (optical.reduce.out_features, model.autoencoder("sentinel-1").reduce.out_features) == (7, 6)
    assert optical.decode(encodings["sentinel-2"], both["sentinel-2"].days).shape == (2, 11, 10, 15, 15)


def test_part_of_a_decoded_sample_is_that_of_the_whole(model: PaperModel) -> None:
    optical, days = model.autoencoder("sentinel-2"), samples(10).days
    whole = optical.decode(torch.rand(2, 9), days)
    assert whole.shape[1] == 11
    encoding = torch.rand(2, 9)
    whole, part = optical.decode(encoding, days), optical.decode(encoding, days, torch.tensor([5, 8]))
    torch.testing.assert_close(part, whole[:, [5, 8]])


def test_missing_values_are_filled_by_the_mean_of_the_sample() -> None:
    values, valid = torch.zeros(1, 11, 2, 15, 15), torch.zeros(1, 11, 2, 15, 15)
    values[0, 3, 0, :2, 0], valid[0, 3, 0, :2, 0] = torch.tensor([0.2, 0.6]), 1
    filled = PaperSamples(values, valid, torch.zeros(1, 11)).filled(torch.tensor([0.9, 0.3]))
    assert filled[0, 3, 0, 0, 0] == 0.2
    torch.testing.assert_close(filled[0, 5, 0], torch.full((15, 15), 0.4))
    torch.testing.assert_close(filled[0, :, 1], torch.full((11, 15, 15), 0.3))


def test_a_window_has_the_consecutive_usable_dates() -> None:
    days, usable = torch.arange(30.0) * 5, torch.arange(0, 30, 2)
    window = centred_window(days, usable, days[14])
    assert window.frames.tolist() == list(range(4, 25, 2))
    assert window.days.tolist() == [20.0 + 10 * step for step in range(11)]
    cloudy = centred_window(days, usable, days[15])
    assert cloudy.frames.tolist() == [6, 8, 10, 12, 14, 15, 16, 18, 20, 22, 24]
    unobserved = centred_window(days, usable, torch.tensor(72.0))
    assert unobserved.frames.tolist() == [6, 8, 10, 12, 14, 30, 16, 18, 20, 22, 24] and unobserved.days[5] == 72
    first = centred_window(days, usable, days[0])
    assert first.frames.tolist() == [0] * 6 + [2, 4, 6, 8, 10]


def test_dates_are_paired_with_the_nearest() -> None:
    window = centred_window(torch.arange(11.0) * 10, torch.arange(11), torch.tensor(50.0))
    radar_days = torch.arange(20.0) * 6 + 1
    pair = paired_window(window, radar_days, torch.arange(20))
    assert (pair.days - window.days).abs().max() <= 3
    assert pair.frames[0] == 0 and pair.days[5] == 49
    absent = paired_window(window, torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert absent.frames.tolist() == [0] * 11 and torch.equal(absent.days, window.days)


def test_elapsed_days_are_whole_and_bounded() -> None:
    days = 3000.3 + torch.cumsum(torch.full((1, 11), 30.0), 1)
    assert elapsed_days(days).tolist() == [[0, 30, 60, 90, 120, 150, 180, 199, 199, 199, 199]]


def test_dense_embeddings_are_those_of_the_patches(model: PaperModel, contexts: dict[str, SensorContext]) -> None:
    centre_days = contexts["sentinel-2"].days[[0, 8]]
    dense = model(contexts, centre_days).values
    assert dense.shape == (2, 7, 4, 3) and dense.dtype == torch.float32
    assert dense.std((2, 3)).max() > 0.01
    usable = {name: usable_dates(own) for name, own in contexts.items()}
    for query, row, column in ((0, 1, 2), (1, 3, 0)):
        place = (..., slice(row, row + 15), slice(column, column + 15))
        reference = centred_window(contexts["sentinel-2"].days, usable["sentinel-2"], centre_days[query])
        patch = {}
        for name, own in contexts.items():
            other = paired_window(reference, own.days, usable[name])
            values, valid = window_frames(own, reference if name == "sentinel-2" else other)
            days = reference.days if name == "sentinel-2" else other.days
            patch[name] = PaperSamples(values[place][None], valid[place][None], days[None])
        torch.testing.assert_close(model.embed(patch)[0], dense[query, :, row, column], rtol=1e-4, atol=1e-5)
        cut = {
            name: SensorContext(own.values[place], own.valid[place], own.days, own.present)
            for name, own in contexts.items()
        }
        alone = model(cut, centre_days[query : query + 1], usable).values
        torch.testing.assert_close(alone[0, :, 0, 0], dense[query, :, row, column], rtol=1e-4, atol=1e-5)


def test_radar_and_bands_may_be_missing(model: PaperModel, contexts: dict[str, SensorContext]) -> None:
    optical = contexts["sentinel-2"]
    with_radar, without = (model(own, optical.days[8:9]).values for own in (contexts, {"sentinel-2": optical}))
    assert torch.isfinite(without).all() and not torch.equal(with_radar, without)
    present = torch.arange(10) < 6
    fewer = SensorContext(optical.values, optical.valid, optical.days, present)
    changed = SensorContext(
        torch.where(present[:, None, None], optical.values, 0.7), optical.valid, optical.days, present
    )
    first, second = (model({"sentinel-2": own}, optical.days[8:9]).values for own in (fewer, changed))
    torch.testing.assert_close(first, second)
    with pytest.raises(UsageError, match="expected sentinel-2"):
        model({"sentinel-1": contexts["sentinel-1"]}, optical.days[:1])


def test_decoding_gives_physical_units_on_any_day(model: PaperModel) -> None:
    embeddings = torch.rand(2, 7, 3, 2, requires_grad=True)
    optical = model.decode(embeddings, "sentinel-2")
    assert optical.shape == (2, 10, 3, 2)
    days = torch.tensor([[0.0, 5.0, 10.0], [0.0, -200.0, -50.0]])
    several = model.decode(embeddings, "sentinel-2", days, 7)
    assert several.shape == (2, 3, 10, 3, 2)
    torch.testing.assert_close(several[:, 0], optical)
    torch.testing.assert_close(several[0, 1], (several[0, 0] + several[0, 2]) / 2)
    torch.testing.assert_close(several[1, 1], several[1, 2])
    radar = model.decode(embeddings, "sentinel-1")
    assert radar.shape == (2, 2, 3, 2) and -30 < radar.detach().mean() < 5
    radar.sum().backward()
    assert embeddings.grad is not None and bool(embeddings.grad.abs().sum() > 0)
    with pytest.raises(UsageError, match="expected 7"):
        model.decode(embeddings, "sentinel-2", 0.0, 32)
    with pytest.raises(UsageError, match="the model knows sentinel-2, sentinel-1"):
        model.decode(embeddings, "landsat-8")


def test_a_saved_model_is_loaded_unchanged(
    model: PaperModel, contexts: dict[str, SensorContext], tmp_path: Path
) -> None:
    card = model.save(tmp_path / "model", {"seed": 0})
    loaded = PaperModel.load(tmp_path / "model")
    assert loaded.identifier == f"thalweg-paper-{card.content_hash[:12]}"
    assert loaded.sensors == ("sentinel-2", "sentinel-1") and loaded.reference.name == "sentinel-2"
    centre_days = contexts["sentinel-2"].days[7:8]
    torch.testing.assert_close(loaded(contexts, centre_days).values, model(contexts, centre_days).values)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "weights.safetensors"}
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UsageError, match="train it again"):
        PaperModel.load(tmp_path / "model")
