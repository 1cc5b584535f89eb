"""TESSERA embeddings as Zarr: one group per UTM zone with integers, scales and the years (geotessera's layout)."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.foreign.foreign_dataset import MAX_REASON, Spans, VectorGrid, start_of_years
from thalweg.earth.foreign.tessera_tiles import PUBLICATION, dequantize_tessera
from thalweg.errors import UsageError, one_line

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from pyproj import CRS

METHOD = "per_pixel_scale"
"""Method of `geoemb:quantization` that this module reads."""

_ZONE = re.compile(r"utm\d\d")
_METADATA = "zarr.json"
_DIMENSIONS = {"embeddings": ("time", "band", "y", "x"), "scales": ("time", "y", "x")}


def is_tessera_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store of TESSERA's layout, or one of its zones, by its names alone."""
    if not (path / _METADATA).is_file():
        return False
    return bool(_ZONE.fullmatch(path.name)) or any(_zones(path))


def open_tessera_zarr(path: str | Path) -> "xr.Dataset":
    """Open a UTM zone of a TESSERA store lazily, dequantized.

    Args:
        path: the zone's group (`STORE/utm31`), or a store with one zone.

    Returns:
        Dataset with `embeddings` (time, embedding, y, x), float32, NaN on water and where there is no data yet; the
        time of a year is its first day.

    Raises:
        UsageError: The store holds several zones, lacks the scales, states another quantization, or its arrays and
            attributes contradict each other.
    """
    path = Path(path)
    root, zone = (path.parent, path) if _ZONE.fullmatch(path.name) else (path, _only_zone(path))
    _check_quantization(root)
    import zarr

    try:
        group = zarr.open_group(zone, mode="r")
        arrays = {str(name): array for name, array in group.arrays()}
        attributes = dict(group.attrs)
    except Exception as error:  # zarr raises many kinds on damaged metadata
        raise UsageError(f"{zone}: damaged metadata ({one_line(error)[:MAX_REASON]}): get the store again") from error
    _check_arrays(arrays, zone)
    x, y, years = (np.asarray(arrays[name][:]) for name in ("x", "y", "time"))
    integers, scales = arrays["embeddings"], arrays["scales"]
    crs = _reference_system(attributes, x, y, zone)

    def read(spans: Spans) -> NDArray[np.float32]:
        found = np.asarray(integers[spans])
        return dequantize_tessera(found, np.asarray(scales[spans[0], spans[2], spans[3]])[:, None])

    block = (integers.chunks[2], integers.chunks[3])
    times = start_of_years([int(year) for year in years])
    name = f"{root.name}/{zone.name}"
    return VectorGrid(name, times, x, y, crs, integers.shape[1], block).dataset(read, PUBLICATION)


def _zones(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if _ZONE.fullmatch(one.name) and (one / _METADATA).is_file())


def _only_zone(path: Path) -> Path:
    zones = _zones(path)
    if len(zones) != 1:
        names = ", ".join(zone.name for zone in zones)
        raise UsageError(f"{path}: UTM zones {names}: open one of them, such as {path / zones[0].name}")
    return zones[0]


def _check_quantization(root: Path) -> None:
    """Raise a `UsageError` unless the attributes of a store state embeddings with a scale per pixel."""
    try:
        attributes = json.loads((root / _METADATA).read_text("utf-8"))["attributes"]
        stated = attributes.get("geoemb:quantization", {})
        method, scale = stated.get("method"), stated.get("scale", {}).get("array_name")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{root}: no attributes of the convention geoemb: get the whole store") from error
    if method != METHOD or scale != "scales":
        raise UsageError(
            f"{root}: quantization {method!r} with the scale {scale!r}: expected TESSERA's {METHOD!r} with 'scales'"
        )


def _check_arrays(arrays: "dict[str, zarr.Array[Any]]", zone: Path) -> None:
    """Raise a `UsageError` unless the arrays of a zone are there and fit each other."""
    missing = [name for name in ("embeddings", "scales", "time", "x", "y") if name not in arrays]
    if missing:
        raise UsageError(f"{zone}: no array {', '.join(missing)}: expected a zone of a TESSERA store: get it again")
    for name, expected in _DIMENSIONS.items():
        found = tuple(str(one) for one in getattr(arrays[name].metadata, "dimension_names", None) or ())
        if found != expected:
            raise UsageError(f"{zone}: {name} of {', '.join(found)}: expected {', '.join(expected)}")
    integers, scales = arrays["embeddings"], arrays["scales"]
    if integers.dtype != np.int8 or scales.dtype != np.float32:
        raise UsageError(
            f"{zone}: embeddings of {integers.dtype}, scales of {scales.dtype}: expected int8 and float32; another "
            "type is another quantization"
        )
    size = (integers.shape[0], *integers.shape[2:])
    if scales.shape != size or tuple(arrays[name].shape[0] for name in ("time", "y", "x")) != size:
        raise UsageError(f"{zone}: arrays of different sizes: get the store again")


def _reference_system(attributes: dict[str, Any], x: NDArray, y: NDArray, zone: Path) -> "CRS":
    """Return the reference system of a zone.

    Raises:
        UsageError: There is none, or `spatial:transform` is not that of x and y.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(attributes.get("proj:code") or attributes["proj:wkt2"])
        step, _, left, _, down, top = attributes["spatial:transform"][:6]
        agrees = np.allclose([x[0], y[0]], [left + step / 2, top + down / 2], rtol=1e-9)
    except (CRSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{zone}: no proj:code and spatial:transform: expected a zone of a TESSERA store") from error
    if not agrees:
        raise UsageError(f"{zone}: spatial:transform is not that of x and y: get the store again")
    return crs
