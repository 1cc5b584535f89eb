"""Checkpoints: bit-identical, verified by hashes, never unpickled, complete or absent."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from thalweg.earth.model.autoencoder import Autoencoder
from thalweg.earth.model.checkpoints import CHECKPOINT, read_checkpoint_card, save_checkpoint
from thalweg.earth.model.earth_model import EarthModel, load_autoencoder
from thalweg.earth.sensors import SENTINEL_1
from thalweg.errors import MissingPathError, ThalwegError, UsageError
from thalweg.io.checkpoints import card_hash
from thalweg.io.hashing import content_hash


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of a stage 1 checkpoint of Sentinel-1."""
    return Path(shutil.copytree(model_folder / "sentinel-1", tmp_path / "sentinel-1"))


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_autoencoder(folder)
    assert "\n" not in str(caught.value)
    for word in (str(folder), *words):
        assert word in str(caught.value)


def rewrite_card(folder: Path, **changes: object) -> None:
    """Write other fields, with a hash that verifies them."""
    card = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(json.dumps({**card, "card_hash": card_hash(card)}))


def test_a_round_trip_is_bit_identical(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = Autoencoder(SENTINEL_1)
    card = save_checkpoint(module, "autoencoder", (SENTINEL_1,), tmp_path / "a", {"seed": 3})
    back = load_autoencoder(tmp_path / "a")
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert card == read_checkpoint_card(tmp_path / "a")
    assert card.training == {"seed": 3}
    assert card.sensors == (SENTINEL_1,)
    assert card.content_hash == content_hash(module.state_dict())
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == ["model.json", "weights.safetensors"]


def test_a_loaded_model_is_frozen(model_folder: Path) -> None:
    model = EarthModel.load(model_folder)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_hash_depends_on_every_bit_name_shape_and_dtype() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2)}
    known = content_hash(tensors)
    assert content_hash(dict(reversed(tensors.items()))) == known
    flipped = tensors["a"].clone()
    flipped.view(torch.int32)[3] ^= 1
    assert (flipped != tensors["a"]).sum() == 1
    others = [
        {**tensors, "a": flipped},
        {**tensors, "a": tensors["a"].reshape(2, 3)},
        {"c": tensors["a"], "b": tensors["b"]},
        {**tensors, "b": tensors["b"].view(torch.int32)},
    ]
    assert len({known, *map(content_hash, others)}) == 5


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    first, second = Autoencoder(SENTINEL_1), Autoencoder(SENTINEL_1)
    out = tmp_path / "a"
    save_checkpoint(first, "autoencoder", (SENTINEL_1,), out, {})
    with pytest.raises(UsageError, match="exists already: choose another name or remove it"):
        save_checkpoint(second, "autoencoder", (SENTINEL_1,), out, {})
    assert read_checkpoint_card(out).content_hash == content_hash(first.state_dict())


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, out = Autoencoder(SENTINEL_1), tmp_path / "a"
    with pytest.raises(Exception, match="serialize"):
        save_checkpoint(module, "autoencoder", (SENTINEL_1,), out, {"odd": object()})
    assert not list(tmp_path.iterdir())

    def fail(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(ThalwegError, match=r"could not be written \(no space left\)"):
        save_checkpoint(module, "autoencoder", (SENTINEL_1,), out, {})
    assert not list(tmp_path.iterdir())


def test_a_truncated_checkpoint_is_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    for size in (0, 5, 200, len(whole) - 1):
        weights.write_bytes(whole[:size])
        assert_refused(folder, "empty" if size == 0 else "cut short or damaged", "fetch")
    weights.unlink()
    assert_refused(folder, "there is no such file")


def test_tampered_weights_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert_refused(folder, "hash differs", "get the checkpoint again")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "weights.safetensors")
    name = sorted(tensors)[0]
    del tensors[name]
    save_file(tensors, folder / "weights.safetensors")
    rewrite_card(folder, content_hash=content_hash(tensors))
    assert_refused(folder, "do not fit", name, "retrain")


