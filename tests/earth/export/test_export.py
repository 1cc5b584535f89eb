"""Exports: the embeddings and metadata of a store in GeoTIFFs, tables and catalogues."""

from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from pystac.extensions.mlm import MLMExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rio_cogeo.cogeo import cog_validate

from convention_rules import (
    citation_faults,
    embedding_collection_faults,
    embedding_item_faults,
    processing_faults,
)
from thalweg.earth.cube.cube import Cube
from thalweg.earth.export import raster
from thalweg.earth.export.date_names import date_name
from thalweg.earth.export.geoparquet import write_geoparquet
from thalweg.earth.export.raster import write_cogs
from thalweg.earth.export.stac import EMBEDDING_EXTENSION, write_catalogue
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.overviews.reduction import renormalized_means
from thalweg.earth.store.reader import open_store
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def embedded(cube: Cube, model: EarthModel) -> xr.Dataset:
    return embed(cube, model).isel(time=slice(0, 2))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 pixels, so that a small cube has overviews."""
    monkeypatch.setattr(raster, "TILE", 16)


def test_a_renormalized_mean_keeps_the_length_and_the_direction() -> None:
    vectors = np.zeros((2, 2, 4), np.float32)
    vectors[:, :, :2] = np.array([[[3, 0], [3, 0]], [[0, 4], [0, 4]]])  # lengths 3 and 4, orthogonal
    vectors[:, 0, 2], vectors[:, 1, 2] = (1, 1), np.nan
    vectors[:, :, 3] = np.nan
    means = renormalized_means(vectors, 2)
    assert means.shape == (2, 1, 2)
    assert np.linalg.norm(means[:, 0, 0]) == pytest.approx(3.5)
    assert means[1, 0, 0] / means[0, 0, 0] == pytest.approx(4 / 3)
    np.testing.assert_allclose(means[:, 0, 1], [1, 1])
    assert np.isnan(renormalized_means(np.full((2, 3, 3), np.nan), 2)).all()
    assert renormalized_means(np.ones((2, 5, 3)), 2).shape == (2, 3, 2)


def test_geotiffs_hold_the_embeddings_of_their_date(embedded: xr.Dataset, tmp_path: Path, small_tiles: None) -> None:
    calls: list[tuple[int, int]] = []
    out = write_cogs(embedded, tmp_path / "cogs", lambda *at: calls.append(at))
    assert calls == [(1, 2), (2, 2)]
    dates = [date_name(embedded, index) for index in (0, 1)]
    assert {file.name for file in out.iterdir()} == {
        f"{date}{layer}.tif" for date in dates for layer in ("", "_uncertainty", "_quality")
    }
    for index in (0, 1):
        path = out / f"{date_name(embedded, index)}.tif"
        valid, errors, warnings = cog_validate(path, strict=True)
        assert (valid, errors, warnings) == (True, [], [])
        vectors = embedded.embeddings.values[index]
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(), vectors)
            assert file.crs.to_epsg() == 32631
            assert list(file.transform)[:6] == embedded.attrs["spatial:transform"]
            assert np.isnan(file.nodata)
            assert file.overviews(1) == [2]
            assert file.tags()["model"] == embedded.attrs["thalweg:model"]
            assert file.tags()["datetime"] == f"{np.datetime_as_string(embedded.time.values[index], 's')}Z"
        with rasterio.open(path, overview_level=0) as file:
            np.testing.assert_array_equal(file.read(), renormalized_means(vectors, 2))


def test_overviews_have_no_seams_between_strips(
    embedded: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall = xr.concat([embedded.isel(time=[0])] * 3, "y", data_vars="minimal")
    tall = tall.isel(y=slice(0, 90)).assign_attrs(embedded.attrs)
    monkeypatch.setattr(raster, "TILE", 16)
    write_cogs(tall, tmp_path / "cogs")
    path = tmp_path / "cogs" / f"{date_name(tall, 0)}.tif"
    for level, factor in enumerate((2, 4, 8)):
        with rasterio.open(path, overview_level=level) as file:
            np.testing.assert_array_equal(file.read(), renormalized_means(tall.embeddings.values[0], factor))


def test_tables_hold_one_point_per_embedding(embedded: xr.Dataset, tmp_path: Path) -> None:
    out = write_geoparquet(embedded, tmp_path / "tables")
    for index in (0, 1):
        date = embedded.isel(time=index)
        table = geopandas.read_parquet(out / f"{date_name(embedded, index)}.parquet")
        assert table.crs.to_epsg() == 32631
        has_embedding = np.isfinite(date.embeddings.values).all(0)
        assert len(table) == has_embedding.sum() > 0
        for row in (0, len(table) // 2, len(table) - 1):
            point = table.geometry[row]
            here = date.sel(x=point.x, y=point.y)
            np.testing.assert_array_equal(table.embedding[row], here.embeddings.values)
            assert table.quality[row] == here.quality
            assert table.valid_context_dates[row] == here.valid_context_dates
            assert table.time[row] == date.time.values


def test_the_catalogue_of_a_quantized_store_keeps_its_integers(
    cube: Cube, model: EarthModel, model_folder: Path, tmp_path: Path
) -> None:
    dataset = open_store(embed_to_zarr(Job(cube, model, quantize=8), tmp_path / "q.zarr")).isel(time=slice(0, 1))
    write_catalogue(dataset, tmp_path / "stac", model_folder)
    (item,) = (i for i in pystac.Collection.from_file(tmp_path / "stac/collection.json").get_items() if i.geometry)
    assert item.properties["emb:quantization"] == {
        "method": "linear",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": [0.05],
        "offset": [0.0],
    }
    band = item.assets["embeddings"].extra_fields["bands"][0]
    assert (band["data_type"], band["nodata"], band["raster:scale"]) == ("int8", -128, 0.05)
    with rasterio.open(item.assets["embeddings"].get_absolute_href()) as file:
        assert (file.dtypes[0], file.scales[0]) == ("int8", 0.05)
        meant = np.where(file.read() == -128, np.nan, file.read() * np.float32(0.05))
        np.testing.assert_allclose(meant, dataset.embeddings.values[0], atol=1e-6)


@pytest.fixture(scope="module")
def collection(embedded: xr.Dataset, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pystac.Collection:
    out = write_catalogue(embedded, tmp_path_factory.mktemp("stac") / "catalogue", model_folder)
    return pystac.Collection.from_file(out / "collection.json")


def test_the_catalogue_follows_the_core_schemas(collection: pystac.Collection) -> None:
    validator = JsonSchemaSTACValidator()  # the core schemas come with pystac: no network
    for stac_object in (collection, *collection.get_items()):
        kind = pystac.STACObjectType(stac_object.STAC_OBJECT_TYPE)
        assert validator.validate_core(stac_object.to_dict(), kind, stac_object.to_dict()["stac_version"])


def test_the_collection_has_the_fields_of_the_embedding_extension(
    collection: pystac.Collection, embedded: xr.Dataset
) -> None:
    fields = collection.to_dict()
    assert EMBEDDING_EXTENSION in fields["stac_extensions"]
    assert (fields["emb:type"], fields["emb:dimensions"]) == ("pixel", 7)
    assert (fields["data_type"], fields["gsd"]) == ("float32", 10.0)
    assert embedding_collection_faults(fields) == []
    assert processing_faults(fields) == citation_faults(fields) == []
    assert set(fields["item_assets"]) == {"embeddings", "uncertainty", "quality"}
    relations = [link.rel for link in collection.links]
    assert relations.count("emb:model") == relations.count("emb:decoder") == 1
    assert relations.count("emb:source-data") == 2
    (link,) = (link for link in collection.links if link.rel == "emb:model")
    assert Path(link.get_absolute_href()).is_file()


def test_each_item_refers_to_the_geotiff_of_its_date(collection: pystac.Collection, embedded: xr.Dataset) -> None:
    items = [item for item in collection.get_items() if item.geometry]
    assert [item.id for item in items] == [date_name(embedded, index) for index in (0, 1)]
    for index, item in enumerate(items):
        assert item.datetime.replace(tzinfo=None) == embedded.time.values[index].astype("datetime64[us]").item()
        assert item.properties["proj:code"] == "EPSG:32631"
        assert item.properties["proj:shape"] == [32, 32]
        assert item.properties["emb:runtime_parameters"]["sensors"]["sentinel-1"] == ["VV", "VH"]
        assert embedding_item_faults(item.to_dict()) == processing_faults(item.to_dict()) == []
        assert set(item.properties["emb:uncertainty"]) == {"method", "description"}
        declared = collection.to_dict()["item_assets"]
        for name, asset in item.assets.items():
            fields = asset.to_dict()
            assert not Path(fields.pop("href")).is_absolute() and fields == declared[name]
            assert Path(asset.get_absolute_href()).is_file()
        with rasterio.open(item.assets["uncertainty"].get_absolute_href()) as file:
            np.testing.assert_array_equal(file.read(), embedded.uncertainty.values[index])
        with rasterio.open(item.assets["quality"].get_absolute_href()) as file:
            np.testing.assert_array_equal(file.read(1), embedded.quality.values[index])
        west, south, east, north = item.bbox
        assert 2.9 < west < east < 3.8
        assert 50 < south < north < 51.5
        with rasterio.open(item.assets["embeddings"].get_absolute_href()) as file:
            np.testing.assert_array_equal(file.read(), embedded.embeddings.values[index])


def test_the_model_is_an_item_of_the_model_extension(
    collection: pystac.Collection, model: EarthModel, model_folder: Path
) -> None:
    item = collection.get_item(model.identifier)
    extension = MLMExtension.ext(item)
    assert extension.mlm_name == model.identifier
    assert extension.framework == "PyTorch"
    assert extension.total_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [one.name for one in extension.input] == list(model.sensors)
    assert extension.input[1].to_dict()["bands"] == ["VV", "VH"]
    assert extension.output[0].result.shape == [-1, 32, -1, -1]
    assert item.assets["fusion"].href == "./fusion/weights.safetensors"
    assert "mlm:model" in item.assets["fusion"].roles
    assert all(Path(asset.get_absolute_href()).is_file() for asset in item.assets.values())
    copied = Path(item.assets["fusion"].get_absolute_href()).parents[1]
    assert EarthModel.load(copied).identifier == model.identifier
    assert extension.accelerator == "amd64" and extension.accelerator_constrained is False
    assert extension.hyperparameters.to_dict()["dimensions"] == 32


def test_another_model_is_refused(embedded: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"embeddings of thalweg-earth-.*, model .*: embed the cube again"):
        write_catalogue(embedded, tmp_path / "stac")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_cogs, write_geoparquet])
def test_an_existing_folder_is_refused_and_a_failure_leaves_nothing(
    write: object, embedded: xr.Dataset, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="taken: exists already: choose another name or remove it"):
        write(embedded, tmp_path / "taken")
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalwegError, match="out: could not be written") as caught:
        write(embedded, tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)

    def full(done: int, total: int) -> None:
        raise OSError("No space left on device")

    with pytest.raises(ThalwegError, match=r"out: could not be written \(No space left on device\): free some space"):
        write(embedded, tmp_path / "out", full)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken"]


def test_two_overpasses_of_a_day_have_different_names(embedded: xr.Dataset) -> None:
    times = np.array(["2018-05-01T10:30:00", "2018-05-01T10:30:25", "2018-05-04T10:30:00"], "datetime64[ns]")
    names = xr.Dataset(coords={"time": times})
    assert [date_name(names, index) for index in range(3)] == ["2018-05-01T103000", "2018-05-01T103025", "2018-05-04"]
