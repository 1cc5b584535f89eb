"""Damaged safetensors files, from a fixed seed: refused in one line, unchanged, or recognised as another model."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from thalweg.diffusion import miniature
from thalweg.diffusion.miniature import attribute_classifier
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import ThalwegError

MODEL = ModelIdentity("toy", "ab" * 32, "cd" * 32)
PARTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
LENGTH = 8
"""Bytes of a safetensors file before its header: the header's length."""


def header_end(content: bytes) -> int:
    return LENGTH + int.from_bytes(content[:LENGTH], "little")


def flip(content: bytes, chance: random.Random, start: int, end: int) -> bytes:
    """Return the content with up to three bits flipped between two places."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_in_the_header(content: bytes, chance: random.Random) -> bytes:
    return flip(content, chance, 0, header_end(content))


def flip_anywhere(content: bytes, chance: random.Random) -> bytes:
    return flip(content, chance, 0, len(content))


def cut_off(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def cut_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.randint(1, 64) :]


def put_in(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + chance.randbytes(chance.randint(1, 64)) + content[start:]


def change_an_entry(content: bytes, chance: random.Random) -> bytes:
    """Return the content with another type, shape, place or name of one tensor: JSON that parses."""
    end = header_end(content)
    header = json.loads(content[LENGTH:end])
    name = chance.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    kind = chance.randrange(5)
    if kind == 0:
        entry["dtype"] = chance.choice(["F16", "BF16", "I16", "F32", "I64", "F8_E4M3", "BOOL", "F4", "X"])
    elif kind == 1:
        entry["shape"] = chance.choice([[], [0], [-1], [2**62], entry["shape"][::-1], [*entry["shape"], 1], [1] * 40])
    elif kind == 2:
        entry["data_offsets"] = chance.choice([[0, 0], [0, 2**40], entry["data_offsets"][::-1], [0]])
    elif kind == 3:
        header[name + "x"] = header.pop(name)
    else:
        del header[name]
    text = json.dumps(header).encode()
    return len(text).to_bytes(LENGTH, "little") + text + content[end:]


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    flip_in_the_header,
    flip_anywhere,
    cut_off,
    cut_out,
    put_in,
    change_an_entry,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_damaged_embedding_file_is_refused_or_unchanged(
    tmp_path: Path, change: Callable[[bytes, random.Random], bytes]
) -> None:
    tensors = {"prompt": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), "mask": torch.tensor([1, 0])}
    path = tmp_path / "e.safetensors"
    Embedding(tensors, Lineage(MODEL, "ein Würfel", "path", {"weight": 0.5}, ("12" * 32,))).save(path)
    content, first, refused = path.read_bytes(), Embedding.load(path), 0
    for seed in range(150):
        path.write_bytes(change(content, random.Random(seed)))
        try:
            again = Embedding.load(path, MODEL)
        except ThalwegError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        assert again.lineage == first.lineage
        assert again.hash == first.hash
    assert refused > 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(miniature.SHIPPED, tmp_path_factory.mktemp("models") / "miniature"))


@pytest.mark.parametrize("part", PARTS)
def test_a_models_file_is_refused_or_another_model(folder: Path, part: str) -> None:
    path = folder / part / PARTS[part]
    content, shipped, refused = path.read_bytes(), miniature.load(folder).model, 0
    before = path.with_suffix(".before")
    before.write_bytes(content)
    for seed in range(9):
        path.write_bytes(CHANGES[seed % len(CHANGES)](content, random.Random(seed)))
        try:
            changed = miniature.load(folder).model
        except ThalwegError as error:
            refused += 1
            assert "\n" not in str(error) and f"miniature: its {part}" in str(error)
            continue
        if part != "vae":  # an embedding has the same meaning whatever decodes its images
            assert (changed == shipped) == same_tensors(path, before)
    path.write_bytes(content)
    assert refused >= 5


def same_tensors(path: Path, other: Path) -> bool:
    """Return whether two files have the same tensors."""
    here, there = load_file(path), load_file(other)
    return here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def test_a_damaged_attribute_classifier_is_refused_or_finite(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    content, refused = miniature.ATTRIBUTE_CLASSIFIER.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(CHANGES[seed % len(CHANGES)](content, random.Random(seed)))
        try:
            loaded = attribute_classifier.load(path)
        except ThalwegError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        assert all(bool(tensor.isfinite().all()) for tensor in loaded.state_dict().values())
    assert refused > 40
