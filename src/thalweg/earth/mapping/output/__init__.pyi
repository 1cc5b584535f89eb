from .map_rasters import MapRasters, RasterLayer, class_colours, map_layers, open_rasters
from .prediction_windows import MapSummary, PredictedWindow, predict_window, predict_windows, sampled_shares
from .qgis_style import write_class_style, write_number_style

__all__ = [
    "MapRasters",
    "MapSummary",
    "PredictedWindow",
    "RasterLayer",
    "class_colours",
    "map_layers",
    "open_rasters",
    "predict_window",
    "predict_windows",
    "sampled_shares",
    "write_class_style",
    "write_number_style",
]
