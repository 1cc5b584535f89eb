"""Exports of float and quantized stores: uncertainty and quality leave with each, and other programs open them."""

import json
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
import xarray as xr
from pyarrow import parquet
from rio_cogeo.cogeo import cog_validate

from embedding_stores import StoreSpec, write_store
from thalweg.earth.export import geoparquet
from thalweg.earth.export.geoparquet import write_geoparquet
from thalweg.earth.export.raster import write_cogs
from thalweg.earth.export.unsharded import write_unsharded
from thalweg.earth.store.reader import holds_embeddings, open_store

TYPES = {None: ("float32", "float32"), 8: ("int8", "uint8"), 16: ("int16", "uint16")}


@pytest.fixture(scope="module", params=[None, 8, 16], ids=["float32", "8 bits", "16 bits"])
def bits(request: pytest.FixtureRequest) -> int | None:
    found: int | None = request.param
    return found


@pytest.fixture(scope="module")
def dataset(bits: int | None, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    spec = StoreSpec(shape=(40, 30), quantize=bits, dates=("2018-04-02T10:30", "2018-05-02T10:30"))
    return open_store(write_store(tmp_path_factory.mktemp("stores") / "a.zarr", spec))


def test_geotiffs_hold_integers_with_their_scale(dataset: xr.Dataset, bits: int | None, tmp_path: Path) -> None:
    out = write_cogs(dataset, tmp_path / "cogs")
    assert len(list(out.iterdir())) == 6
    for name, dtype in zip(("", "_uncertainty"), TYPES[bits], strict=True):
        path = out / f"2018-05-02{name}.tif"
        assert cog_validate(path, strict=True) == (True, [], [])
        with rasterio.open(path) as file:
            assert set(file.dtypes) == {dtype}
            structure = file.tags(ns="IMAGE_STRUCTURE")
            assert (structure["COMPRESSION"], structure["PREDICTOR"]) == ("ZSTD", "2")
            stored = file.read().astype(np.float64)
            stored[np.isnan(stored) if bits is None else stored == file.nodata] = np.nan
            meant = stored * np.array(file.scales)[:, None, None] + np.array(file.offsets)[:, None, None]
            variable = dataset.embeddings if name == "" else dataset.uncertainty
            np.testing.assert_allclose(meant, variable.values[1], atol=1e-6)
    with rasterio.open(out / "2018-05-02_quality.tif") as file:
        np.testing.assert_array_equal(file.read(1), dataset.quality.values[1])
        assert "0 clear" in file.tags()["description"]


def test_tables_follow_geoparquet(dataset: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoparquet, "ROW_GROUP", 100)
    path = write_geoparquet(dataset, tmp_path / "tables") / "2018-04-02.parquet"
    file = parquet.ParquetFile(path)
    assert file.schema_arrow.field("embedding").type == pa.list_(pa.float32(), 7)
    assert file.schema_arrow.field("uncertainty").type == pa.list_(pa.float32(), 7)
    assert file.num_row_groups == -(-file.metadata.num_rows // 100)
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert (geo["version"], column["encoding"], column["geometry_types"]) == ("1.1.0", "WKB", ["Point"])
    assert column["crs"]["id"]["code"] == 32631
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    table = geopandas.read_parquet(path)
    has_embedding = np.isfinite(dataset.embeddings.values[0]).all(0)
    assert len(table) == has_embedding.sum()
    steps = table.geometry.distance(table.geometry.shift(-1)).dropna()
    assert steps.median() <= 20  # neighbours on the curve are neighbours on the map
    for row in (0, len(table) - 1):
        point = table.geometry[row]
        here = dataset.isel(time=0).sel(x=point.x, y=point.y)
        np.testing.assert_array_equal(table.embedding[row], here.embeddings.values)
        np.testing.assert_array_equal(table.uncertainty[row], here.uncertainty.values)
        assert table.quality[row] == here.quality
    west, south, east, north = column["bbox"]
    part = geopandas.read_parquet(path, bbox=(west, south, west + 50, south + 50))
    assert 0 < len(part) < len(table) and (part.geometry.x <= west + 50).all()
    assert north > south and east > west


def test_duckdb_reads_tables(dataset: xr.Dataset, tmp_path: Path) -> None:
    out = write_geoparquet(dataset, tmp_path / "tables")
    database = duckdb.connect()
    rows = database.execute(
        "SELECT count(*), min(len(embedding)), max(len(uncertainty)), max(quality) FROM read_parquet(?)",
        [str(out / "*.parquet")],
    ).fetchone()
    valid = np.isfinite(dataset.embeddings.values).all(1)
    assert rows == (valid.sum(), 7, 7, int(dataset.quality.values[valid].max()))
    row, column = np.argwhere(valid[0])[5]
    wanted = dataset.embeddings.values[0, :, row, column]
    nearest = database.execute(
        "SELECT bbox.xmin, bbox.ymin FROM read_parquet(?) "
        "ORDER BY array_distance(embedding::FLOAT[7], ?::FLOAT[7]) LIMIT 1",
        [str(out / "2018-04-02.parquet"), wanted.tolist()],
    ).fetchone()
    assert nearest == (dataset.x.values[column], dataset.y.values[row])


def test_a_table_without_pixels_is_valid(dataset: xr.Dataset, tmp_path: Path) -> None:
    path = write_geoparquet(dataset.where(False).assign_attrs(dataset.attrs), tmp_path / "none") / "2018-04-02.parquet"
    assert len(geopandas.read_parquet(path)) == 0


def test_this_rasterio_opens_an_unsharded_store(dataset: xr.Dataset, bits: int | None, tmp_path: Path) -> None:
    out = write_unsharded(dataset, tmp_path / "plain.zarr")
    raw = xr.open_zarr(out, mask_and_scale=False)
    for name in ("embeddings", "uncertainty", "quality", "picture"):
        with rasterio.open(f'ZARR:"{out}":/{name}') as file:
            np.testing.assert_array_equal(file.read(), raw[name].values.reshape(file.count, 40, 30), name)
            assert file.crs.to_epsg() == 32631
            assert list(file.transform)[:6] == dataset.attrs["spatial:transform"]
            if name == "embeddings" and bits:
                assert file.scales[0] == raw.embeddings.attrs["scale_factor"]
                assert file.nodata == raw.embeddings.attrs["_FillValue"]


def test_an_unsharded_store_opens_as_the_store(dataset: xr.Dataset, tmp_path: Path) -> None:
    out = write_unsharded(dataset, tmp_path / "plain.zarr")
    assert holds_embeddings(out)
    opened = open_store(out)
    for name in dataset.variables:
        np.testing.assert_array_equal(opened[name].values, dataset[name].values, str(name))
    assert {name: opened.attrs[name] for name in dataset.attrs} == dataset.attrs
    files = [file for file in (out / "embeddings").iterdir() if not file.name.startswith(".")]
    assert len(files) == 2 * 3 * 2  # dates, rows and columns of blocks of 16 pixels
    assert shapely.box(*opened.attrs["spatial:bbox"]).area == 400 * 300


def test_damage_of_an_unsharded_store_is_found(dataset: xr.Dataset, tmp_path: Path) -> None:
    out = write_unsharded(dataset, tmp_path / "plain.zarr")
    chunk = next(file for file in sorted((out / "embeddings").iterdir()) if not file.name.startswith("."))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(Exception, match="a damaged chunk"):
        open_store(out).embeddings.load()
