"""Climates of the landscapes: location, monthly weather, land use and crops."""

from dataclasses import dataclass
from typing import Literal

Climate = Literal["temperate", "continental", "mediterranean", "semiarid", "boreal", "humid_tropical"]

Monthly = tuple[float, float, float, float, float, float, float, float, float, float, float, float]


@dataclass(frozen=True)
class ClimateSpec:
    """Parameters of a climate; monthly tuples run from January to December."""

    latitude: float  # degrees north
    longitude: float  # degrees east
    epsg: int  # UTM zone
    temperature: Monthly  # daily mean, degC
    anomaly: float  # standard deviation of the daily mean around the month's, K
    diurnal: float  # mean daily range, K
    dewpoint_gap: float  # difference between the nightly minimum and the dew point, K
    rain_days: Monthly  # share of days with rain
    rain_depth: Monthly  # mm on a day with rain
    cloud: Monthly  # mean cloud cover at the overpass
    wind: float  # mean wind speed, m s-1
    parcel_area: float  # median parcel, m2
    soil_brightness: float  # scales the dry soil spectrum
    soil_redness: float  # exponent of wavelength: 0 grey, 0.5 red tropical soil
    cultivar: float  # thermal time to maturity relative to north-west European cultivars
    productivity: float  # leaf area relative to north-west European farms
    irrigation: float  # share of summer crops that are irrigated
    cover_crops: float  # share of cereal parcels with a cover crop in autumn
    shares: dict[str, float]  # of the area: built_up, forest, needleleaf (of the forest), grass, mown (of the grass)
    crops: dict[str, float]  # weights of the crops
    sowing: dict[str, tuple[int, ...]]  # days of year of sowing, one per season


