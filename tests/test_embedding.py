import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import NotFiniteError, ThalwegError, UsageError

MODEL = ModelIdentity("toy", "ab" * 32)
DOCUMENTED = Path(__file__).parents[1] / "docs" / "embedding-file.md"


@pytest.fixture
def embedding():
    random = torch.Generator().manual_seed(0)
    tensors = {
        "prompt": torch.randn(4, 3, generator=random),
        "pooled": torch.randn(5, generator=random).half(),
        "mask": torch.tensor([1, 1, 1, 0]),
    }
    return Embedding(tensors, Lineage(MODEL, "ein Würfel", "embed", {"cut": None}, ("12" * 32,)))


def rewrite(path, tensors=None, **metadata):
    """Change parts of an embedding file, as another program would."""
    with safe_open(str(path), framework="pt") as file:
        known = file.metadata()
    save_file(tensors or load_file(path), path, {**known, **metadata})


def test_a_saved_embedding_is_loaded_unchanged(tmp_path, embedding):
    path = embedding.save(tmp_path / "new" / "e.safetensors")
    again = Embedding.load(path, MODEL)
    assert again.lineage == embedding.lineage
    assert again.hash == embedding.hash
    for name, tensor in embedding.tensors.items():
        assert torch.equal(again.tensors[name], tensor)
        assert again.tensors[name].dtype == tensor.dtype
    assert [file.name for file in path.parent.iterdir()] == ["e.safetensors"]


def test_metadata_is_as_documented(tmp_path, embedding):
    embedding.save(tmp_path / "e.safetensors")
    with safe_open(str(tmp_path / "e.safetensors"), framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "format_version", "thalweg_version", "hash", "lineage", "lineage_hash"}
    record = json.loads(metadata["lineage"])
    assert set(record) == {"model", "prompt", "operation", "parameters", "parents"}
    text = DOCUMENTED.read_text()
    assert all(f"`{name}`" in text for name in (*metadata, *record))
    assert f"`{metadata['format']}`" in text
    assert f"`{metadata['format_version']}`" in text


def test_hash_is_of_the_content(embedding):
    moved = {**embedding.tensors, "prompt": embedding.tensors["prompt"] + 1e-6}
    assert replace(embedding, lineage=Lineage(MODEL)).hash == embedding.hash
    assert Embedding(dict(reversed(embedding.tensors.items())), embedding.lineage).hash == embedding.hash
    assert Embedding(moved, embedding.lineage).hash != embedding.hash


def test_hash_is_as_documented(embedding):
    digest = hashlib.sha256()
    for name in ("mask", "pooled", "prompt"):
        tensor = embedding.tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert embedding.hash == digest.hexdigest()


def test_floating_excludes_masks(embedding):
    assert set(embedding.floating) == {"prompt", "pooled"}


def test_derive_records_the_provenance(embedding):
    other = Embedding({**embedding.tensors, "prompt": torch.ones(4, 3)}, embedding.lineage)
    child = embedding.derive({"prompt": torch.zeros(4, 3)}, "path", other, weight=0.5)
    assert torch.equal(child.tensors["prompt"], torch.zeros(4, 3))
    assert torch.equal(child.tensors["pooled"], embedding.tensors["pooled"])
    assert child.lineage.parents == (embedding.hash, other.hash)
    assert (child.lineage.operation, child.lineage.parameters) == ("path", {"weight": 0.5})
    assert (child.lineage.prompt, child.lineage.model) == ("ein Würfel", MODEL)


@pytest.mark.parametrize("tensors", [{"prompt": torch.zeros(3, 4)}, {"other": torch.zeros(4, 3)}])
def test_derive_refuses_other_shapes_and_names(embedding, tensors):
    with pytest.raises(UsageError, match=r"expected tensors like .*'prompt': \(4, 3\)"):
        embedding.derive(tensors, "path")


