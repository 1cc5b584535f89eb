"""Ways to damage a file: its bytes, or one value of its JSON."""

import json
from pathlib import Path
from typing import Any

from numpy.random import Generator


def flipped(content: bytearray, chance: Generator) -> None:
    for _ in range(chance.integers(1, 4)):
        content[chance.integers(len(content))] ^= 1 << chance.integers(8)


def overwritten(content: bytearray, chance: Generator) -> None:
    start = int(chance.integers(len(content)))
    end = min(len(content), start + int(chance.integers(1, 64)))
    content[start:end] = chance.bytes(end - start)


def cut_short(content: bytearray, chance: Generator) -> None:
    del content[int(chance.integers(len(content))) :]


def longer(content: bytearray, chance: Generator) -> None:
    content += chance.bytes(int(chance.integers(1, 64)))


def zeroed(content: bytearray, chance: Generator) -> None:
    start = int(chance.integers(len(content)))
    content[start : start + 32] = bytes(len(content[start : start + 32]))


DAMAGES = (flipped, overwritten, cut_short, longer, zeroed)


def damage(path: Path, chance: Generator) -> str:
    """Damage a file's bytes by one of `DAMAGES`; what was done, in words."""
    before = path.read_bytes()
    kind = DAMAGES[chance.integers(len(DAMAGES))]
    content = bytearray(before)
    while bytes(content) == before:
        kind(content, chance)
    path.write_bytes(content)
    return f"{kind.__name__} {path}"


def changed_json(path: Path, chance: Generator) -> str:
    """Replace one value of a JSON document, or leave a key out."""
    document = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(document)
    node, key = places[chance.integers(len(places))]
    odd = [None, -1, 0, 10**12, 1.5, "x", "", [], {}, True, float("nan"), [[]], "EPSG:4326"]
    choice = int(chance.integers(len(odd) + 1))
    if choice == len(odd):
        del node[key]
    else:
        node[key] = odd[choice]
    path.write_text(json.dumps(document))
    return f"{key} of {path.name} {'left out' if choice == len(odd) else odd[choice]!r}"
