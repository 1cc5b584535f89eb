from .clouds import DailyClouds
from .dataset import SiteGrid, write_netcdf
from .overpasses import OpticalOverpasses, landsat_overpasses, sentinel1_overpasses, sentinel2_overpasses
from .satellites import observe_landsat8, observe_sentinel1, observe_sentinel2
from .site import SimulatedSite
from .truth import parcel_series

__all__ = [
    "DailyClouds",
    "OpticalOverpasses",
    "SimulatedSite",
    "SiteGrid",
    "landsat_overpasses",
    "observe_landsat8",
    "observe_sentinel1",
    "observe_sentinel2",
    "parcel_series",
    "sentinel1_overpasses",
    "sentinel2_overpasses",
    "write_netcdf",
]