# fmt: off
CLIMATES: dict[str, ClimateSpec] = {
    # Flanders: orders of magnitude from AgERA5, 2017 to 2019, around 50.8 N 3.5 E.
    "temperate": ClimateSpec(
        latitude=50.8, longitude=3.6, epsg=32631,
        temperature=(3.6, 4.2, 6.8, 10.2, 13.8, 17.0, 18.8, 18.5, 15.2, 11.6, 7.2, 4.5),
        anomaly=2.9, diurnal=7.5, dewpoint_gap=1.2,
        rain_days=(0.55, 0.48, 0.47, 0.40, 0.40, 0.38, 0.40, 0.41, 0.40, 0.47, 0.55, 0.60),
        rain_depth=(4.6, 4.4, 4.4, 4.2, 5.2, 6.2, 6.6, 6.4, 6.0, 5.6, 5.2, 5.2),
        cloud=(0.60, 0.50, 0.40, 0.30, 0.33, 0.33, 0.29, 0.31, 0.33, 0.43, 0.57, 0.64),
        wind=3.8, parcel_area=13000.0, soil_brightness=0.66, soil_redness=0.12,
        cultivar=1.0, productivity=1.0, irrigation=0.05, cover_crops=0.55,
        shares={"built_up": 0.09, "forest": 0.12, "needleleaf": 0.35, "grass": 0.20, "mown": 0.6,
            "bare": 0.02},
        crops={"winter_cereal": 0.34, "maize": 0.24, "potato": 0.18, "beet": 0.14, "rapeseed": 0.10},
        sowing={"winter_cereal": (296,), "maize": (118,), "potato": (108,), "beet": (92,),
            "rapeseed": (243,)},
    ),
    # Central Ukraine: cold winters, large fields.
    "continental": ClimateSpec(
        latitude=49.4, longitude=32.1, epsg=32636,
        temperature=(-4.5, -3.2, 1.8, 9.6, 16.0, 19.6, 21.6, 20.8, 15.2, 8.6, 2.4, -2.6),
        anomaly=3.6, diurnal=9.5, dewpoint_gap=1.2,
        rain_days=(0.42, 0.38, 0.36, 0.32, 0.33, 0.34, 0.32, 0.25, 0.26, 0.28, 0.36, 0.42),
        rain_depth=(2.8, 2.8, 3.0, 3.8, 5.2, 6.8, 6.8, 6.4, 5.4, 4.6, 3.8, 3.2),
        cloud=(0.74, 0.68, 0.58, 0.48, 0.42, 0.40, 0.36, 0.32, 0.36, 0.48, 0.68, 0.76),
        wind=3.6, parcel_area=36000.0, soil_brightness=0.46, soil_redness=0.05,
        cultivar=1.12, productivity=0.9, irrigation=0.0, cover_crops=0.1,
        shares={"built_up": 0.05, "forest": 0.12, "needleleaf": 0.3, "grass": 0.12, "mown": 0.5,
            "bare": 0.02},
        crops={"winter_cereal": 0.34, "maize": 0.22, "sunflower": 0.22, "rapeseed": 0.10, "beet": 0.07,
               "potato": 0.05},
        sowing={"winter_cereal": (266,), "maize": (120,), "sunflower": (116,), "rapeseed": (238,),
            "beet": (104,),
                "potato": (118,)},
    ),
    # Guadalquivir valley: wet mild winters, dry hot summers.
    "mediterranean": ClimateSpec(
        latitude=37.6, longitude=-4.7, epsg=32630,
        temperature=(9.4, 11.0, 13.8, 16.0, 20.2, 24.8, 28.2, 28.0, 24.2, 19.2, 13.4, 10.2),
        anomaly=2.4, diurnal=13.0, dewpoint_gap=2.0,
        rain_days=(0.27, 0.26, 0.24, 0.25, 0.17, 0.06, 0.02, 0.03, 0.11, 0.23, 0.28, 0.30),
        rain_depth=(7.6, 7.2, 7.0, 6.6, 6.0, 5.0, 4.0, 4.0, 7.0, 8.6, 8.8, 9.0),
        cloud=(0.46, 0.44, 0.42, 0.42, 0.32, 0.18, 0.09, 0.12, 0.26, 0.40, 0.46, 0.50),
        wind=2.8, parcel_area=22000.0, soil_brightness=0.80, soil_redness=0.28,
        cultivar=1.35, productivity=0.8, irrigation=0.75, cover_crops=0.0,
        shares={"built_up": 0.05, "forest": 0.14, "needleleaf": 0.3, "grass": 0.14, "mown": 0.15,
            "bare": 0.04},
        crops={"winter_cereal": 0.42, "sunflower": 0.20, "maize": 0.16, "potato": 0.08, "beet": 0.06,
               "rapeseed": 0.08},
        sowing={"winter_cereal": (325,), "sunflower": (70,), "maize": (95,), "potato": (40,), "beet": (310,),
                "rapeseed": (305,)},
    ),
    # Northern Tanzania: long rains from March, short rains from October.
    "semiarid": ClimateSpec(
        latitude=-3.7, longitude=36.9, epsg=32737,
        temperature=(24.2, 24.2, 24.2, 23.0, 21.6, 20.6, 20.2, 21.4, 22.8, 23.8, 24.0, 24.2),
        anomaly=0.9, diurnal=9.5, dewpoint_gap=2.6,
        rain_days=(0.40, 0.42, 0.64, 0.74, 0.42, 0.12, 0.09, 0.08, 0.12, 0.44, 0.60, 0.52),
        rain_depth=(6.2, 6.4, 8.0, 8.6, 5.2, 3.2, 2.8, 2.8, 3.4, 6.8, 7.8, 6.8),
        cloud=(0.40, 0.38, 0.56, 0.72, 0.64, 0.50, 0.48, 0.36, 0.32, 0.36, 0.50, 0.48),
        wind=2.0, parcel_area=5500.0, soil_brightness=0.72, soil_redness=0.55,
        cultivar=1.4, productivity=0.5, irrigation=0.12, cover_crops=0.0,
        shares={"built_up": 0.04, "forest": 0.08, "needleleaf": 0.0, "grass": 0.26, "mown": 0.05,
            "bare": 0.06},
        crops={"maize": 0.56, "winter_cereal": 0.12, "sunflower": 0.18, "potato": 0.14},
        sowing={"maize": (78, 298), "winter_cereal": (88,), "sunflower": (82,), "potato": (76, 300)},
    ),
    # Central Finland: short summer. Snow is not simulated. The cereal is sown in spring, as barley or oats.
    "boreal": ClimateSpec(
        latitude=62.5, longitude=26.0, epsg=32635,
        temperature=(-8.0, -8.2, -3.8, 2.4, 9.4, 14.2, 16.8, 14.8, 9.6, 4.0, -1.2, -5.4),
        anomaly=3.4, diurnal=8.5, dewpoint_gap=1.2,
        rain_days=(0.52, 0.46, 0.42, 0.36, 0.36, 0.40, 0.42, 0.44, 0.45, 0.50, 0.55, 0.55),
        rain_depth=(2.8, 2.6, 2.6, 2.8, 3.8, 5.2, 6.2, 5.6, 4.6, 4.2, 3.4, 3.0),
        cloud=(0.78, 0.72, 0.60, 0.52, 0.46, 0.44, 0.44, 0.48, 0.58, 0.70, 0.82, 0.84),
        wind=3.0, parcel_area=14000.0, soil_brightness=0.56, soil_redness=0.10,
        cultivar=0.65, productivity=0.75, irrigation=0.0, cover_crops=0.0,
        shares={"built_up": 0.03, "forest": 0.55, "needleleaf": 0.8, "grass": 0.14, "mown": 0.7,
            "bare": 0.01},
        crops={"winter_cereal": 0.85, "potato": 0.15},
        sowing={"winter_cereal": (135,), "potato": (146,)},
    ),
    # Southern Cameroon: rain from March to June and from September to November.
    "humid_tropical": ClimateSpec(
        latitude=3.9, longitude=11.5, epsg=32632,
        temperature=(24.6, 25.6, 25.4, 24.8, 24.4, 23.6, 22.9, 23.0, 23.4, 23.6, 24.2, 24.3),
        anomaly=0.8, diurnal=9.0, dewpoint_gap=1.0,
        rain_days=(0.10, 0.16, 0.40, 0.50, 0.55, 0.46, 0.36, 0.38, 0.62, 0.72, 0.36, 0.12),
        rain_depth=(6.5, 9.0, 11.0, 12.0, 12.0, 11.0, 7.0, 8.0, 13.0, 13.5, 10.0, 6.5),
        cloud=(0.50, 0.54, 0.66, 0.68, 0.70, 0.78, 0.84, 0.84, 0.80, 0.74, 0.62, 0.50),
        wind=1.5, parcel_area=6000.0, soil_brightness=0.66, soil_redness=0.60,
        cultivar=1.3, productivity=0.9, irrigation=0.0, cover_crops=0.0,
        shares={"built_up": 0.04, "forest": 0.50, "needleleaf": 0.0, "grass": 0.10, "mown": 0.05,
            "bare": 0.03},
        crops={"maize": 0.85, "potato": 0.15},
        sowing={"maize": (80, 242), "potato": (84, 246)},
    ),
}
# fmt: on
