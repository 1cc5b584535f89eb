"""Random damage to files: to their bytes, or to one value of their JSON."""

import json
from pathlib import Path
from typing import Any

from numpy.random import Generator


def flip_bits(content: bytearray, generator: Generator) -> None:
    for _ in range(generator.integers(1, 4)):
        content[generator.integers(len(content))] ^= 1 << generator.integers(8)


def overwrite(content: bytearray, generator: Generator) -> None:
    start = int(generator.integers(len(content)))
    end = min(len(content), start + int(generator.integers(1, 64)))
    content[start:end] = generator.bytes(end - start)


def truncate(content: bytearray, generator: Generator) -> None:
    del content[int(generator.integers(len(content))) :]


def append(content: bytearray, generator: Generator) -> None:
    content += generator.bytes(int(generator.integers(1, 64)))


def zero(content: bytearray, generator: Generator) -> None:
    start = int(generator.integers(len(content)))
    content[start : start + 32] = bytes(len(content[start : start + 32]))


DAMAGES = (flip_bits, overwrite, truncate, append, zero)


def damage(path: Path, generator: Generator) -> str:
    """Damage a file's bytes by one of `DAMAGES`, and return a description of the damage."""
    before = path.read_bytes()
    kind = DAMAGES[generator.integers(len(DAMAGES))]
    content = bytearray(before)
    while bytes(content) == before:
        kind(content, generator)
    path.write_bytes(content)
    return f"{kind.__name__} {path}"


def change_json(path: Path, generator: Generator) -> str:
    """Replace one value of a JSON document or remove a key, and return a description of the change."""
    document = json.loads(path.read_text())
    entries: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            entries.append((node, key))
            if isinstance(value, dict | list):
                collect(value)

    collect(document)
    node, key = entries[generator.integers(len(entries))]
    invalid = [None, -1, 0, 10**12, 1.5, "x", "", [], {}, True, float("nan"), [[]], "EPSG:4326"]
    choice = int(generator.integers(len(invalid) + 1))
    if choice == len(invalid):
        del node[key]
    else:
        node[key] = invalid[choice]
    path.write_text(json.dumps(document))
    return f"{key} of {path.name} {'removed' if choice == len(invalid) else invalid[choice]!r}"
