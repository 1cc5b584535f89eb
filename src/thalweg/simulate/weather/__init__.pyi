from .climates import CLIMATES, Climate, ClimateSpec
from .daily_weather import Weather, draw_weather, saturation_pressure
from .sun import day_length, sun_position

__all__ = [
    "CLIMATES",
    "Climate",
    "ClimateSpec",
    "Weather",
    "day_length",
    "draw_weather",
    "saturation_pressure",
    "sun_position",
]
