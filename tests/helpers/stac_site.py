"""Files of a small catalogue: COGs of a simulated site at a border of UTM zones, and a static catalogue of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import rasterio
import rasterio.control
import xarray as xr
from affine import Affine
from pyproj import Transformer
from rasterio.warp import reproject
from shapely.geometry import box, mapping

from thalweg.simulate import Landscape

WEST_ZONE, EAST_ZONE = "EPSG:32631", "EPSG:32632"
BORDER = (6.0, 51.0)
"""Longitude and latitude of the middle of the site, on the border of the two zones."""

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12", "SCL")
COMMON = dict(
    zip(
        BANDS,
        ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"),
        strict=True,
    )
)
WEST_COLUMNS, EAST_COLUMNS = slice(0, 20), slice(12, 32)
"""Columns of the site that the tiles of each zone cover."""


@dataclass
class Site:
    """Datasets that the files of the catalogue were written from, on the grid of the western zone."""

    sentinel2: xr.Dataset
    sentinel1: xr.Dataset
    landsat8: xr.Dataset
    folder: Path

    @property
    def catalogue(self) -> Path:
        return self.folder / "catalog.json"

    def box(self, columns: slice, rows: slice = slice(2, 30)) -> tuple[float, float, float, float]:
        """Return west, south, east, north in degrees of a box whose grid lies within some columns and rows."""
        x, y = self.sentinel2.x.values[columns], self.sentinel2.y.values[rows]
        to_degrees = Transformer.from_crs(WEST_ZONE, "EPSG:4326", always_xy=True)
        # The inner box, whose grid does not extend beyond the given pixels.
        corners = [to_degrees.transform(px, py) for px in (x[0], x[-1]) for py in (y[0], y[-1])]
        west, south = np.min(corners, 0)
        east, north = np.max(corners, 0)
        return float(west), float(south), float(east), float(north)


def write_site(landscape: Landscape, folder: Path) -> Site:
    """Write the series of a landscape as a catalogue, moved to the border of two zones, one COG per band."""
    to_zone = Transformer.from_crs("EPSG:4326", WEST_ZONE, always_xy=True)
    x, y = (60 * round(value / 60) for value in to_zone.transform(*BORDER))
    size = landscape.sentinel2.sizes["x"]
    grid = {"x": x - 180 + 10 * np.arange(size) + 5, "y": y + 180 - 10 * np.arange(size) - 5}

    def moved(data: xr.Dataset, step: int) -> xr.Dataset:
        return data.isel(time=slice(0, None, step)).assign_coords(grid).copy(deep=True)

    site = Site(moved(landscape.sentinel2, 4), moved(landscape.sentinel1, 6), moved(landscape.landsat8, 4), folder)
    catalogue = pystac.Catalog("site", "A simulated site at the border of two UTM zones")
    for identifier, items in {
        "sentinel-2-l2a": [*_sentinel2(site), *_sentinel2_faults(site)],
        "sentinel-1-rtc": list(_sentinel1(site)),
        "sentinel-1-grd": [_ground_range(site)],
        "landsat-c2-l2": list(_landsat(site)),
    }.items():
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]),
            pystac.TemporalExtent([[datetime(2018, 1, 1, tzinfo=UTC), None]]),
        )
        collection = pystac.Collection(identifier, identifier, extent)
        collection.add_items(items)
        catalogue.add_child(collection)
    catalogue.normalize_hrefs(str(folder))
    catalogue.make_all_asset_hrefs_relative()
    catalogue.save(pystac.CatalogType.SELF_CONTAINED)
    return site


def _sentinel2(site: Site) -> Iterator[pystac.Item]:
    """Yield items of alternating baselines and orbits; on the first four dates also a tile of the eastern zone."""
    for index in range(site.sentinel2.sizes["time"]):
        data = site.sentinel2.isel(time=index)
        offset = 1000 * (index % 2)
        properties = {
            "platform": "sentinel-2a",
            "s2:processing_baseline": ("03.01", "04.00")[index % 2],
            "sat:relative_orbit": (8, 51)[index % 2],
        }
        numbers = {band: data[band].values + np.uint16(offset) * (data[band].values > 0) for band in BANDS}
        numbers["SCL"] = data["SCL"].values
        when = pd.Timestamp(data.time.values)
        west = {name: values[:, WEST_COLUMNS] for name, values in numbers.items()}
        yield _item(site, f"S2_31_{index:02d}", when, properties, west, WEST_COLUMNS, {n: n for n in numbers}, COARSE)
        if index < 4:
            yield _item(
                site,
                f"S2_32_{index:02d}",
                when,
                properties,
                numbers,
                EAST_COLUMNS,
                {n: n for n in numbers},
                zone=EAST_ZONE,
            )


def _sentinel2_faults(site: Site) -> Iterator[pystac.Item]:
    """Yield one item per day from 2022-05-01 on, each with its own property, with keys of Earth Search."""
    data = site.sentinel2.isel(time=8)
    plain = {band: data[band].values for band in BANDS} | {"SCL": data["SCL"].values}
    raised = {name: v + np.uint16(1000) * (name != "SCL") for name, v in plain.items()}
    said = {"scale": 1e-4, "offset": -0.1, "nodata": 0, "data_type": "uint16"}
    properties_of_days: list[tuple[str, dict[str, np.ndarray], dict[str, Any], dict[str, Any] | None]] = [
        ("offset_removed", plain, {"earthsearch:boa_offset_applied": True}, said),
        ("offset_given", raised, {"earthsearch:boa_offset_applied": False}, said),
        ("no_B11", {n: v for n, v in plain.items() if n != "B11"}, {"earthsearch:boa_offset_applied": True}, None),
        ("corrupt", plain, {"earthsearch:boa_offset_applied": True}, None),
        ("empty", {n: np.zeros_like(v) for n, v in plain.items()}, {}, None),
        ("last", raised, {}, None),
    ]
    keys = {**COMMON, "SCL": "scl"}
    for day, (name, numbers, more, raster) in enumerate(properties_of_days, 1):
        properties = {"platform": "sentinel-2b", "s2:processing_baseline": "05.09", "sat:relative_orbit": 8, **more}
        when = pd.Timestamp(2022, 5, day, 10, 30)
        item = _item(site, name, when, properties, numbers, slice(0, 32), keys, raster=raster)
        preview = pystac.Asset("preview.jp2", media_type="image/jp2", roles=["visual"])
        preview.extra_fields["eo:bands"] = [{"name": "blue", "common_name": "blue"}]
        item.add_asset("aaa-visual", preview)
        yield item
        if name == "corrupt":
            path = Path(item.assets["red"].href)
            whole = bytearray(path.read_bytes())
            whole[len(whole) // 2 :] = b"\x07" * (len(whole) - len(whole) // 2)
            path.write_bytes(whole)


def _sentinel1(site: Site) -> Iterator[pystac.Item]:
    for index in range(site.sentinel1.sizes["time"]):
        data = site.sentinel1.isel(time=index)
        power = {
            band.lower(): (10 ** (data[band].values.astype(np.float64) * 0.01 / 10)).astype(np.float32)
            for band in ("VV", "VH")
        }
        state = str(data.orbit.values)
        properties = {
            "platform": "sentinel-1a",
            "sat:orbit_state": state,
            "sat:relative_orbit": {"ascending": 88, "descending": 37}[state],
        }
        when = pd.Timestamp(data.time.values)
        yield _item(site, f"S1_{index:02d}", when, properties, power, slice(0, 32), {"vv": "vv", "vh": "vh"})


def ground_range_decibel(band: str, east: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Return the backscatter of the GRD product in dB at metres east and north of the first pixel: waves of 200 m."""
    level = {"VV": -10.0, "VH": -17.0}[band]
    return level + 3 * np.sin(east * 2 * np.pi / 200) + 2 * np.cos(north * 2 * np.pi / 200 + 1)


