"""Models in repositories of the hub: saved with their card, uploaded and downloaded through a local stand-in."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.model.earth_model import SHIPPED, EarthModel
from thalweg.errors import MissingPathError, ThalwegError, UsageError
from thalweg.io.hashing import content_hash

REQUIRED = {
    "license",
    "provider",
    "embedding_spatial_types",
    "embedding_temporal_type",
    "embedding_spatial_context",
    "embedding_temporal_context",
    "embedding_dimension",
    "description",
}
"""Fields that the geo-embeddings template requires."""


@pytest.fixture(scope="module")
def model() -> EarthModel:
    """The shipped weights, changed a little."""
    changed = EarthModel.load()
    changed.fusion.state_dict()[next(iter(dict(changed.fusion.named_parameters())))].mul_(1.01)
    return changed


@pytest.fixture(scope="module")
def saved(model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save_pretrained(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the hub: uploads are copied into it, downloads come from it."""
    repositories = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
            (repositories / name).mkdir(parents=True, exist_ok=exist_ok)
            (repositories / name / ".private").write_text(str(private))

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str, **_: Any) -> SimpleNamespace:
            shutil.copytree(folder_path, repositories / repo_id, dirs_exist_ok=True)
            return SimpleNamespace(commit_url=f"hub/{repo_id}/{commit_message}")

    def download(name: str, **options: Any) -> str:
        assert options["allow_patterns"] == ["*/model.json", "*/weights.safetensors", "README.md"]
        if not (repositories / name).is_dir():
            raise LocalEntryNotFoundError("no such repository here")
        return str(repositories / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return repositories


def test_a_saved_model_is_the_same_model(saved: Path, model: EarthModel) -> None:
    again = EarthModel.from_pretrained(saved)
    assert again.identifier.startswith("thalweg-earth-") and again.identifier != EarthModel.load().identifier
    assert content_hash(again.state_dict()) == content_hash(model.state_dict())
    assert {path.suffix for path in saved.rglob("*") if path.is_file()} == {".json", ".safetensors", ".md"}
    with pytest.raises(UsageError, match="exists"):
        model.save_pretrained(saved)


def test_an_unchanged_model_keeps_its_identifier_and_training_record(tmp_path: Path) -> None:
    shipped = EarthModel.load()
    assert EarthModel.from_pretrained(shipped.save_pretrained(tmp_path / "copy")).identifier == shipped.identifier
    for name in ("fusion", "sentinel-1", "sentinel-2"):
        before, after = (read_checkpoint_card(folder / name) for folder in (SHIPPED, tmp_path / "copy"))
        assert (before.training, before.content_hash) == (after.training, after.content_hash)


def test_the_card_has_the_fields_of_the_template(saved: Path) -> None:
    text = (saved / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert set(fields) >= REQUIRED and all(fields[name] for name in REQUIRED)
    assert fields["embedding_dimension"] == 32 and fields["license"] == "apache-2.0"
    assert set(fields["embedding_spatial_types"]) <= {"pixel", "patch", "scene"}
    assert set(fields["embedding_temporal_type"]) <= {"single-date", "multi-date"}
    assert fields["inference"]["product_names"] == ["sentinel-2-l2a", "sentinel-1-grd"]
    assert EarthModel.load(saved).identifier in body
    assert huggingface_hub.ModelCard(text).data.library_name == "thalweg"


def test_a_changed_file_raises_one_line_error(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    weights = copy / "fusion" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UsageError, match="hash differs"):
        EarthModel.from_pretrained(copy)


def test_a_pushed_model_comes_back(model: EarthModel, hub: Path) -> None:
    url = model.push_to_hub("owner/landscape", private=True, message="first")
    assert url == "hub/owner/landscape/first"
    assert (hub / "owner" / "landscape" / ".private").read_text() == "True"
    again = EarthModel.from_pretrained("owner/landscape")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_what_the_hub_refuses_raises_one_line_error(
    model: EarthModel, saved: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ThalwegError, match="owner/nothing: the hub gave no files"):
        EarthModel.from_pretrained("owner/nothing")
    with pytest.raises(MissingPathError, match="no such folder: expected one, or OWNER/NAME"):
        EarthModel.from_pretrained("/no/such/folder")
    with pytest.raises(UsageError, match="`revision` is for repositories"):
        EarthModel.from_pretrained(saved, revision="main")
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        model.push_to_hub("landscape")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    with pytest.raises(ThalwegError, match=r"the hub did not take the model \(OSError: no network\)") as caught:
        model.push_to_hub("owner/landscape")
    assert "\n" not in str(caught.value)
