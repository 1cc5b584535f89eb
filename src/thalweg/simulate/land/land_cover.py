"""Land cover classes, and the surfaces with their optical, radar and photosynthetic traits."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Crop:
    """Growth of an annual crop in thermal time; stages run from 0 at emergence to 1 at maturity."""

    base: float  # degC below which growth stops
    emergence: float  # degree days from sowing
    maturity: float  # degree days from emergence
    rise: float  # stage at half of the full leaf area
    rise_width: float
    fall: float  # stage at which half the leaves have died
    fall_width: float
    latest: int  # last day of year of the harvest, outside the tropics
    residue: float  # fraction of ground covered by straw or stubble after harvest
    summer: bool  # sown in spring, irrigated where irrigation is common
    flowering: float = 0.0  # stage of full bloom
    petals: float = 0.0  # largest fraction of ground covered by petals


@dataclass(frozen=True)
class Surface:
    """Type of surface with its traits.

    Leaf traits are those of PROSPECT: structure parameter, chlorophyll in ug cm-2, water and dry matter in g cm-2.
    Radar traits are those of the water-cloud model for VV and VH: backscatter of a closed canopy in dB and attenuation
    per unit of leaf area.
    """

    name: str
    land_cover: int  # code of the land cover class
    lai: float = 0.0
    leaf_angle: float = 57.0  # mean inclination, degrees
    structure: float = 1.5
    chlorophyll: float = 42.0
    leaf_water: float = 0.012
    dry_matter: float = 0.005
    shade: float = 1.0  # factor of reflectance by shadows between crowns
    variation: float = 0.2  # standard deviation of log leaf area within a parcel
    efficiency: float = 0.0  # maximum gC per MJ of absorbed radiation
    canopy: tuple[float, float] = (-11.0, -17.0)
    attenuation: tuple[float, float] = (0.12, 0.12)
    crop: Crop | None = field(default=None, repr=False)


# fmt: off
LAND_COVER: dict[int, str] = {
    1: "winter_cereal", 2: "maize", 3: "potato", 4: "beet", 5: "rapeseed", 6: "sunflower", 7: "grass_mown",
    8: "grass_grazed", 9: "broadleaf_forest", 10: "needleleaf_forest", 11: "water", 12: "built_up",
    13: "bare_soil",
}

# Light-use efficiencies are close to those of Running et al. 2004 and Gitelson et al. 2015; maize is C4.
SURFACES: tuple[Surface, ...] = (
    Surface("winter_cereal", 1, lai=4.6, leaf_angle=62, structure=1.5, chlorophyll=48, leaf_water=0.014,
          dry_matter=0.0045, variation=0.20, efficiency=1.9, canopy=(-14.0, -19.0), attenuation=(0.28, 0.16),
          crop=Crop(0.0, 100, 1850, 0.34, 0.10, 0.865, 0.03, 226, 0.65, summer=False)),
    Surface("maize", 2, lai=4.4, leaf_angle=54, structure=1.45, chlorophyll=52, leaf_water=0.014,
          dry_matter=0.005,
          variation=0.20, efficiency=2.5, canopy=(-10.3, -16.2), attenuation=(0.13, 0.13),
          crop=Crop(8.0, 70, 1120, 0.38, 0.065, 0.93, 0.05, 292, 0.35, summer=True)),
    Surface("potato", 3, lai=4.4, leaf_angle=42, structure=1.6, chlorophyll=42, leaf_water=0.020,
          dry_matter=0.0045,
          variation=0.18, efficiency=1.8, canopy=(-8.2, -14.6), attenuation=(0.17, 0.17),
          crop=Crop(4.0, 190, 1320, 0.25, 0.05, 0.84, 0.05, 275, 0.08, summer=True)),
    Surface("beet", 4, lai=4.6, leaf_angle=48, structure=1.7, chlorophyll=46, leaf_water=0.030,
          dry_matter=0.006,
          variation=0.15, efficiency=1.8, canopy=(-8.6, -14.8), attenuation=(0.16, 0.16),
          crop=Crop(3.0, 120, 2700, 0.24, 0.04, 1.08, 0.06, 308, 0.10, summer=True)),
    Surface("rapeseed", 5, lai=4.2, leaf_angle=46, structure=1.7, chlorophyll=46, leaf_water=0.022,
          dry_matter=0.005,
          variation=0.18, efficiency=1.8, canopy=(-9.6, -13.2), attenuation=(0.15, 0.14),
          crop=Crop(3.0, 90, 1800, 0.34, 0.09, 0.86, 0.035, 208, 0.55, summer=False, flowering=0.455,
              petals=0.35)),
    Surface("sunflower", 6, lai=3.4, leaf_angle=38, structure=1.6, chlorophyll=44, leaf_water=0.018,
          dry_matter=0.006,
          variation=0.20, efficiency=1.9, canopy=(-9.2, -14.8), attenuation=(0.15, 0.15),
          crop=Crop(6.0, 90, 1350, 0.34, 0.06, 0.86, 0.04, 268, 0.30, summer=True, flowering=0.62,
              petals=0.10)),
    Surface("grass_mown", 7, lai=4.2, leaf_angle=64, structure=1.4, chlorophyll=42, leaf_water=0.016,
          dry_matter=0.005,
          variation=0.16, efficiency=1.7, canopy=(-12.0, -17.6), attenuation=(0.13, 0.13)),
    Surface("grass_grazed", 8, lai=2.8, leaf_angle=60, structure=1.45, chlorophyll=36, leaf_water=0.014,
          dry_matter=0.006, variation=0.30, efficiency=1.5, canopy=(-12.2, -18.0), attenuation=(0.13, 0.13)),
    Surface("broadleaf_forest", 9, lai=5.0, leaf_angle=45, structure=1.6, chlorophyll=44, leaf_water=0.011,
          dry_matter=0.008, shade=0.76, variation=0.18, efficiency=1.5, canopy=(-9.4, -14.6),
              attenuation=(0.4, 0.4)),
    Surface("needleleaf_forest", 10, lai=3.8, leaf_angle=57, structure=1.6, chlorophyll=44, leaf_water=0.016,
          dry_matter=0.014, shade=0.56, variation=0.18, efficiency=1.2, canopy=(-10.2, -15.6),
              attenuation=(0.4, 0.4)),
    Surface("water", 11),
    Surface("bare_soil", 13, lai=0.5, leaf_angle=50, chlorophyll=32, variation=0.5, efficiency=1.2,
          canopy=(-12.0, -18.0)),
    Surface("garden", 12, lai=2.6, leaf_angle=50, chlorophyll=38, dry_matter=0.006, shade=0.85, variation=0.25,
          efficiency=1.4, canopy=(-8.0, -14.0), attenuation=(0.2, 0.2)),
    Surface("roof", 12),
    Surface("asphalt", 12),
)
# fmt: on

SURFACE_INDEX: dict[str, int] = {surface.name: index for index, surface in enumerate(SURFACES)}
"""Index into `SURFACES` by name."""

LAND_COVER_OF_SURFACE: NDArray[np.uint8] = np.array([surface.land_cover for surface in SURFACES], np.uint8)


def trait(name: str, surfaces: NDArray) -> NDArray:
    """Return a trait of `Surface` for every unit: (unit,) or, for VV and VH, (unit, 2) float64."""
    return np.array([getattr(surface, name) for surface in SURFACES], float)[surfaces]


def crop_trait(name: str, surfaces: NDArray, absent: float) -> NDArray:
    """Return a trait of `Crop` for every unit, (unit,) float64; ``absent`` where the unit grows no crop."""
    return np.array([getattr(c.crop, name) if c.crop else absent for c in SURFACES], float)[surfaces]


def is_surface(surfaces: NDArray, *names: str) -> NDArray[np.bool_]:
    """Return a mask of the units whose surface has one of some names.

    Args:
        surfaces: (unit,) index into SURFACES.
        names: Names of surfaces.
    """
    return np.isin(surfaces, [SURFACE_INDEX[name] for name in names])
