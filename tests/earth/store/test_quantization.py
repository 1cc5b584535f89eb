"""Quantized stores: dequantized values, by this package and by other CF readers."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.portable import structured
from thalweg.earth.store.quantization import dequantize, quantizations, quantize
from thalweg.earth.store.reader import open_store
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def exact(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return open_store(embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("exact") / "exact.zarr"))


@pytest.fixture(scope="module", params=[8, 16])
def quantized(
    request: pytest.FixtureRequest, cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("quantized") / f"{request.param}.zarr"
    return embed_to_zarr(Job(cube, model, quantize=request.param), out)


def bits_of(store: Path) -> int:
    return int(store.stem)


def test_dequantized_values_are_within_half_a_step(quantized: Path, exact: xr.Dataset) -> None:
    dataset = open_store(quantized)
    for name, encoding in quantizations(bits_of(quantized)).items():
        assert dataset[name].dtype == np.float32
        values, truth = dataset[name].values, exact[name].values
        np.testing.assert_array_equal(np.isnan(values), np.isnan(truth))
        low, high = encoding.limits
        within = np.isfinite(truth) & (truth >= low * encoding.scale) & (truth <= high * encoding.scale)
        assert within.any()
        assert np.abs(values - truth)[within].max() <= encoding.scale / 2 + 1e-5
    for name in ("quality", "valid_context_dates", "picture"):
        np.testing.assert_array_equal(dataset[name].values, exact[name].values)


def test_a_cf_reader_decodes_a_quantized_store(quantized: Path) -> None:
    ours, plain = open_store(quantized), xr.open_zarr(quantized)
    for name in ("embeddings", "uncertainty"):
        np.testing.assert_allclose(plain[name].values, ours[name].values, rtol=1e-5, atol=1e-6)


def test_a_quantized_store_declares_its_encoding(quantized: Path) -> None:
    bits = bits_of(quantized)
    array = zarr.open_group(quantized, mode="r")["embeddings"]
    assert array.dtype == np.dtype(f"int{bits}")
    assert array.attrs["scale_factor"] == quantizations(bits)["embeddings"].scale
    attributes = open_store(quantized).attrs
    assert attributes["geoemb:data_type"] == f"int{bits}"
    assert structured(attributes, "geoemb:quantization") == {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": f"int{bits}",
        "scale": {"type": "scalar", "scale": quantizations(bits)["embeddings"].scale, "offset": 0.0},
    }


def test_only_nan_becomes_the_fill_value() -> None:
    for bits in (8, 16):
        for encoding in quantizations(bits).values():
            low, high = encoding.limits
            values = np.array([np.nan, -1e9, 1e9, 0, low * encoding.scale, high * encoding.scale], np.float32)
            integers = quantize(values, encoding)
            assert (integers == encoding.fill).tolist() == [True] + 5 * [False]
            back = dequantize(integers, encoding)
            assert np.isnan(back[0])
            np.testing.assert_allclose(back[1:], np.array([low, high, 0, low, high]) * encoding.scale, rtol=1e-6)


@pytest.mark.parametrize("bits", [0, 1, 7, 32])
def test_other_widths_are_invalid(bits: int, cube: Cube, model: EarthModel) -> None:
    with pytest.raises(UsageError, match=f"quantise {bits}: expected 8 or 16 bits"):
        Job(cube, model, quantize=bits)
