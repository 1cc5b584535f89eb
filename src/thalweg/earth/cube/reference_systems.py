"""Coordinate reference systems and affine transforms of datasets, under any of the names that writers use."""

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr
    from pyproj import CRS

Affine = tuple[float, float, float, float, float, float]
"""Coefficients a, b, c, d, e, f: x = a column + b row + c, y = d column + e row + f, at the corners of pixels."""

_WKT_KEYS = ("crs_wkt", "spatial_ref")
_CODE_KEYS = ("epsg_code", "epsg", "EPSG")
_ATTRIBUTES = ("crs", "crs_wkt", "proj:wkt2", "proj:code", "proj:epsg", "epsg")
_OF_ITEMS = ("proj:code", "proj:epsg")


def grid_mappings(dataset: "xr.Dataset") -> list[str]:
    """Return the names of the variables that describe a reference system, whether or not a band refers to them."""
    linked = []
    for variable in dataset.variables.values():
        names = variable.attrs.get("grid_mapping", variable.encoding.get("grid_mapping"))
        linked += str(names).replace(":", " ").split() if names else []
    mappings = [str(name) for name, variable in dataset.variables.items() if _describes(str(name), variable)]
    return list(dict.fromkeys([name for name in linked if name in mappings] + mappings))


def _describes(name: str, variable: "xr.Variable") -> bool:
    keys = (*_WKT_KEYS, "grid_mapping_name", "GeoTransform")
    return variable.size == 1 and (any(key in variable.attrs for key in keys) or name in ("epsg", "spatial_ref"))


def has_reference_system(dataset: "xr.Dataset") -> bool:
    """Return whether a dataset has any statement of its reference system."""
    return any(True for statements in (_statements, _of_items) for _ in statements(dataset))


def reference_system(dataset: "xr.Dataset", where: str) -> "CRS":
    """Return the coordinate reference system of a dataset.

    It may be in a grid mapping variable, in attributes of the dataset or of a band, or in the coordinate `epsg`. The
    reference system of the STAC items that a dataset was stacked from (`proj:code`) counts only if there is no other.

    Args:
        dataset: the dataset.
        where: file or dataset that messages name.

    Raises:
        UsageError: two statements differ, or none can be read.
    """
    found: dict[str, CRS] = {}
    unreadable = []
    for statements in (_statements(dataset), _of_items(dataset)):
        for name, value in statements:
            crs = _parsed(value)
            if crs is None:
                unreadable.append(f"{name} is {_brief(value)}")
            else:
                found[name] = crs
        if found:
            break
    if not found:
        raise UsageError(
            f"{where}: {unreadable[0] if unreadable else 'nothing'}, expected a coordinate reference system such as "
            "EPSG:32631: write one with ds.rio.write_crs(...)"
        )
    first, crs = next(iter(found.items()))
    for name, other in found.items():
        if not same_reference_system(crs, other):
            raise UsageError(
                f"{where}: {first} says {crs_name(crs)}, {name} says {crs_name(other)}: expected one coordinate "
                "reference system: remove the wrong one"
            )
    return crs


def same_reference_system(one: "CRS", other: "CRS") -> bool:
    """Return whether two reference systems are equal, regardless of spelling, names and order of the axes."""
    one, other = _without_shift(one), _without_shift(other)
    if one.equals(other, ignore_axis_order=True):
        return True
    codes, datums = {one.to_epsg(), other.to_epsg()}, {_datum(one), _datum(other)}
    if None not in codes:
        return len(codes) == 1
    if None not in datums and len(datums) > 1:
        return False
    return one.is_projected and other.is_projected and _definition(one) == _definition(other)


def _without_shift(crs: "CRS") -> "CRS":
    """Return a reference system without a shift to another one, such as TOWGS84."""
    return crs.source_crs if crs.is_bound and crs.source_crs is not None else crs


def _datum(crs: "CRS") -> int | None:
    geodetic = crs.geodetic_crs
    return None if geodetic is None else geodetic.to_epsg()


def _definition(crs: "CRS") -> tuple[Any, ...]:
    """Return the projection, its parameters in SI units, the ellipsoid and the prime meridian."""
    operation, ellipsoid, meridian = crs.coordinate_operation, crs.ellipsoid, crs.prime_meridian
    parameters = {} if operation is None else {p.name.lower(): _si(p) for p in operation.params}
    return (
        None if operation is None else operation.method_name.lower(),
        tuple(sorted(parameters.items())),
        None if ellipsoid is None else (ellipsoid.semi_major_metre, round(ellipsoid.inverse_flattening, 7)),
        0.0 if meridian is None else round(meridian.longitude, 9),
        crs.axis_info[0].unit_conversion_factor if crs.axis_info else None,
    )


def _si(parameter: Any) -> float:
    return round(float(parameter.value) * float(parameter.unit_conversion_factor or 1.0), 9)


def crs_name(crs: "CRS") -> str:
    """Return the EPSG code of a reference system, or its name if it has no code."""
    return f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.name


def _statements(dataset: "xr.Dataset") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of each statement of a dataset's reference system."""
    for name in grid_mappings(dataset):
        variable = dataset[name]
        attrs = variable.attrs
        wkt = [(f"{name}.{key}", attrs[key]) for key in _WKT_KEYS if str(attrs.get(key, "")).strip()]
        yield from wkt
        if not wkt:
            codes = [(f"{name}.{key}", attrs[key]) for key in _CODE_KEYS if key in attrs]
            yield from codes
            if not codes and "grid_mapping_name" in attrs:
                yield f"{name}.grid_mapping_name", dict(attrs)
            elif not codes and name == "epsg":
                yield name, variable.values.item()
    for holder, attrs in [("attribute", dataset.attrs), *((str(n), v.attrs) for n, v in dataset.data_vars.items())]:
        for key in _ATTRIBUTES:
            if key in attrs and str(attrs[key]).strip():
                yield f"{holder} {key}", attrs[key]


def _of_items(dataset: "xr.Dataset") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the reference systems of STAC items, which stacking libraries keep as coordinates."""
    for key in _OF_ITEMS:
        if key in dataset.variables:
            for value in dict.fromkeys(np.atleast_1d(dataset[key].values).ravel().tolist()):
                yield f"{key} {value}", value


def _parsed(value: Any) -> "CRS | None":
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, np.integer):
        value = int(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyproj warns of old spellings, which are equivalent
            if isinstance(value, Mapping):
                return CRS.from_cf(dict(value))
            return CRS.from_user_input(value)
    except (CRSError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _brief(value: Any) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def transforms(dataset: "xr.Dataset") -> Iterator[tuple[str, Affine]]:
    """Yield (name, affine transform) of each transform of a dataset."""
    for name in grid_mappings(dataset):
        numbers = _numbers(dataset[name].attrs.get("GeoTransform"))
        if len(numbers) == 6:
            c, a, b, f, d, e = numbers
            if a and e:
                yield f"{name}.GeoTransform", (a, b, c, d, e, f)
    for attrs in [dataset.attrs, *(variable.attrs for variable in dataset.data_vars.values())]:
        for key in ("transform", "spatial:transform"):
            numbers = _numbers(attrs.get(key))
            if len(numbers) in (6, 9) and numbers[0] and numbers[4]:
                a, b, c, d, e, f = numbers[:6]
                yield f"attribute {key}", (a, b, c, d, e, f)


def _numbers(value: Any) -> list[float]:
    """Return the numbers of an attribute, which may be text or a sequence; empty if it holds anything else."""
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        numbers = [float(item) for item in items]
    except (TypeError, ValueError):
        return []
    return numbers if np.isfinite(numbers).all() else []
