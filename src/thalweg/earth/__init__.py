"""Embedding spaces learned from satellites (arXiv 2511.11706)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.inference.job import embed
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.store.writer import open_embeddings

__all__ = ["Cube", "EarthModel", "embed", "open_embeddings"]

_HOMES = {"Cube": "cubes", "EarthModel": "model", "embed": "embedder", "open_embeddings": "store"}


def __getattr__(name: str) -> Any:
    # Heavy libraries load at first use, so that importing the package stays quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
