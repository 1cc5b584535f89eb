"""P-model of GPP (Prentice et al. 2014, Wang et al. 2017, Stocker et al. 2020), by the package `pyrealm`."""

import warnings

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError
from thalweg.gpp.data.windows import Windows
from thalweg.gpp.models.physics.drivers import Drivers, site_means

ACCLIMATION_DAYS = 15
"""Days over which photosynthesis acclimates to temperature, humidity and pressure."""

CARBON_DIOXIDE = 410.0
"""Carbon dioxide in ppm, about that of 2018; 10 ppm more raise the efficiency by about 1 %."""

_WARMEST = 60.0


def light_use_efficiency(
    temperature: NDArray, deficit: NDArray, pressure: NDArray, carbon_dioxide: float = CARBON_DIOXIDE
) -> NDArray[np.float64]:
    """Return the P-model's light-use efficiency in gC mol-1; 0 below freezing.

    C3 photosynthesis, quantum yield by temperature, and limited electron transport, the defaults of `pyrealm`.

    Args:
        temperature: (N,) deg C.
        deficit: (N,) vapour pressure deficit, hPa.
        pressure: (N,) kPa.
        carbon_dioxide: ppm.

    Raises:
        UsageError: The package is not installed.
    """
    try:
        from pyrealm.pmodel import PModel, PModelEnvironment
    except ImportError as error:
        raise UsageError("the P-model needs the package pyrealm: install thalweg with the extra `gpp`") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its new default quantum yield, and of values at the edge of its range
        environment = PModelEnvironment(
            tc=np.clip(temperature, 0.0, _WARMEST),
            vpd=np.maximum(deficit, 0.1) * 100,
            co2=np.full(len(temperature), carbon_dioxide),
            patm=pressure * 1000,
        )
        efficiency = np.asarray(PModel(environment).lue, float)
    return np.where(temperature > 0, np.nan_to_num(efficiency, nan=0.0), 0.0)


def potential_gpp(drivers: Drivers, windows: Windows) -> NDArray[np.float64]:
    """Return (N,) GPP of the P-model on the windows' last days, gC m-2 d-1, for the drivers' absorbed fraction.

    The efficiency follows the means of `ACCLIMATION_DAYS` days, the light is the day's.
    """
    temperature, deficit, pressure = (
        site_means(values, windows, ACCLIMATION_DAYS)[windows.last]
        for values in (drivers.temperature, drivers.deficit, drivers.pressure)
    )
    light = drivers.fapar[windows.last] * drivers.light[windows.last]
    return light_use_efficiency(temperature, deficit, pressure) * light
