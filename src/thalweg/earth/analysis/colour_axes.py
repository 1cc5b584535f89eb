"""Files of principal components, so that the maps of several stores share their colours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write, refuse_existing, write_failure
from thalweg.io.json_files import read_as, read_json

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the layout of a file of axes."""


@dataclass(frozen=True)
class ColourAxes:
    """Content of a file: the components of the embeddings of one model, as `PrincipalComponents` describes them.

    Attributes:
        format: `FORMAT`.
        model: identifier of the model that made the embeddings.
        mean: (K,).
        scale: (K,).
        axes: (N, K).
        share: (N,).
        low: (N,).
        high: (N,).
    """

    format: int
    model: str
    mean: list[float]
    scale: list[float]
    axes: list[list[float]]
    share: list[float]
    low: list[float]
    high: list[float]

    def __post_init__(self) -> None:
        size, count = len(self.mean), len(self.axes)
        lengths = {len(self.scale), *map(len, self.axes)}, {len(self.share), len(self.low), len(self.high)}
        if self.format != FORMAT or not count or lengths != ({size}, {count}):
            raise UsageError(f"not a file of colour axes of format {FORMAT}: write it again")
        values = np.concatenate([np.ravel(part) for part in (self.mean, self.scale, self.axes, self.low, self.high)])
        if not np.isfinite(values).all() or not min(self.scale) > 0 or not np.less(self.low, self.high).all():
            raise UsageError("a damaged file of colour axes: write it again")


def save_axes(components: PrincipalComponents, model: str, path: str | Path) -> Path:
    """Write principal components to a JSON file.

    Args:
        components: the components.
        model: identifier of the model that made the embeddings they were fitted to.
        path: file to write; must not exist.

    Raises:
        UsageError: There is a file at `path`.
        ThalwegError: The file cannot be written.
    """
    path = Path(path)
    refuse_existing(path)
    arrays = {name: getattr(components, name).tolist() for name in ("mean", "scale", "axes", "share", "low", "high")}
    try:
        return atomic_write(path, json.dumps({"format": FORMAT, "model": model, **arrays}, indent=1).encode())
    except OSError as error:
        raise write_failure(path, error) from error


def load_axes(path: str | Path, dataset: "xr.Dataset") -> PrincipalComponents:
    """Read principal components that `save_axes` wrote, for the embeddings of a dataset.

    Args:
        path: the file.
        dataset: embedding dataset of the same model and number of dimensions.

    Raises:
        MissingPathError: There is no such file.
        UsageError: The file holds no such components, or those of another model or number of dimensions.
    """
    stored = read_as(ColourAxes, read_json(Path(path)), str(path))
    if stored.model != dataset.attrs["thalweg:model"]:
        raise UsageError(
            f"{path}: colour axes of {stored.model}, but the store is of {dataset.attrs['thalweg:model']}: fit axes to "
            "stores of this model"
        )
    if len(stored.mean) != dataset.sizes["embedding"]:
        raise UsageError(
            f"{path}: colour axes of {len(stored.mean)} dimensions, but the store has {dataset.sizes['embedding']}: "
            "fit axes to stores of this size"
        )
    return PrincipalComponents(
        *(np.array(part) for part in (stored.mean, stored.scale, stored.axes, stored.share, stored.low, stored.high))
    )
