"""Published Sentinel-2 networks of leaf area, absorbed radiation and canopy chlorophyll, as in ESA's toolbox SNAP.

One hidden layer of five neurons on eight bands and three cosines of angles (algorithm document: Weiss and Baret,
S2ToolBox Level 2 products, version 1.1). The coefficients are read from the installed package `satellitetools`
(MIT licence), whose own code is not imported: it needs clients of two cloud services.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import UsageError

NETWORK_BANDS = ("B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands that a network takes, in its order; the three cosines of `angle_cosines` follow them."""

COEFFICIENTS = "satellitetools/biophys/snap-auxdata/biophysical/2_1"


@dataclass(frozen=True, eq=False)
class BiophysicalNetwork:
    """Network of one variable; I inputs, eight bands and three cosines.

    Attributes:
        input_range: (I, 2), smallest and largest value in the network's training data.
        domain: (2, 8), smallest and largest reflectance that the network is defined for.
        hidden_weights: (5, I).
        hidden_offset: (5,).
        output_weights: (5,).
        output_offset: offset of the normalised output.
        output_range: smallest and largest output in the training data.
        valid_range: smallest and largest valid output.
        tolerance: distance from the valid range within which an output is set to its nearest end.
    """

    input_range: NDArray
    domain: NDArray
    hidden_weights: NDArray
    hidden_offset: NDArray
    output_weights: NDArray
    output_offset: float
    output_range: tuple[float, float]
    valid_range: tuple[float, float]
    tolerance: float

    @classmethod
    def load(cls, name: str) -> "BiophysicalNetwork":
        """Read a network.

        Args:
            name: `LAI`, `FAPAR` or `LAI_Cab`, among others.

        Raises:
            UsageError: `satellitetools` is not installed.
        """
        folder = coefficients_folder() / name

        def table(part: str) -> NDArray:
            return np.loadtxt(folder / f"{name}_{part}", delimiter=",")

        tolerance, lowest, highest = table("ExtremeCases")
        smallest, largest = table("Denormalisation")
        return cls(
            table("Normalisation"),
            table("DefinitionDomain_MinMax"),
            table("Weights_Layer1_Neurons"),
            table("Weights_Layer1_Bias"),
            table("Weights_Layer2_Neurons"),
            float(table("Weights_Layer2_Bias")),
            (float(smallest), float(largest)),
            (float(lowest), float(highest)),
            abs(float(tolerance)),
        )

    def estimate(self, inputs: NDArray) -> NDArray[np.floating]:
        """Return the variable (...) from inputs (..., I).

        NaN where a band lies outside the domain, or the result outside the valid range by more than the tolerance. The
        published check of combinations of bands (a grid of the domain) is not made.
        """
        low, high = self.input_range.T
        hidden = np.tanh((2 * (inputs - low) / (high - low) - 1) @ self.hidden_weights.T + self.hidden_offset)
        smallest, largest = self.output_range
        output = 0.5 * (hidden @ self.output_weights + self.output_offset + 1) * (largest - smallest) + smallest
        bands = inputs[..., : len(NETWORK_BANDS)]
        lowest, highest = self.valid_range
        valid = ((bands >= self.domain[0]) & (bands <= self.domain[1])).all(-1)
        valid &= (output >= lowest - self.tolerance) & (output <= highest + self.tolerance)
        return np.where(valid, np.clip(output, lowest, highest), np.nan)


def angle_cosines(sun_zenith: NDArray, sun_azimuth: NDArray, view_zenith: NDArray, view_azimuth: NDArray) -> NDArray:
    """Return the cosines (T, 3) of the view zenith, the sun zenith and the relative azimuth, from degrees (T,) each."""
    angles = np.stack([view_zenith, sun_zenith, sun_azimuth - view_azimuth], -1)
    return np.cos(np.radians(angles.astype(float)))


def coefficients_folder() -> Path:
    """Return the folder of the networks' coefficients.

    Raises:
        UsageError: `satellitetools` is not installed, or it holds no coefficients.
    """
    try:
        folder = Path(str(distribution("satellitetools").locate_file(COEFFICIENTS)))
    except PackageNotFoundError:
        folder = None
    if folder is None or not folder.is_dir():
        raise UsageError(
            "no coefficients of the published networks: expected the package satellitetools 2.1; install it with "
            "`pip install --no-deps satellitetools`"
        )
    return folder