def test_a_pickle_is_never_run(folder: Path) -> None:
    marker = folder / "was run"

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    for name in ("weights.safetensors", "model.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(UsageError):
            load_autoencoder(folder)
        assert not marker.exists()
        torch.save(Trap(), folder / name)
        with pytest.raises(UsageError):
            load_autoencoder(folder)
        assert not marker.exists()
        (folder / name).write_bytes(kept)
    pickle.loads(pickle.dumps(Trap()))
    assert marker.exists()  # the trap works where something unpickles it


def test_an_unreadable_card_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text("{ not json")
    assert_refused(folder, "can't be read as JSON")
    (folder / "model.json").write_bytes(b"\xff\xfe\x00")
    assert_refused(folder, "can't be read as JSON")
    for content in ("{}", "[]", "3"):
        (folder / "model.json").write_text(content)
        assert_refused(folder, "not the card of a checkpoint", "get the checkpoint again")
    (folder / "model.json").unlink()
    assert_refused(folder, "not a checkpoint", "model.json and weights.safetensors")
    shutil.rmtree(folder)
    with pytest.raises(MissingPathError, match="not a checkpoint"):
        load_autoencoder(folder)


def test_a_card_with_an_unknown_field_or_format_is_refused(folder: Path) -> None:
    rewrite_card(folder, format=99)
    assert_refused(folder, "format 99", "update thalweg")
    rewrite_card(folder, format=CHECKPOINT.version, licence="free")
    assert_refused(folder, "not the card of a checkpoint")


def test_a_card_that_was_changed_is_refused(folder: Path) -> None:
    """The offsets of a sensor change the embedding and are not in the tensors."""
    card = json.loads((folder / "model.json").read_text())
    card["sensors"][0]["offsets"][0] -= 1
    (folder / "model.json").write_text(json.dumps(card))
    assert_refused(folder, "model.json: changed since it was written", "get the checkpoint again")
    del card["card_hash"]  # as in cards of older versions, which are not verified
    card["sensors"][0]["offsets"][0] += 1
    (folder / "model.json").write_text(json.dumps(card))
    load_autoencoder(folder)


def test_aliases_may_differ_from_the_declaration(folder: Path) -> None:
    """Cards older than the aliases and fields of the declaration."""
    card = json.loads((folder / "model.json").read_text())
    del card["card_hash"]
    sensor = card["sensors"][0]
    sensor["bands"][0]["aliases"] = ["vertical"]
    for later in ("other_masks", "name_words", "physical_range", "offset_since_date"):
        del sensor[later]
    (folder / "model.json").write_text(json.dumps(card))
    assert load_autoencoder(folder).sensor.has_same_inputs(SENTINEL_1)
    assert not SENTINEL_1.has_same_inputs(SENTINEL_1.model_copy(update={"value_range": (-40, 5)}))


def test_an_invalid_card_raises_one_line_error(folder: Path, model_folder: Path, tmp_path: Path) -> None:
    (folder / "model.json").write_text("[" * 100_000)
    assert_refused(folder, "nested at most")
    rewrite_card(Path(shutil.copytree(model_folder / "sentinel-1", tmp_path / "none")), sensors=[])
    assert_refused(tmp_path / "none", "names no sensor")
    copy = Path(shutil.copytree(model_folder, tmp_path / "model"))
    rewrite_card(copy / "fusion", training={"encoders": "all"})
    with pytest.raises(UsageError, match="encoders all, expected hashes by sensor"):
        EarthModel.load(copy)
    rewrite_card(copy / "fusion", kind="autoencoder")
    with pytest.raises(UsageError, match="kind autoencoder, expected fusion"):
        EarthModel.load(copy)


def test_a_checkpoint_of_another_sensor_is_refused(folder: Path) -> None:
    assert load_autoencoder(folder, sensor="sentinel-1").sensor == SENTINEL_1
    with pytest.raises(UsageError, match="a checkpoint of sentinel-1, expected one of sentinel-2"):
        load_autoencoder(folder, sensor="sentinel-2")


def test_a_checkpoint_with_other_bands_than_declared_is_refused(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["sensors"][0]["bands"].reverse()
    rewrite_card(folder, sensors=card["sensors"])
    assert_refused(folder, "sentinel-1 has other bands than the declared sensor", "retrain")


def test_a_fusion_is_not_an_autoencoder(model_folder: Path) -> None:
    assert_refused(model_folder / "fusion", "kind fusion, expected autoencoder")


def test_a_model_with_an_encoder_it_was_not_fused_with_is_refused(model_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model_folder, tmp_path / "model"))
    torch.manual_seed(0)
    shutil.rmtree(copy / "sentinel-1")
    save_checkpoint(Autoencoder(SENTINEL_1), "autoencoder", (SENTINEL_1,), copy / "sentinel-1", {})
    with pytest.raises(UsageError, match=r"sentinel-1: not the encoder the fusion was trained on .*fuse again"):
        EarthModel.load(copy)


def test_the_identifier_of_a_model_depends_on_its_tensors(model_folder: Path, tmp_path: Path) -> None:
    model = EarthModel.load(model_folder)
    copy = Path(shutil.copytree(model_folder, tmp_path / "elsewhere"))
    assert EarthModel.load(copy).identifier == model.identifier
    with torch.no_grad():
        next(model.fusion.parameters()).view(-1)[0] += 1
    card = read_checkpoint_card(copy / "fusion")
    shutil.rmtree(copy / "fusion")
    save_checkpoint(model.fusion, "fusion", card.sensors, copy / "fusion", card.training)
    assert EarthModel.load(copy).identifier != model.identifier


def test_the_shipped_weights_load() -> None:
    from thalweg.earth.model.earth_model import SHIPPED

    if not (SHIPPED / "fusion" / "model.json").exists():
        pytest.skip("this checkout holds no shipped weights")
    model = EarthModel.load()
    assert {"sentinel-2", "sentinel-1"} <= set(model.sensors)
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 12e6
