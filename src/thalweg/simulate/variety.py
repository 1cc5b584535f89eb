"""Differences between landscapes: factors of soils, plants, farming, atmosphere and sensors, drawn per landscape.

Landscapes of one climate share its constants. A model trained on them learns these constants instead of the physics.
With a strength of 1, the factors cover the range that is reported for farmland; with 0, every factor is neutral.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thalweg.simulate.land.land_cover import SURFACE_INDEX, SURFACES
from thalweg.simulate.weather.climates import ClimateSpec, Monthly

_MAX_SHIFT = 42.0  # days of a sowing date
_MIN_DEPTH = -0.06  # of aerosol: larger overcorrections give negative reflectance, which products mask
_DETECTED = (0.65, 1.35)  # range on dates with good cloud detection


@dataclass(frozen=True)
class DateErrors:
    """Errors of the images of one day."""

    gain: float  # of illumination, all bands
    optical_depth: float  # of aerosol left by the atmospheric correction, at 550 nm; negative where overcorrected
    exponent: float  # Angstrom exponent of this aerosol
    shift: tuple[float, float]  # geolocation error in pixels, (y, x)
    detected: float  # share of clouds and shadows that the quality layers see
    decibel: NDArray  # (2,) radar calibration, dB for VV and VH

    def hazy(self, image: NDArray, centres: tuple[float, ...]) -> NDArray:
        """Return an image as seen through the remaining aerosol.

        Args:
            image: (band, y, x) reflectance.
            centres: (band,) wavelengths in nm.
        """
        depth = self.optical_depth * (np.array(centres) / 550.0) ** -self.exponent
        transmitted = (self.gain * np.exp(-0.35 * depth)).astype(np.float32)[:, None, None]
        path = (0.11 * depth).astype(np.float32)[:, None, None]  # single scattering of continental aerosol
        return image * transmitted + path


@dataclass(frozen=True, eq=False)
class Variety:
    """Factors of one landscape; (surface,) arrays are by index into SURFACES. Without comment: relative, 1 is neutral.

    The errors of a date follow from ``entropy`` and the day, so that two satellites see the same atmosphere.
    """

    strength: float  # 0 to 1
    entropy: int
    # Climate and land use
    cloud_exponent: float  # of the mean cloud cover
    rain: float
    warmth: float  # K, added
    parcel_area: float
    shares: NDArray  # (5,) built_up, forest, grass, mown, bare
    crops: NDArray  # (surface,) weight
    # Soils
    soil_brightness: float
    soil_redness: float  # added to the exponent of wavelength
    soil_infrared: float  # relative change of reflectance from 1000 to 2200 nm, added
    soil_wetness_scale: float  # soil moisture at which darkening levels off
    soil_darkest: float  # of wet soil
    soil_contrast: float  # spread of brightness between parcels
    field_capacity: float  # m3 m-3, added
    straw: float  # brightness
    # Plants
    leaf_area: NDArray  # (surface,)
    chlorophyll: NDArray  # (surface,)
    leaf_water: NDArray  # (surface,)
    dry_matter: NDArray  # (surface,)
    structure: NDArray  # (surface,) added
    leaf_angle: NDArray  # (surface,) degrees, added
    carotenoids: float
    open_ground: float
    crown_shade: float  # exponent of the factor of reflectance by shadows between crowns
    # Farming
    sowing: NDArray  # (surface,) days, added
    harvest: NDArray  # (surface,) days, added to the last day of the harvest
    calendar_spread: float  # between farms
    maturity: NDArray  # (surface,) thermal time
    canopy_closure: NDArray  # (surface,) duration
    mowing_interval: float
    mowing_start: float  # days, added
    tillage_delay: float
    weeds: float
    cover_crops: float
    irrigation: float
    # Sensors
    lost_dates: float  # share of the overpasses that are not recorded
    haze: float  # spread and mean of the aerosol left
    geolocation: float  # standard deviation in pixels
    undetected: float  # share of dates with poor cloud detection
    looks: float
    decibel: NDArray  # (orbit, 2) dB for VV and VH, added
    canopy_decibel: NDArray  # (surface, 2) dB for VV and VH, added
    attenuation: NDArray  # (surface, 1)

    def climate(self, spec: ClimateSpec) -> ClimateSpec:
        """Return the climate of this landscape, which differs from the mean climate of its type."""
        names = ("built_up", "forest", "grass", "mown", "bare")
        factors = dict(zip(names, self.shares.tolist(), strict=True))
        return replace(
            spec,
            cloud=_monthly(np.array(spec.cloud) ** self.cloud_exponent),
            rain_depth=_monthly(np.array(spec.rain_depth) * self.rain),
            temperature=_monthly(np.array(spec.temperature) + self.warmth),
            parcel_area=spec.parcel_area * self.parcel_area,
            soil_brightness=min(spec.soil_brightness * self.soil_brightness, 1.2),
            soil_redness=float(np.clip(spec.soil_redness + self.soil_redness, 0.0, 0.8)),
            irrigation=min(spec.irrigation * self.irrigation, 1.0),
            cover_crops=min(spec.cover_crops * self.cover_crops, 1.0),
            shares={name: min(share * factors.get(name, 1.0), 0.9) for name, share in spec.shares.items()},
            crops={name: weight * float(self.crops[SURFACE_INDEX[name]]) for name, weight in spec.crops.items()},
            sowing={
                name: tuple(round(day + float(self.sowing[SURFACE_INDEX[name]])) for day in days)
                for name, days in spec.sowing.items()
            },
        )

    def recorded(self, count: int, sensor: int) -> NDArray[np.bool_]:
        """Return which of ``count`` overpasses of a sensor, given by its number, are recorded; at least one is."""
        rng = np.random.Generator(np.random.PCG64([self.entropy, 1, sensor]))
        kept = rng.random(count) >= self.lost_dates
        kept[rng.integers(count)] = True
        return kept

    def errors(self, day: int) -> DateErrors:
        """Return the errors of the images of the day of this index."""
        rng = np.random.Generator(np.random.PCG64([self.entropy, 0, day]))
        dense = rng.gamma(1.0, 0.15) * (rng.random() < 0.15)
        depth = max(self.haze * (rng.normal(0.03, 0.05) + dense), _MIN_DEPTH)
        poor, poorly = rng.random() < self.undetected, rng.uniform(0.1, 0.8)
        well = np.clip(1 + 0.3 * self.strength * rng.standard_normal(), *_DETECTED)
        dy, dx = self.geolocation * rng.standard_normal(2)
        return DateErrors(
            gain=float(np.exp(0.03 * self.strength * rng.standard_normal())),
            optical_depth=float(depth),
            exponent=float(rng.uniform(0.6, 2.0)),
            shift=(float(dy), float(dx)),
            detected=float(poorly if poor else well),
            decibel=0.2 * self.strength * rng.standard_normal(2),
        )


def draw_variety(seed: np.random.SeedSequence, strength: float) -> Variety:
    """Draw the factors of a landscape.

    Args:
        seed: Source of randomness.
        strength: 0 for the neutral factors, 1 for the full spread.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    count = len(SURFACES)

    def offsets(spread: float, *shape: int) -> NDArray:
        return strength * spread * np.clip(rng.standard_normal(shape), -2.5, 2.5)

    def offset(spread: float) -> float:
        return float(offsets(spread))

    def factors(spread: float, *shape: int) -> NDArray:
        return np.exp(offsets(spread, *shape))

    def factor(spread: float) -> float:
        return float(factors(spread))

    sowing = np.clip(offset(9.0) + offsets(14.0, count), -_MAX_SHIFT, _MAX_SHIFT)
    return Variety(
        strength=strength,
        entropy=int(rng.integers(2**63)),
        cloud_exponent=factor(0.35),
        rain=factor(0.22),
        warmth=offset(1.1),
        parcel_area=factor(0.4),
        shares=factors(0.35, 5),
        crops=factors(0.5, count),
        soil_brightness=factor(0.26),
        soil_redness=offset(0.14),
        soil_infrared=offset(0.10),
        soil_wetness_scale=factor(0.35),
        soil_darkest=factor(0.25),
        soil_contrast=factor(0.35),
        field_capacity=offset(0.03),
        straw=factor(0.14),
        leaf_area=factor(0.13) * factors(0.17, count),
        chlorophyll=factor(0.10) * factors(0.15, count),
        leaf_water=factor(0.10) * factors(0.18, count),
        dry_matter=factor(0.12) * factors(0.22, count),
        structure=offsets(0.12, count),
        leaf_angle=offsets(7.0, count),
        carotenoids=factor(0.2),
        open_ground=factor(0.5),
        crown_shade=factor(0.3),
        sowing=sowing,
        harvest=sowing - np.abs(offsets(6.0, count)),
        calendar_spread=factor(0.4),
        maturity=factor(0.06) * factors(0.09, count),
        canopy_closure=factors(0.25, count),
        mowing_interval=factor(0.22),
        mowing_start=offset(12.0),
        tillage_delay=factor(0.5),
        weeds=factor(0.35),
        cover_crops=factor(0.5),
        irrigation=factor(0.5),
        lost_dates=strength * float(rng.uniform(0.0, 0.35)),
        haze=strength * float(rng.uniform(0.3, 1.7)),
        geolocation=strength * float(rng.uniform(0.0, 0.45)),
        undetected=strength * float(rng.uniform(0.0, 0.3)),
        looks=factor(0.22),
        decibel=offsets(0.6, 1, 2) + offsets(0.3, 2, 2),
        canopy_decibel=offsets(0.8, count, 2),
        attenuation=factors(0.25, count, 1),
    )


def _monthly(values: NDArray) -> Monthly:
    january, *others = (float(value) for value in values)
    return (january, *others)  # type: ignore[return-value]


NEUTRAL = draw_variety(np.random.SeedSequence(0), 0.0)
"""Factors that change nothing."""
