"""LightGBM models as text: written by the library, and checked before the library reads them.

The library follows the node and feature indices of a text without checking them: a forged file could crash the process.
"""

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

if TYPE_CHECKING:
    from lightgbm import Booster

_MAX_TREES = 100_000


def booster_text(booster: "Booster", trees: int) -> bytes:
    """Return a booster's first trees as the text of LightGBM's `save_model`."""
    text: str = booster.model_to_string(num_iteration=trees)
    return text.encode()


def read_booster(content: bytes, features: int) -> "Booster":
    """Read a booster from its text.

    Args:
        content: Text of `booster_text`.
        features: Number of features that the booster has to take.

    Raises:
        UsageError: The text is no such model, takes other features, or has a tree whose nodes point outside of it.
    """
    from lightgbm import Booster
    from lightgbm.basic import LightGBMError

    text = content.decode("utf-8", errors="replace")
    header, *trees = re.split(r"^Tree=\d+$", text, flags=re.MULTILINE)
    if not text.startswith("tree\n") or not 0 < len(trees) <= _MAX_TREES:
        raise UsageError("not a LightGBM model in text form")
    if _integers(header, "max_feature_idx").tolist() != [features - 1]:
        raise UsageError(f"a LightGBM model of other features than the {features} expected")
    for tree in trees:
        _check_tree(tree, features)
    try:
        return Booster(model_str=text)
    except LightGBMError as error:
        raise UsageError(f"not a LightGBM model ({str(error).splitlines()[0]})") from error


def _check_tree(text: str, features: int) -> None:
    """Refuse a tree with indices out of bounds, a categorical split or a linear leaf.

    Raises:
        UsageError: The tree is not one that this package writes.
    """
    leaves = _integers(text, "num_leaves")
    if len(leaves) != 1 or _integers(text, "num_cat").tolist() != [0] or _integers(text, "is_linear").tolist() != [0]:
        raise UsageError("a LightGBM tree of another kind")
    inner = int(leaves[0]) - 1
    if len(re.findall(r"\S+", _value(text, "leaf_value"))) != inner + 1 or inner < 0:
        raise UsageError("a LightGBM tree without its leaves")
    if inner == 0:
        return
    split, left, right = (_integers(text, name) for name in ("split_feature", "left_child", "right_child"))
    children = np.concatenate([left, right])
    node = np.tile(np.arange(inner), 2)
    is_inside = ((children > node) & (children < inner)) | ((children < 0) & (children >= -inner - 1))
    if {len(split), len(left), len(right)} != {inner} or not is_inside.all():
        raise UsageError("a LightGBM tree whose nodes point outside of it")
    if not ((split >= 0) & (split < features)).all():
        raise UsageError("a LightGBM tree that splits features it does not have")
    if any(len(_value(text, name).split()) != inner for name in ("threshold", "decision_type")):
        raise UsageError("a LightGBM tree with incomplete splits")


def _value(text: str, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", text, flags=re.MULTILINE)
    return str(found[0]) if len(found) == 1 else ""


def _integers(text: str, name: str) -> NDArray[np.int64]:
    """Return the integers of one line of a text.

    Raises:
        UsageError: A cell is no integer.
    """
    try:
        return np.array([int(cell) for cell in _value(text, name).split()], np.int64)
    except ValueError as error:
        raise UsageError(f"{name} of a LightGBM tree is not a list of integers") from error
