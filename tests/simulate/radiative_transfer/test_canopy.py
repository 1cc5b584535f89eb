"""Canopy reflectance: agreement with the prosail package."""

import numpy as np
import pytest

from thalweg.simulate.radiative_transfer.canopy import (
    HOTSPOT,
    LANDSAT8,
    SENTINEL2,
    LeafTraits,
    ViewGeometry,
    canopy_reflectance,
    leaf_optics,
)


@pytest.mark.parametrize("bands", [SENTINEL2, LANDSAT8], ids=["Sentinel-2", "Landsat 8"])
@pytest.mark.parametrize("view", [ViewGeometry(35, 5, 40), ViewGeometry(72, 8, 150), ViewGeometry(20, 2.5, 300)])
def test_canopies_agree_with_the_prosail_package(bands, view: ViewGeometry) -> None:
    import prosail

    rng, count = np.random.default_rng(0), 25
    leaves = LeafTraits(
        *(
            rng.uniform(low, high, count)
            for low, high in ((1.2, 2), (3, 60), (2, 14), (0, 0.9), (0.003, 0.03), (0.003, 0.014))
        )
    )
    lai, angles = rng.uniform(0.02, 6.5, count), rng.choice([38.0, 57.0, 64.0], count)
    grid = np.arange(400, 2501)
    soil = 0.7 * np.interp(bands.wavelengths, grid, prosail.spectral_lib.soil.rsoil1)
    ours = canopy_reflectance(*leaf_optics(leaves, bands.wavelengths), lai, angles, view, np.tile(soil, (1, count, 1)))[
        0
    ]
    for index in range(count):
        traits = [values[index] for values in vars(leaves).values()]
        spectrum = prosail.run_prosail(
            *traits,
            lai[index],
            angles[index],
            HOTSPOT,
            view.sun_zenith,
            view.view_zenith,
            view.relative_azimuth,
            prospect_version="D",
            rsoil=0.7,
            psoil=1.0,
        )
        exact = [
            spectrum[np.abs(grid - centre) <= width / 2].mean()
            for centre, width in zip(bands.centres, bands.widths, strict=True)
        ]
        np.testing.assert_allclose(bands.average(ours[index]), exact, atol=0.0025)
