"""Stores as GDAL (and therefore QGIS) reads them, with versions of its programs that support shards."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel

READS_SHARDS = (3, 13)


def missing_programs() -> str | None:
    """Return why the installed GDAL programs cannot read a store, or None if they can."""
    if shutil.which("gdalinfo") is None or shutil.which("gdal_translate") is None:
        return "no gdalinfo and gdal_translate on the PATH"
    version = subprocess.run(["gdalinfo", "--version"], capture_output=True, text=True).stdout
    found = re.match(r"GDAL (\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < READS_SHARDS:
        return f"{version.strip() or 'gdalinfo does not start'}: shards are read since GDAL 3.13"
    return None


MISSING = missing_programs()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module", params=[None, 8, 16], ids=["float32", "8 bits", "16 bits"])
def store(
    request: pytest.FixtureRequest, cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    job = Job(cube, model, block=12, quantize=request.param)  # 32 pixels: shards at the edge reach beyond the grid
    return embed_to_zarr(job, tmp_path_factory.mktemp("stores") / "out.zarr")


def described(name: str) -> dict[str, Any]:
    done = subprocess.run(["gdalinfo", "-json", name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_gdal_lists_every_variable(store: Path) -> None:
    listed = described(str(store))["metadata"]["SUBDATASETS"].values()
    stored = {name for name, variable in xr.open_zarr(store).data_vars.items() if "y" in variable.dims}
    assert {name.rpartition(":/")[2] for name in listed if name.startswith("ZARR:")} == stored


def test_gdal_reads_every_pixel_at_its_position(store: Path, tmp_path: Path) -> None:
    dataset = xr.open_zarr(store, mask_and_scale=False)
    for name, variable in dataset.data_vars.items():
        done = subprocess.run(
            ["gdal_translate", "-q", f'ZARR:"{store}":/{name}', str(tmp_path / f"{name}.tif")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            np.testing.assert_array_equal(file.read(), variable.values.reshape(-1, *variable.shape[-2:]), str(name))
            assert file.crs.to_epsg() == 32631
            assert list(file.transform)[:6] == dataset.attrs["spatial:transform"]


def test_a_band_is_one_dimension_of_one_date(store: Path) -> None:
    dataset = xr.open_zarr(store)
    bands = described(f'ZARR:"{store}":/embeddings')["bands"]
    assert len(bands) == dataset.sizes["time"] * dataset.sizes["embedding"]
    second = bands[dataset.sizes["embedding"] + 1]["metadata"][""]
    assert (second["DIM_time_INDEX"], second["DIM_embedding_INDEX"]) == ("1", "1")
    assert int(second["DIM_time_VALUE"]) == dataset.time.values[1].astype("datetime64[s]").astype(int)


def test_gdal_reads_scales_and_fill_values(store: Path) -> None:
    for name, variable in xr.open_zarr(store, mask_and_scale=False).data_vars.items():
        (band, *_) = described(f'ZARR:"{store}":/{name}')["bands"]
        assert band.get("scale", 1) == variable.attrs.get("scale_factor", 1)
        if name == "quality":
            assert band["noDataValue"] == 5  # outside: clear is 0 and must not be no data
        elif "_FillValue" in variable.attrs:
            np.testing.assert_equal(float(band["noDataValue"]), float(variable.attrs["_FillValue"]))
