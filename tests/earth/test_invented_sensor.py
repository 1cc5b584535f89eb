"""An invented sensor, known only by its declaration, from reading and fetching to indices, embeddings and export."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

from thalweg.earth import sensors
from thalweg.earth.counterfactual.quantities import quantity_by_name
from thalweg.earth.cube.cube import Cube
from thalweg.earth.cube.readers.raster_names import date_in, sensor_in
from thalweg.earth.export.raster import write_cogs
from thalweg.earth.export.stac import write_catalogue
from thalweg.earth.inference.compute import embed
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_2, Band, BitMask, MaskEncoding, Sensor, StorageEncoding, register_sensor
from thalweg.earth.stac import Catalogue, Product, Request, fetch, plan
from thalweg.earth.store.reader import open_store
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.gpp.tables.physical_limits import limits_of
from thalweg.simulate import Landscape

QUICK = TrainingConfig(
    steps=2, tile=8, centres=2, start_tiles=16, validation_tiles=1, calibration_tiles=12, encoded_tiles=8
)
CLEAR, HAZE, CLOUD, UNUSABLE = 1, 2, 4, 8
SOURCE_BANDS = {"Blue": "B02", "Green": "B03", "Red": "B04", "NIR": "B08"}
SENSOR = Sensor(
    name="dove-constellation",
    title="A constellation of small satellites",
    bands=(
        Band(name="Blue", aliases=("ms1",), wavelength=490, common_name="blue"),
        Band(name="Green", aliases=("ms2",), wavelength=565, common_name="green"),
        Band(name="Red", aliases=("ms3",), wavelength=665, common_name="red"),
        Band(
            name="NIR",
            aliases=("ms4", "nearinfrared"),
            wavelength=865,
            common_name="nir",
            storage=StorageEncoding(dtype="uint16", scale=5e-5, offset=-0.1, fill=0),
        ),
    ),
    units="reflectance",
    value_range=(0, 1),
    resolution=10,
    validity=BitMask(
        variable="usable_data",
        unclear_bits=(1, 2),
        missing_bits=(3,),
        storage=MaskEncoding(dtype="uint8", fill=UNUSABLE),
    ),
    name_words=("dove", "sr"),
    other_names=("dove-2",),
    product_names=(r"DOVE_\d{8}_(?P<date>\d{8})",),
    image_names=(r"_PSB\d",),
    physical_range=(-0.1, 1.5),
    is_reference=True,
    digital_number_scale=2e-4,
    digital_number_offset=-0.05,
    rgb_previews=(("Red", "Green", "Blue"),),
    encoding_size=40,
)


def digital_numbers(reflectance: xr.DataArray) -> xr.DataArray:
    """Numbers of the invented products, 0 without data."""
    numbers = ((reflectance + 0.05) / 2e-4).round().clip(1, 65535)
    return numbers.where(reflectance.notnull(), 0).astype("uint16")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[Sensor]:
    """Register the sensor for this module only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensors, "_REGISTRY", dict(sensors._REGISTRY))
        yield register_sensor(SENSOR)


@pytest.fixture(scope="module")
def products(landscape: Landscape) -> xr.Dataset:
    """Digital numbers and mask of the invented products, under names that only its declaration explains."""
    s2 = landscape.sentinel2.isel(time=slice(0, None, 3))
    classes = s2["SCL"].values
    flags = np.where(classes == 0, UNUSABLE, np.where(np.isin(classes, (4, 5, 6, 7)), CLEAR, CLOUD)).astype(np.uint8)
    names = {"Blue": "dove_ms1_sr", "Green": "dove_ms2_sr", "Red": "dove_ms3_sr", "NIR": "near-infrared"}
    bands = {
        name: digital_numbers((s2[SOURCE_BANDS[band]] * 1e-4).where(s2[SOURCE_BANDS[band]] > 0))
        for band, name in names.items()
    }
    data = xr.Dataset({**bands, "usable_data": (("time", "y", "x"), flags)}, {"time": s2.time, "y": s2.y, "x": s2.x})
    return data.rio.write_crs(s2.rio.crs)


