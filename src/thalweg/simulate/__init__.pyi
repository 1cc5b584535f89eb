from .landscape import Landscape, simulate
from .weather.climates import Climate

__all__ = ["Climate", "Landscape", "simulate"]
