"""Contents of a store as xarray, rioxarray and GDAL read them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.errors
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from pyproj import CRS

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2, Quality
from thalweg.earth.store.conventions.geo_embeddings import source_uri
from thalweg.earth.store.portable import structured
from thalweg.earth.store.reader import open_store

BLOCK = 12


@pytest.fixture(scope="module")
def store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path_factory.mktemp("stores") / "plain.zarr")


def test_a_store_equals_the_embedding_in_memory(store: Path, cube: Cube, model: EarthModel) -> None:
    dataset, memory = open_store(store), embed(cube, model)
    assert set(dataset.data_vars) == set(memory.data_vars)
    assert set(dataset.coords) == set(memory.coords)
    for name in memory.variables:
        if np.issubdtype(memory[name].dtype, np.floating):
            np.testing.assert_allclose(dataset[name].values, memory[name].values, atol=1e-5, err_msg=str(name))
        else:
            np.testing.assert_array_equal(dataset[name].values, memory[name].values, err_msg=str(name))
    assert {key: dataset.attrs[key] for key in memory.attrs} == memory.attrs


def test_xarray_opens_a_store_with_its_reference_system(store: Path, cube: Cube) -> None:
    dataset = xr.open_zarr(store)
    assert dataset.rio.crs == CRS.from_wkt(cube.grid.crs.to_wkt())
    assert dataset.rio.crs.to_epsg() == 32631
    assert dataset.embeddings.dims == ("time", "embedding", "y", "x")
    assert dataset.embeddings.rio.crs.to_epsg() == 32631
    transform = dataset.isel(time=0, embedding=0).embeddings.rio.transform()
    assert list(transform)[:6] == dataset.attrs["spatial:transform"]
    assert dataset.quality.dtype == np.uint8
    np.testing.assert_array_equal(dataset.time.values.astype("datetime64[s]"), cube_dates(cube))


def cube_dates(cube: Cube) -> np.ndarray:
    return cube.reference.dates[cube.eligible()].astype("datetime64[s]")


def test_attributes_follow_their_conventions(store: Path, cube: Cube, model: EarthModel) -> None:
    attributes = xr.open_zarr(store).attrs
    names = {convention["name"] for convention in attributes["zarr_conventions"]}
    assert names == {"geoemb:", "proj", "spatial"}
    assert all(len(convention["uuid"]) == 36 for convention in attributes["zarr_conventions"])
    left, top = cube.x[0] - 5, cube.y[0] + 5
    expected = {
        "geoemb:type": "pixel",
        "geoemb:dimensions": 7,
        "geoemb:model": model.uri,
        "geoemb:source_data": [source_uri(SENTINEL_2), source_uri(SENTINEL_1)],
        "geoemb:depths": [{"dimensions": 7, "array": "embeddings"}],
        "thalweg:model": model.identifier,
        "geoemb:gsd": 10.0,
        "proj:code": "EPSG:32631",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [10.0, 0.0, left, 0.0, -10.0, top],
        "spatial:shape": [32, 32],
        "spatial:bbox": [left, top - 320, left + 320, top],
        "thalweg:version": thalweg.__version__,
    }
    assert {key: attributes[key] for key in expected} == expected
    assert attributes["proj:wkt2"].startswith("PROJCRS[")  # WKT 2; WKT 1 begins with PROJCS
    assert CRS.from_wkt(attributes["proj:wkt2"]).to_epsg() == 32631
    sources = attributes["thalweg:sources"]
    assert {name: source["where"] for name, source in sources.items()} == {
        "sentinel-2": "s2.nc",
        "sentinel-1": "s1.nc",
    }
    assert sources["sentinel-2"]["dates"] == len(cube.reference.dates)
    assert sources["sentinel-1"]["bands"] == ["VV", "VH"]


def test_a_reference_system_without_a_code_is_written_as_wkt_only(
    datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path
) -> None:
    own = CRS.from_proj4("+proj=laea +lat_0=50.7 +lon_0=3.5 +datum=WGS84 +units=m")
    data = datasets["sentinel-2"].isel(y=slice(8, 16), x=slice(8, 16)).rio.write_crs(own)
    attributes = xr.open_zarr(embed_to_zarr(Job(Cube.open(data), model), tmp_path / "out.zarr")).attrs
    assert "proj:code" not in attributes
    assert CRS.from_wkt(attributes["proj:wkt2"]).to_dict() == own.to_dict()


def test_quality_flags_have_meanings(store: Path) -> None:
    attributes = xr.open_zarr(store).quality.attrs
    assert attributes["flag_values"] == [int(quality) for quality in Quality]
    assert attributes["flag_meanings"].split() == [quality.name.lower() for quality in Quality]


def test_interval_factors_rise_and_are_one_at_68_percent(store: Path) -> None:
    attributes = xr.open_zarr(store).uncertainty.attrs
    factors = dict(zip(attributes["interval_levels"], attributes["interval_factors"], strict=True))
    assert factors[0.68] == 1
    assert sorted(factors.values()) == [factors[level] for level in sorted(factors)]


def test_source_items_are_recorded(datasets: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path) -> None:
    data = datasets["sentinel-2"].isel(y=slice(8, 16), x=slice(8, 16))
    items = [f"S2_{index}" for index in range(data.sizes["time"])]
    out = embed_to_zarr(Job(Cube.open(data.assign(item_id=("time", items))), model), tmp_path / "out.zarr")
    assert structured(open_store(out).attrs, "thalweg:sources")["sentinel-2"]["items"] == items


def test_a_block_is_one_shard(store: Path) -> None:
    shards = [file for file in (store / "embeddings" / "c").rglob("*") if file.is_file()]
    assert len(shards) == 9


@pytest.mark.skipif(
    tuple(map(int, rasterio.__gdal_version__.split(".")[:2])) >= (3, 13), reason="this rasterio's GDAL reads shards"
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_older_gdal_lists_the_arrays_and_names_the_missing_codec(store: Path) -> None:
    with rasterio.open(f'ZARR:"{store}"') as file:
        assert any(name.endswith(":/embeddings") for name in file.subdatasets)
    with pytest.raises(rasterio.errors.RasterioIOError, match="Unsupported codec: sharding_indexed"):
        rasterio.open(f'ZARR:"{store}":/embeddings')
