"""Quantised stores: what the codes stand for, to us and to any CF reader, and what they cost."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.quantization_loss import measure_loss
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.portable import structured
from thalweg.earth.store.quantization import quantizations
from thalweg.earth.store.reader import open_store
from thalweg.errors import UsageError


@pytest.fixture(scope="module")
def exact(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return open_store(embed_to_zarr(Job(cube, model), tmp_path_factory.mktemp("exact") / "exact.zarr"))


@pytest.fixture(scope="module", params=[8, 16])
def coded(
    request: pytest.FixtureRequest, cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("coded") / f"{request.param}.zarr"
    return embed_to_zarr(Job(cube, model, quantize=request.param), out)


def bits_of(store: Path) -> int:
    return int(store.stem)


def test_codes_are_within_half_a_step(coded: Path, exact: xr.Dataset) -> None:
    dataset = open_store(coded)
    for name, coding in quantizations(bits_of(coded)).items():
        assert dataset[name].dtype == np.float32
        values, truth = dataset[name].values, exact[name].values
        np.testing.assert_array_equal(np.isnan(values), np.isnan(truth))
        low, high = coding.limits
        within = np.isfinite(truth) & (truth >= low * coding.step) & (truth <= high * coding.step)
        assert within.any()
        assert np.abs(values - truth)[within].max() <= coding.step / 2 + 1e-5
    for name in ("quality", "valid_context_dates", "picture"):
        np.testing.assert_array_equal(dataset[name].values, exact[name].values)


def test_any_cf_reader_decodes_them(coded: Path) -> None:
    ours, plain = open_store(coded), xr.open_zarr(coded)
    for name in ("embeddings", "uncertainty"):
        np.testing.assert_allclose(plain[name].values, ours[name].values, rtol=1e-5, atol=1e-6)


def test_the_store_holds_small_integers_and_says_so(coded: Path) -> None:
    bits = bits_of(coded)
    array = zarr.open_group(coded, mode="r")["embeddings"]
    assert array.dtype == np.dtype(f"int{bits}")
    assert array.attrs["scale_factor"] == quantizations(bits)["embeddings"].step
    attributes = open_store(coded).attrs
    assert attributes["geoemb:data_type"] == f"int{bits}"
    assert structured(attributes, "geoemb:quantization") == {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": f"int{bits}",
        "scale": {"type": "scalar", "scale": quantizations(bits)["embeddings"].step, "offset": 0.0},
    }


def test_nothing_is_taken_for_missing_but_nan() -> None:
    for bits in (8, 16):
        for coding in quantizations(bits).values():
            low, high = coding.limits
            values = np.array([np.nan, -1e9, 1e9, 0, low * coding.step, high * coding.step], np.float32)
            codes = coding.encode(values)
            assert (codes == coding.missing).tolist() == [True] + 5 * [False]
            back = coding.decode(codes)
            assert np.isnan(back[0])
            np.testing.assert_allclose(back[1:], np.array([low, high, 0, low, high]) * coding.step, rtol=1e-6)


def test_the_loss_is_small_and_smaller_with_more_bits(cube: Cube, model: EarthModel) -> None:
    eight, sixteen = (measure_loss(Job(cube, model, quantize=bits)) for bits in (8, 16))
    assert abs(eight.probe) < 0.05
    assert abs(sixteen.probe) < abs(eight.probe)
    assert eight.clipped >= sixteen.clipped


def test_the_loss_is_seen_where_codes_are_too_coarse(
    cube: Cube, model: EarthModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = {"embeddings": 1.5, "uncertainty": 1.5}
    monkeypatch.setitem(quantizations.__globals__["_STEPS"], 8, coarse)
    assert measure_loss(Job(cube, model, quantize=8)).probe > 0.05


@pytest.mark.parametrize("bits", [0, 1, 7, 32])
def test_other_widths_are_refused(bits: int, cube: Cube, model: EarthModel) -> None:
    with pytest.raises(UsageError, match=f"quantise {bits}: expected 8 or 16 bits"):
        Job(cube, model, quantize=bits)
