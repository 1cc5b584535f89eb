"""Files of colour axes: equal colours in several stores, and refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedding_stores import StoreSpec, write_store
from thalweg.earth.analysis.colour_axes import load_axes, save_axes
from thalweg.earth.analysis.pca import PrincipalComponents
from thalweg.earth.store.reader import open_store
from thalweg.errors import MissingPathError, UsageError


@pytest.fixture
def axes(tmp_path: Path) -> Path:
    components = PrincipalComponents.of(open_store(write_store(tmp_path / "a.zarr", StoreSpec())))
    return save_axes(components, "model-a", tmp_path / "axes.json")


def test_one_embedding_has_one_colour_in_two_stores(axes: Path, tmp_path: Path) -> None:
    first = open_store(tmp_path / "a.zarr")
    second = open_store(write_store(tmp_path / "b.zarr", StoreSpec(seed=4, corner=(600_000.0, 5_500_000.0))))
    vectors = first.embeddings.values[0]
    np.testing.assert_allclose(
        load_axes(axes, second).to_rgb(vectors), PrincipalComponents.of(first).to_rgb(vectors), atol=1e-6
    )
    assert not np.allclose(
        PrincipalComponents.of(second).to_rgb(vectors), PrincipalComponents.of(first).to_rgb(vectors)
    )


def test_axes_of_another_model_or_size_are_refused(axes: Path, tmp_path: Path) -> None:
    for change, words in (
        ({"model": "model-b"}, "colour axes of model-a, but"),
        ({"dimensions": 5}, "of 7 dimensions"),
    ):
        path = write_store(tmp_path / f"{next(iter(change))}.zarr", replace(StoreSpec(), **change))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=words):
            load_axes(axes, open_store(path))


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"scale": [0.0] * 7}, {"axes": [[1.0]]}, {"low": [9e9] * 3}, {"mean": "x"}, {"more": 1}]
)
def test_a_damaged_file_raises_one_line_error(change: dict[str, object], axes: Path, tmp_path: Path) -> None:
    axes.write_text(json.dumps({**json.loads(axes.read_text()), **change}))
    with pytest.raises(UsageError) as caught:
        load_axes(axes, open_store(tmp_path / "a.zarr"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_existing_one(axes: Path, tmp_path: Path) -> None:
    dataset = open_store(tmp_path / "a.zarr")
    with pytest.raises(MissingPathError, match="no such file"):
        load_axes(tmp_path / "none.json", dataset)
    with pytest.raises(UsageError, match="exists already"):
        save_axes(PrincipalComponents.of(dataset), "model-a", axes)