def _ground_range(site: Site) -> pystac.Item:
    """Write a GRD product of `ground_range_decibel`: numbers on a rotated image, tie points, calibration tables."""
    x, y = site.sentinel1.x.values, site.sentinel1.y.values
    size = 60
    middle = Affine.translation(x.mean(), y.mean())
    image = middle @ Affine.rotation(12) @ Affine.scale(10, -10) @ Affine.translation(-size / 2, -size / 2)
    rows, columns = np.mgrid[:size, :size] + 0.5
    image_x, image_y = image.a * columns + image.b * rows + image.c, image.d * columns + image.e * rows + image.f
    table = 400 + 2 * columns + 3 * rows  # as in real products, it varies along and across the track
    to_degrees = Transformer.from_crs(WEST_ZONE, "EPSG:4326", always_xy=True)
    points = []
    for row in np.linspace(0, size, 5):
        for column in np.linspace(0, size, 5):
            longitude, latitude = to_degrees.transform(*(image @ (column, row)))
            points.append(rasterio.control.GroundControlPoint(row, column, longitude, latitude, 0))
    bounds = to_degrees.transform_bounds(x[0], y[-1], x[-1], y[0])
    properties = {"platform": "sentinel-1a", "sat:orbit_state": "descending", "sat:relative_orbit": 37}
    when = pd.Timestamp("2022-06-01T05:40").tz_localize("UTC").to_pydatetime()
    item = pystac.Item("GRD", mapping(box(*bounds)), list(bounds), when, properties)
    folder = site.folder / "files" / "GRD"
    folder.mkdir(parents=True)
    for band in ("VV", "VH"):
        power = 10 ** (ground_range_decibel(band, image_x - x[0], image_y - y[0]) / 10)
        numbers = np.rint(table * np.sqrt(power)).astype(np.uint16)
        profile = {"height": size, "width": size, "count": 1, "dtype": "uint16"}
        path = folder / f"iw-{band.lower()}.tif"
        with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:4326", **profile) as file:
            file.write(numbers, 1)
        item.add_asset(band.lower(), pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF, roles=["data"]))
        vectors = "".join(
            f"<calibrationVector><line>{line}</line><pixel>0 30 60</pixel>"
            f"<sigmaNought>{' '.join(str(400 + 2 * (p + 0.5) + 3 * (line + 0.5)) for p in (0, 30, 60))}</sigmaNought>"
            "</calibrationVector>"
            for line in (0, 20, 60)
        )
        path = folder / f"calibration-{band.lower()}.xml"
        path.write_text(f"<calibration><calibrationVectorList>{vectors}</calibrationVectorList></calibration>")
        item.add_asset(f"schema-calibration-{band.lower()}", pystac.Asset(str(path), roles=["metadata"]))
    return item