@pytest.mark.parametrize("name", ["e.pt", "e.pth", "e"])
def test_pickles_are_refused(tmp_path, embedding, name):
    with pytest.raises(UsageError, match=r"pickles \(.pt\) are refused"):
        embedding.save(tmp_path / name)
    torch.save({"prompt": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(UsageError, match=r"pickles \(.pt\) are refused"):
        Embedding.load(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "disguised.safetensors")
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        Embedding.load(tmp_path / "disguised.safetensors")


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="found none at"):
        Embedding.load(tmp_path / "none.safetensors")


def test_a_truncated_file(tmp_path, embedding):
    path = embedding.save(tmp_path / "e.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        Embedding.load(path)


def test_another_models_embedding(tmp_path, embedding):
    path = embedding.save(tmp_path / "e.safetensors")
    other = ModelIdentity("stable", "cd" * 32)
    with pytest.raises(UsageError, match=r"expected an embedding of stable \(cdcdcdcdcdcd\), got one of toy \(abab"):
        Embedding.load(path, other)
    Embedding.load(path, ModelIdentity("renamed", MODEL.hash))


def test_other_safetensors_files(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match="no Thalweg embedding"):
        Embedding.load(tmp_path / "weights.safetensors")


def test_another_format_version(tmp_path, embedding):
    path = embedding.save(tmp_path / "e.safetensors")
    rewrite(path, format_version="2", thalweg_version="9.0")
    with pytest.raises(UsageError, match=r"format version 2, this package reads 1; read it with the thalweg 9\.0"):
        Embedding.load(path)


def test_changed_tensors_and_provenance(tmp_path, embedding):
    path = embedding.save(tmp_path / "e.safetensors")
    tensors = load_file(path)
    rewrite(path, tensors={**tensors, "prompt": tensors["prompt"] + 1})
    with pytest.raises(UsageError, match="do not match the hash"):
        Embedding.load(path)
    path = embedding.save(path)
    for lineage in ("{", '{"model": 3}', "[]"):
        rewrite(path, lineage=lineage)
        with pytest.raises(UsageError, match="the lineage in its metadata can't be read"):
            Embedding.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, embedding, monkeypatch):
    path = embedding.save(tmp_path / "e.safetensors")
    before = path.read_bytes()

    def full_disk(self, content):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        embedding.derive({"prompt": torch.zeros(4, 3)}, "path").save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_not_written(tmp_path, embedding, value):
    rows = embedding.tensors["prompt"].clone()
    rows[1, 0] = value
    with pytest.raises(NotFiniteError, match="tensor prompt holds NaN or infinity; nothing is written"):
        embedding.derive({"prompt": rows}, "move").save(tmp_path / "broken.safetensors")
    with pytest.raises(NotFiniteError, match="finite numbers in its lineage"):
        embedding.derive({}, "move", weight=value).save(tmp_path / "broken.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_pixels_of_a_scene_may_lack_a_whole_embedding_but_no_part_of_it(tmp_path, embedding):
    scene = torch.ones(4, 3, 2)
    scene[:, 1, 0] = torch.nan
    scenes = Embedding({"embedding": scene}, embedding.lineage)
    loaded = Embedding.load(scenes.save(tmp_path / "scene.safetensors"))
    torch.testing.assert_close(loaded.tensors["embedding"], scene, equal_nan=True)
    scene[2, 2, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="tensor embedding"):
        scenes.save(tmp_path / "broken.safetensors")


def test_check_finite(embedding):
    embedding.check_finite()
    bad = embedding.derive({"pooled": torch.full((5,), torch.nan, dtype=torch.float16)}, "path")
    with pytest.raises(ThalwegError, match="tensor pooled holds NaN or infinity"):
        bad.check_finite()


def test_gradients_do_not_reach_the_file(tmp_path, embedding):
    prompt = embedding.tensors["prompt"].clone().requires_grad_()
    moved = embedding.derive({"prompt": prompt * 2}, "path")
    again = Embedding.load(moved.save(tmp_path / "e.safetensors"))
    assert torch.equal(again.tensors["prompt"], 2 * embedding.tensors["prompt"])


def test_import_does_not_load_the_models():
    heavy = "diffusers", "transformers", "botorch", "cma", "kornia", "matplotlib"
    names = "embedding", "generator", "steer.optimization.optimize", "steer.metrics.metric", "steer.runs"
    modules = ", ".join(f"thalweg.{name}" for name in names)
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
