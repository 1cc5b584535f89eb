"""Layout of a store's overviews by the convention `multiscales`: which array is derived from which, and how."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.earth.store.conventions.declared_conventions import MULTISCALES
from thalweg.earth.store.portable import structured

LEVEL_SIDE = 256
"""Largest side of the smallest level in pixels; a store that is no larger has no overviews."""

RESAMPLING = {
    "embeddings": "renormalized_mean",
    "uncertainty": "average",
    "quality": "min",
    "picture": "average",
}
"""Variables that have overviews, and how each is reduced."""

_FOLDER = "overviews"


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """Return by which factors a grid of `shape` pixels is reduced: 2, 4, ... until it fits into `LEVEL_SIDE`."""
    factors: list[int] = []
    while max(shape) > LEVEL_SIDE * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    return factors


def overview_group(factor: int) -> str:
    """Return the group of a store that holds the overview by a factor."""
    return f"{_FOLDER}/{factor}"


def with_multiscales(attributes: Mapping[str, Any], shape: tuple[int, int], factors: Sequence[int]) -> dict[str, Any]:
    """Return the attributes of a store with the layout of its overviews.

    Args:
        attributes: attributes of the store.
        shape: rows and columns of its grid.
        factors: factors of its overviews, rising.
    """
    step, _, left, _, _, top = attributes["spatial:transform"]

    def level(name: str, factor: int) -> dict[str, Any]:
        path = name if factor == 1 else f"{overview_group(factor)}/{name}"
        return {
            "asset": path,
            "spatial:shape": [math.ceil(side / factor) for side in shape],
            "spatial:transform": [step * factor, 0.0, left, 0.0, -step * factor, top],
        }

    layout = []
    for name, method in RESAMPLING.items():
        layout.append(level(name, 1))
        for below, factor in zip((1, *factors), factors, strict=False):
            layout.append(
                {
                    **level(name, factor),
                    "derived_from": level(name, below)["asset"],
                    "transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]},
                    "resampling_method": method,
                }
            )
    return {
        **attributes,
        "zarr_conventions": [*attributes["zarr_conventions"], MULTISCALES],
        "multiscales": {"layout": layout},
    }


def without_multiscales(attributes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes without the layout of overviews, which a selection or a copy does not have."""
    kept = {name: value for name, value in attributes.items() if name != "multiscales"}
    if "multiscales" in attributes and "zarr_conventions" in kept:
        declared = structured(attributes, "zarr_conventions")
        kept["zarr_conventions"] = [one for one in declared if one.get("uuid") != MULTISCALES["uuid"]]
    return kept


def stated_factors(attributes: Mapping[str, Any]) -> list[int]:
    """Return the factors of the overviews that a store states, rising; empty if it has none.

    Raises:
        LookupError: The layout lacks a field.
        ValueError: The layout names a group that is no overview.
    """
    if "multiscales" not in attributes:
        return []
    layout = structured(attributes, "multiscales")["layout"]
    groups = {entry["asset"].rpartition("/")[0] for entry in layout if "derived_from" in entry}
    names = [group.removeprefix(f"{_FOLDER}/") for group in groups]
    strange = [name for name in names if not name.isdecimal()]
    if strange:
        raise ValueError(f"multiscales names {strange[0]!s:.40}, expected groups such as {overview_group(2)}")
    return sorted(map(int, names))