def _landsat(site: Site) -> Iterator[pystac.Item]:
    """Yield items of Collection 2: scale 2.75e-5, offset -0.2, flags in `qa_pixel`; one item is of Landsat 7."""
    keys = {"B02": "blue", "B03": "green", "B04": "red", "B05": "nir08", "B06": "swir16", "B07": "swir22"}
    for index in range(site.landsat8.sizes["time"]):
        data = site.landsat8.isel(time=index)
        numbers = {
            band: np.rint((data[band].values * 1e-4 + 0.2) / 2.75e-5).astype(np.uint16)[:30, :30] for band in keys
        }
        numbers["qa"] = collection_2_quality(data["pixel_qa"].values)[:30, :30]
        properties = {"platform": "landsat-7" if index == 1 else "landsat-8"}
        when = pd.Timestamp(data.time.values)
        yield _item(site, f"L8_{index:02d}", when, properties, numbers, slice(0, 30), {**keys, "qa": "qa_pixel"})


def collection_2_quality(pixel_qa: np.ndarray) -> np.ndarray:
    """Convert the simulator's `pixel_qa` of Collection 1 to `qa_pixel` of Collection 2."""
    bits = pixel_qa.astype(np.uint16)

    def moved(from_bit: int, to_bit: int, mask: int = 1) -> np.ndarray:
        return ((bits >> from_bit) & mask) << to_bit

    clear = ((bits >> 5) & 1 == 0).astype(np.uint16) << 6
    quality = moved(5, 3) | moved(3, 4) | moved(4, 5) | clear | moved(2, 7) | moved(6, 8, 3) | moved(8, 14, 3)
    return np.where(bits & 1, 1, quality).astype(np.uint16)


def _item(
    site: Site,
    name: str,
    when: pd.Timestamp,
    properties: dict[str, Any],
    numbers: dict[str, np.ndarray],
    columns: slice,
    keys: dict[str, str],
    coarse: tuple[str, ...] = (),
    zone: str = WEST_ZONE,
    raster: dict[str, Any] | None = None,
) -> pystac.Item:
    """Write the COGs of a tile, and return the item that holds them."""
    x, y = site.sentinel2.x.values, site.sentinel2.y.values
    affine = Affine(10, 0, x[columns][0] - 5, 0, -10, y[0] + 5)
    height, width = next(iter(numbers.values())).shape
    if zone != WEST_ZONE:
        whole = Affine(10, 0, x[0] - 5, 0, -10, y[0] + 5)
        to_zone = Transformer.from_crs(WEST_ZONE, zone, always_xy=True)
        left, bottom, right, top = to_zone.transform_bounds(x[columns][0], y[-1], x[columns][-1], y[0])
        affine = Affine(10, 0, np.floor(left / 10) * 10, 0, -10, np.ceil(top / 10) * 10)
        width, height = round((right - affine.c) / 10), round((affine.f - bottom) / 10)
        numbers = {key: _warped(values, whole, zone, affine, (height, width)) for key, values in numbers.items()}
    to_degrees = Transformer.from_crs(zone, "EPSG:4326", always_xy=True)
    bounds = to_degrees.transform_bounds(affine.c, affine.f - 10 * height, affine.c + 10 * width, affine.f)
    item = pystac.Item(
        name,
        mapping(box(*bounds)),
        list(bounds),
        when.tz_localize("UTC").to_pydatetime(),
        {**properties, "proj:code": zone},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    for key, values in numbers.items():
        step = 2 if key in coarse else 1
        path = site.folder / "files" / name / f"{keys[key]}.tif"
        _write_cog(path, values[::step, ::step], affine @ Affine.scale(step), zone)
        asset = pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=["data"])
        asset.extra_fields["gsd"] = 10 * step
        if key in COMMON:
            asset.extra_fields["eo:bands"] = [{"name": key, "common_name": COMMON[key]}]
        if raster is not None:
            asset.extra_fields["raster:bands"] = [{**raster, "offset": 0} if key == "SCL" else raster]
        item.add_asset(keys[key], asset)
    return item


def _warped(values: np.ndarray, affine: Affine, zone: str, to: Affine, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros(size, values.dtype)
    reproject(values, out, src_transform=affine, src_crs=WEST_ZONE, dst_transform=to, dst_crs=zone, dst_nodata=0)
    return out


def _write_cog(path: Path, values: np.ndarray, affine: Affine, crs: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="COG", crs=crs, transform=affine, compress="deflate", **profile) as file:
        file.write(values, 1)