@pytest.fixture(scope="module")
def cube(products: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("invented") / "cube.nc"
    products.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def model_folder(cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose only sensor, and so its reference sensor, is the invented one."""
    work = tmp_path_factory.mktemp("training")
    train_autoencoder(SENSOR, [cube], work / "encoder", work / "encoder.run", QUICK)
    train_fusion([work / "encoder"], [cube], work / "model", work / "model.run", QUICK)
    return work / "model"


@pytest.fixture(scope="module")
def store(cube: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job(Cube.open(cube), EarthModel.load(model_folder), 32)
    return embed_to_zarr(job, tmp_path_factory.mktemp("embedded") / "store.zarr")


def test_the_cube_is_read_by_the_declaration(cube: Path, landscape: Landscape) -> None:
    opened = Cube.open(cube)
    assert opened.reference.sensor == SENSOR and opened.reference.present_bands.all()
    seen = opened.reference.read(opened.whole)
    s2 = landscape.sentinel2.isel(time=slice(0, None, 3))
    expected = np.isin(s2["SCL"].values, (4, 5, 6, 7))
    assert (seen.valid <= expected).all() and seen.valid.sum() > 0.95 * expected.sum()
    reflectance = np.stack([s2[name].values for name in SOURCE_BANDS.values()], 1) * 1e-4
    valid = np.broadcast_to(seen.valid[:, None], reflectance.shape)
    np.testing.assert_allclose(seen.values[valid], reflectance[valid], atol=1.1e-4)


def test_files_are_recognised_by_the_declared_names() -> None:
    for path in (["dove_constellation", "a.tif"], ["Dove2_b.tif"], ["scene_PSB3.tif"]):
        assert sensor_in(path) == SENSOR.name
    assert sensor_in(["dove-20", "a.tif"]) is None
    assert date_in("DOVE_20190101_20180630.tif", "a file") == np.datetime64("2018-06-30")


def test_the_physical_range_limits_the_columns_of_tables() -> None:
    limits = limits_of("NIR")
    assert limits is not None and limits.units == "reflectance" and limits.day == (-0.1, 1.5)
    assert limits_of("B04").day == SENTINEL_2.physical_range


def test_bands_are_found_by_their_common_names() -> None:
    assert [SENSOR.band_by_common_name(name).name for name in ("nir", "red", "green", "blue")] == [
        *("NIR", "Red", "Green", "Blue")
    ]
    assert SENSOR.band_by_common_name("swir16") is None


def test_indices_of_decoded_bands_follow_the_common_names(cube: Path, model_folder: Path) -> None:
    model = EarthModel.load(model_folder)
    embedded = embed(cube, model, 32)
    vectors = torch.from_numpy(embedded.embeddings.values[:2, :, :4, :4])
    vectors = torch.nan_to_num(vectors)
    blue, red, nir = (
        quantity_by_name(name, model).evaluate(vectors).clamp(min=1e-4) for name in ("Blue", "Red", "NIR")
    )
    ndvi = quantity_by_name("ndvi", model)
    torch.testing.assert_close(ndvi.evaluate(vectors), (nir - red) / (nir + red))
    evi = quantity_by_name("EVI", model)
    torch.testing.assert_close(evi.evaluate(vectors), 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1))


def test_the_store_has_embeddings_on_the_dates_of_the_invented_sensor(store: Path, products: xr.Dataset) -> None:
    dataset = open_store(store)
    assert np.isin(dataset.time.values, products.time.values).all()
    assert dataset.sizes["embedding"] == 32
    clear = products.sel(time=dataset.time.values)["usable_data"].values == CLEAR
    finite = np.isfinite(dataset.embeddings.values).all(1)
    assert (finite <= clear).all() and finite.sum() > 0.95 * clear.sum()
    preview = dataset.picture.values
    assert (preview[:, 0] != preview[:, 2]).any()


def test_the_store_is_exported(store: Path, model_folder: Path, tmp_path: Path) -> None:
    dataset = open_store(store).isel(time=slice(0, 2))
    rasters = sorted(write_cogs(dataset, tmp_path / "rasters").glob("*.tif"))
    with rasterio.open(rasters[0]) as file:
        np.testing.assert_array_equal(file.read(), dataset.embeddings.values[0])
    catalogue = pystac.Collection.from_file(
        str(write_catalogue(dataset, tmp_path / "stac", model_folder) / "collection.json")
    )
    assert SENSOR.name in str(catalogue.to_dict()) or SENSOR.name in str([i.to_dict() for i in catalogue.get_items()])


def write_item(products: xr.Dataset, folder: Path) -> pystac.Item:
    """Write one date as GeoTIFFs, and the item that holds them; assets have keys of their own."""
    date = products.isel(time=0)
    west, east, south, north = (float(edge) for edge in (date.x[0] - 5, date.x[-1] + 5, date.y[-1] - 5, date.y[0] + 5))
    crs = str(products.rio.crs)
    bounds = transform_bounds(crs, "EPSG:4326", west, south, east, north)
    item = pystac.Item("dove", mapping(box(*bounds)), list(bounds), datetime(2018, 1, 3, 10, tzinfo=UTC), {})
    item.properties["proj:code"] = crs
    profile = {"driver": "GTiff", "count": 1, "crs": crs, "transform": Affine(10, 0, west, 0, -10, north)}
    for key, name in {
        "blue": "dove_ms1_sr",
        "asset-g": "dove_ms2_sr",
        "red": "dove_ms3_sr",
        "n": "near-infrared",
    }.items():
        values = date[name].values
        with rasterio.open(
            folder / f"{key}.tif", "w", height=values.shape[0], width=values.shape[1], dtype=values.dtype, **profile
        ) as file:
            file.write(values, 1)
        item.add_asset(key, pystac.Asset(str(folder / f"{key}.tif"), roles=["data"]))
    item.assets["n"].extra_fields["eo:bands"] = [{"name": "band 4", "common_name": "nir"}]
    flags = date["usable_data"].values
    with rasterio.open(
        folder / "udm.tif", "w", height=flags.shape[0], width=flags.shape[1], dtype=flags.dtype, **profile
    ) as file:
        file.write(flags, 1)
    item.add_asset("udm", pystac.Asset(str(folder / "udm.tif"), roles=["data"]))
    return item


def test_a_catalogue_is_fetched_by_the_declaration(products: xr.Dataset, tmp_path: Path) -> None:
    item = write_item(products, tmp_path)
    extent = pystac.Extent(pystac.SpatialExtent([item.bbox]), pystac.TemporalExtent([[item.datetime, None]]))
    collection = pystac.Collection("dove-scenes", "Scenes of the invented sensor", extent)
    collection.add_item(item)
    root = pystac.Catalog("root", "An archive")
    root.add_child(collection)
    root.normalize_hrefs(str(tmp_path / "archive"))
    root.save(pystac.CatalogType.SELF_CONTAINED)
    catalogue = Catalogue(
        name="archive",
        url=str(tmp_path / "archive" / "catalog.json"),
        products=(
            Product(sensor=SENSOR.name, collection="dove-scenes", assets={"Green": "asset-g", "usable_data": "udm"}),
        ),
    )
    west, south, east, north = item.bbox
    inside = (west + 5e-4, south + 5e-4, east - 5e-4, north - 5e-4)
    request = Request(inside, "2018", (SENSOR.name,), str(products.rio.crs))
    out = fetch(plan(request, catalogue), tmp_path / "out.zarr")
    stored = xr.open_zarr(out, group=SENSOR.name, mask_and_scale=False).compute()
    assert {name: stored[name].dtype for name in ("Red", "NIR", "usable_data")} == {
        **{"Red": np.dtype("int16"), "NIR": np.dtype("uint16"), "usable_data": np.dtype("uint8")}
    }
    source = products.isel(time=0).sel(x=stored.x, y=stored.y)
    np.testing.assert_array_equal(stored["usable_data"][0], source["usable_data"])
    opened = Cube.open(out).reference
    assert opened.sensor == SENSOR and opened.present_bands.all()
    seen = opened.read(Cube.open(out).whole)
    expected = source["near-infrared"].values * 2e-4 - 0.05
    np.testing.assert_allclose(seen.values[0, 3][seen.valid[0]], expected[seen.valid[0]], atol=3e-5)
