"""Spectral indices of surface reflectance: NDVI, EVI, NIRv and kNDVI, for arrays and, differentiably, for tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.declarations import Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

INDICES = ("NDVI", "EVI", "NIRv", "kNDVI")
"""Names of the indices."""

INDEX_BANDS = ("blue", "red", "nir")
"""Common names of the bands that the indices are computed from."""

Reflectance = TypeVar("Reflectance", NDArray[np.floating], "Tensor")


def index_name(name: str) -> str | None:
    """Return the name of an index in its usual spelling, None if there is no such index; case does not matter."""
    return next((known for known in INDICES if known.lower() == name.lower()), None)


def spectral_index(name: str, bands: Mapping[str, Reflectance]) -> Reflectance:
    """Compute a spectral index.

    kNDVI has its kernel's width at half the sum of both bands (Camps-Valls et al. 2021,
    doi:10.1126/sciadv.abc7447), where it equals tanh(NDVI^2).

    Args:
        name: one of `INDICES`, in any case.
        bands: surface reflectance as a fraction, by common name (`INDEX_BANDS`); of any one shape.

    Returns:
        The index, of the same shape and dtype; differentiable where `bands` are tensors.

    Raises:
        UsageError: there is no such index, or a band is missing.
    """
    known = index_name(name)
    if known is None:
        raise UsageError(f"expected one of {', '.join(INDICES)}, got {name!r}")
    if missing := [band for band in INDEX_BANDS if band not in bands]:
        raise UsageError(f"{known}: expected the bands {', '.join(INDEX_BANDS)}, got no {missing[0]}")
    blue, red, nir = (bands[band] for band in INDEX_BANDS)
    if known == "EVI":
        return 2.5 * (nir - red) / (nir + 6.0 * red - 7.5 * blue + 1.0)
    ndvi = (nir - red) / (nir + red)
    if known == "NIRv":
        return ndvi * nir
    if known == "kNDVI":
        return np.tanh(ndvi**2) if isinstance(ndvi, np.ndarray) else (ndvi**2).tanh()
    return ndvi


def index_band_numbers(sensor: Sensor) -> dict[str, int]:
    """Return the positions of the bands of `INDEX_BANDS` among a sensor's bands, by common name.

    A sensor without a wide near-infrared band (`nir`) lends its narrow one (`nir08`).

    Raises:
        UsageError: the sensor lacks one of the bands.
    """
    numbers = {}
    for name in INDEX_BANDS:
        band = sensor.band_by_common_name(name)
        if band is None and name == "nir":
            band = sensor.band_by_common_name("nir08")
        if band is None:
            raise UsageError(f"{sensor.name} has no {name} band: expected {', '.join(INDEX_BANDS)} for an index")
        numbers[name] = sensor.bands.index(band)
    return numbers
