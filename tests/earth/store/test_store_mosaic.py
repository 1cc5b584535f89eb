"""Mosaics of stores: places and dates of their values, the choice in overlaps, refusals, and interruptions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from embedding_stores import DATES, StoreSpec, write_store
from thalweg.earth.positions import dataset_geobox
from thalweg.earth.sensors import Quality
from thalweg.earth.store.portable import structured
from thalweg.earth.store.reader import open_store
from thalweg.earth.store.store_mosaic import write_mosaic
from thalweg.errors import ThalwegError, UsageError

LEFT = StoreSpec()
RIGHT = replace(LEFT, seed=1, corner=(500_140.0, 5_599_950.0))
"""14 columns right and 5 rows down of the left one, which overlaps it by 6 columns and 19 rows."""
VARIABLES = ("embeddings", "uncertainty", "valid_context_dates", "quality", "picture", "gap_sentinel-1")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_store(tmp_path / "left.zarr", LEFT), write_store(tmp_path / "right.zarr", RIGHT)


def values(dataset: xr.Dataset, name: str) -> np.ndarray:
    return np.asarray(dataset[name].values)


def test_a_mosaic_takes_each_pixel_from_the_more_certain_store(pair: tuple[Path, Path], tmp_path: Path) -> None:
    mosaic = open_store(write_mosaic(pair, tmp_path / "out.zarr"))
    left = open_store(pair[0])
    assert dataset_geobox(mosaic).shape == (29, 34)
    assert (mosaic.x.values[0], mosaic.y.values[0]) == (left.x.values[0], left.y.values[0])
    one, other = (xr.open_zarr(path, mask_and_scale=False).reindex(y=mosaic.y, x=mosaic.x) for path in pair)
    certainty = [part.uncertainty.mean("embedding", skipna=False).values for part in (one, other)]
    rank = [
        np.where(np.isfinite(own), own, np.where(np.isfinite(part.quality.values), 1000, np.inf))
        for own, part in zip(certainty, (one, other), strict=True)
    ]
    from_right = rank[1] < rank[0]
    assert 0.02 < from_right[:, 5:24, 14:20].mean() < 0.98
    for name in VARIABLES:
        axes = (1,) if one[name].ndim == 4 else ()
        expected = np.where(np.expand_dims(from_right, axes), other[name].values, one[name].values)
        found = values(mosaic, name).astype(float)
        inside = np.broadcast_to(np.expand_dims(np.isfinite(rank).any(0), axes), found.shape)
        np.testing.assert_allclose(found[inside], expected[inside].astype(float), rtol=1e-6, err_msg=name)


def test_outside_of_all_stores_are_the_fill_values(pair: tuple[Path, Path], tmp_path: Path) -> None:
    corner = open_store(write_mosaic(pair, tmp_path / "out.zarr")).isel(y=slice(0, 5), x=slice(20, 34))
    assert np.isnan(values(corner, "embeddings")).all()
    assert (values(corner, "quality") == Quality.OUTSIDE).all()
    assert (values(corner, "picture") == 0).all()


def test_dates_are_united_and_those_of_one_overpass_are_one(tmp_path: Path) -> None:
    left = write_store(tmp_path / "left.zarr", replace(LEFT, dates=DATES[:2]))
    later = (DATES[1].replace("50:00", "50:14"), DATES[2])
    right = write_store(tmp_path / "right.zarr", replace(RIGHT, dates=later, corner=(500_200.0, 5_600_000.0)))
    mosaic = open_store(write_mosaic((left, right), tmp_path / "out.zarr"))
    np.testing.assert_array_equal(mosaic.time.values, np.array(DATES[:3], "datetime64[ns]"))
    has = np.isfinite(values(mosaic, "embeddings")).all(1)
    assert [(bool(part[:, :20].any()), bool(part[:, 20:].any())) for part in has] == [
        (True, False),
        (True, True),
        (False, True),
    ]
    np.testing.assert_array_equal(values(mosaic, "embeddings")[1, ..., 20:], values(open_store(right), "embeddings")[0])


@pytest.mark.parametrize("bits", [8, 16, None])
def test_a_mosaic_keeps_the_integers_of_its_stores(bits: int | None, tmp_path: Path) -> None:
    specs = (replace(LEFT, quantize=bits), replace(RIGHT, quantize=bits, corner=(500_200.0, 5_600_000.0)))
    paths = [write_store(tmp_path / f"{name}.zarr", spec) for name, spec in zip("ab", specs, strict=True)]
    out = write_mosaic(paths, tmp_path / "out.zarr")
    raw = [xr.open_zarr(path, mask_and_scale=False) for path in (*paths, out)]
    for name in ("embeddings", "uncertainty"):
        joined = np.concatenate([part[name].values for part in raw[:2]], -1)
        assert raw[2][name].dtype == raw[0][name].dtype
        np.testing.assert_array_equal(raw[2][name].values, joined)


def test_the_attributes_name_all_sources(pair: tuple[Path, Path], tmp_path: Path) -> None:
    mosaic = open_store(write_mosaic(pair, tmp_path / "out.zarr"))
    source = structured(mosaic.attrs, "thalweg:sources")["sentinel-2"]
    assert (source["where"], source["items"]) == ("left.nc, right.nc", ["left", "right"])
    assert mosaic.attrs["thalweg:model"] == "model-a"
    assert mosaic.observed.values.all()
    assert mosaic.observed.attrs["long_name"] == "whether the date is an overpass of Sentinel-2 L2A"
    assert list(mosaic.uncertainty.attrs["interval_factors"]) == [1.0, 1.6]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "model-b"}, "embeddings of model-b, but"),
        ({"dimensions": 5}, "embeddings of 5 dimensions, but"),
        ({"epsg": 32632}, "in EPSG:32632, but"),
        ({"resolution": 20.0}, "pixels of 20 m, but"),
        ({"corner": (500_143.0, 5_600_000.0)}, "0 rows and 0.3 columns off those of"),
    ],
)
def test_other_stores_are_refused_in_one_line(change: dict[str, object], words: str, tmp_path: Path) -> None:
    paths = (
        write_store(tmp_path / "a.zarr", LEFT),
        write_store(tmp_path / "b.zarr", replace(RIGHT, **change)),  # type: ignore[arg-type]
    )
    with pytest.raises(UsageError) as caught:
        write_mosaic(paths, tmp_path / "out.zarr")
    assert words in str(caught.value) and "b.zarr" in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_a_damaged_chunk_leaves_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (pair[1] / "quality" / "c" / "0" / "0" / "0").write_bytes(b"damaged")
    with pytest.raises(ThalwegError, match="quality cannot be read"):
        write_mosaic(pair, tmp_path / "out.zarr")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["left.zarr", "right.zarr"]


def test_an_interrupted_mosaic_resumes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    whole = write_mosaic(pair, tmp_path / "whole.zarr")

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mosaic(pair, tmp_path / "out.zarr", interrupt)
    unfinished = tmp_path / ".out.zarr.unfinished"
    written = {path: path.stat().st_mtime_ns for path in unfinished.rglob("embeddings/c/0/0/*/*")}
    assert written and not (tmp_path / "out.zarr").exists()
    out = write_mosaic(pair, tmp_path / "out.zarr")
    kept = {out / path.relative_to(unfinished): time for path, time in written.items()}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    chunks = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and "c" in path.parts)
    assert chunks and all((whole / path).read_bytes() == (out / path).read_bytes() for path in chunks)
