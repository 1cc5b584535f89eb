"""Checks that the convention fields of a store do not contradict each other or its arrays."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thalweg.earth.store.conventions.declared_conventions import GEO_EMBEDDINGS
from thalweg.earth.store.conventions.geo_embeddings import is_uri
from thalweg.earth.store.conventions.multiscales_layout import RESAMPLING
from thalweg.earth.store.portable import structured

if TYPE_CHECKING:
    import xarray as xr


def check_conventions(dataset: "xr.Dataset") -> None:
    """Check the convention fields of an undecoded store; fields that it lacks are not checked.

    Args:
        dataset: the store, with its integers as they are stored.

    Raises:
        ValueError: Two fields contradict each other, or a field contradicts an array.
    """
    attributes = dataset.attrs
    _check_kind(attributes)
    _check_addresses(attributes)
    _check_data_type(dataset)
    _check_depths(dataset)
    _check_reference_system(attributes)


def _check_kind(attributes: Mapping[str, Any]) -> None:
    kind, layout = attributes.get("geoemb:type", "pixel"), attributes.get("geoemb:spatial_layout")
    if kind != "pixel":
        raise ValueError(f"geoemb:type {kind}, but its arrays have one embedding per pixel")
    if "geoemb:chip_layout" in attributes:
        raise ValueError("geoemb:chip_layout with geoemb:type pixel")
    if layout == "utm_zones":
        raise ValueError("geoemb:spatial_layout utm_zones, but its arrays are in no group of a zone")
    if layout == "global" and not _covers_earth(attributes):
        raise ValueError("geoemb:spatial_layout global, but spatial:bbox is a part of the Earth")
    if layout not in (None, "utm_zones", "global"):
        raise ValueError(f"geoemb:spatial_layout {layout!s:.40}, expected utm_zones or global")


def _covers_earth(attributes: Mapping[str, Any]) -> bool:
    """Return whether a grid in degrees covers all longitudes and latitudes."""
    left, bottom, right, top = attributes["spatial:bbox"]
    return math.isclose(right - left, 360, rel_tol=0.01) and math.isclose(top - bottom, 180, rel_tol=0.01)


def _check_addresses(attributes: Mapping[str, Any]) -> None:
    """Check the addresses of a store that declares version 1; before it, the fields held names."""
    declared = structured(attributes, "zarr_conventions") if "zarr_conventions" in attributes else []
    if not any(one.get("schema_url") == GEO_EMBEDDINGS["schema_url"] for one in declared if isinstance(one, dict)):
        return
    if not is_uri(attributes["geoemb:model"]):
        raise ValueError(f"geoemb:model {attributes['geoemb:model']!s:.60} is no URI, but version 1 is declared")
    sources = attributes["geoemb:source_data"]
    names = [source for source in ([sources] if isinstance(sources, str) else sources) if not is_uri(source)]
    if names:
        raise ValueError(f"geoemb:source_data {names[0]!s:.60} is no URI, but version 1 is declared")


def _check_data_type(dataset: "xr.Dataset") -> None:
    attributes, stored = dataset.attrs, dataset.embeddings
    stated = attributes.get("geoemb:data_type", str(stored.dtype))
    if stated != str(stored.dtype):
        raise ValueError(f"geoemb:data_type {stated!s:.20}, but embeddings are {stored.dtype}")
    if "geoemb:quantization" not in attributes:
        if stored.dtype.kind in "iu":
            raise ValueError(f"embeddings of {stored.dtype} without geoemb:quantization")
        return
    quantization = structured(attributes, "geoemb:quantization")
    if stored.dtype.kind not in "iu":
        raise ValueError(f"geoemb:quantization with embeddings of {stored.dtype}")
    if quantization.get("quantized_dtype", stated) != stated:
        raise ValueError(f"geoemb:quantization to {quantization['quantized_dtype']!s:.20}, geoemb:data_type {stated}")
    scale = quantization["scale"]
    both = [(scale["scale"], stored.attrs["scale_factor"]), (scale.get("offset", 0.0), stored.attrs["add_offset"])]
    if any(not math.isclose(said, used, rel_tol=1e-6) for said, used in both):
        raise ValueError(f"geoemb:quantization with scale {scale['scale']}, scale_factor {both[0][1]}")


def _check_depths(dataset: "xr.Dataset") -> None:
    if "geoemb:depths" not in dataset.attrs:
        return
    entries = structured(dataset.attrs, "geoemb:depths")
    sizes = [entry["dimensions"] for entry in entries]
    absent = [entry["array"] for entry in entries if entry["array"] not in dataset]
    if absent:
        raise ValueError(f"geoemb:depths names the array {absent[0]!s:.40}, which is not there")
    if max(sizes) != dataset.sizes["embedding"] or min(sizes) < 1:
        raise ValueError(f"geoemb:depths {sizes} of {dataset.sizes['embedding']} dimensions")


def _check_reference_system(attributes: Mapping[str, Any]) -> None:
    if "proj:code" not in attributes or "proj:wkt2" not in attributes:
        return
    from pyproj import CRS

    stated, described = CRS.from_user_input(attributes["proj:code"]), CRS.from_wkt(attributes["proj:wkt2"])
    code = described.to_epsg()  # as the writer finds it
    if code is not None and code != stated.to_epsg():
        raise ValueError(f"proj:code {attributes['proj:code']}, but proj:wkt2 is EPSG:{code}")


def check_multiscales(dataset: "xr.Dataset", levels: Mapping[int, "xr.Dataset"]) -> None:
    """Check that the overviews of a store have its dates and dimensions, and the reduced shape of its grid.

    Args:
        dataset: the store.
        levels: its overviews by their factor.

    Raises:
        ValueError: An overview differs from the store.
    """
    for factor, level in levels.items():
        for name in RESAMPLING:
            reduced = {"y": factor, "x": factor}
            expected = [math.ceil(size / reduced.get(str(axis), 1)) for axis, size in dataset[name].sizes.items()]
            found = list(level[name].shape) if name in level else "no array"
            if found != expected:
                raise ValueError(f"multiscales: {name} reduced by {factor} is {found}, expected {expected}")
