"""Map of a fitted model as a dataset in memory."""

import numpy as np
import xarray as xr

from thalweg.earth.mapping.mapping_fit import MappingFit
from thalweg.earth.mapping.output.prediction_windows import predict_windows


def mapped_dataset(fit: MappingFit) -> xr.Dataset:
    """Return the map of the store that a model learned from.

    Args:
        fit: fitted model.

    Returns:
        For classes `code` (y, x), uint8, 0 without an embedding, `probability`, float32, and `plausible`, bool
        (class, y, x); for numbers `value` (y, x), float32; and `dissimilarity` (y, x), float32.
    """
    dataset, model = fit.reader.dataset, fit.model
    shape = dataset.sizes["y"], dataset.sizes["x"]
    values = np.empty((len(model.classes) or 1, *shape), np.float32)
    plausible, codes = np.zeros(values.shape, bool), np.zeros(shape, np.uint8)
    dissimilarity = np.empty(shape, np.float32)
    for predicted in predict_windows(model, fit.reader, fit.side):
        here = predicted.window
        place = slice(here.top, here.top + here.height), slice(here.left, here.left + here.width)
        values[:, *place], dissimilarity[place] = predicted.values, predicted.dissimilarity
        if model.classes:
            codes[place], plausible[:, *place] = predicted.codes(), predicted.plausible(model.threshold)
    coordinates = {name: dataset[name] for name in ("y", "x", "spatial_ref") if name in dataset.coords}
    pixel, by_class = ("y", "x"), ("class", "y", "x")
    common = {"learner": model.learner, "block": fit.blocks.side}
    distance = (pixel, dissimilarity, {"limits": list(model.applicability.limits)})
    if not model.classes:
        attributes = {**common, "r2": fit.score, "half_width": model.threshold}
        return xr.Dataset({"value": (pixel, values[0]), "dissimilarity": distance}, coordinates, attributes)
    return xr.Dataset(
        {
            "code": (pixel, codes, {"flag_values": list(range(1, len(model.classes) + 1))}),
            "probability": (by_class, values),
            "plausible": (by_class, plausible),
            "dissimilarity": distance,
        },
        {**coordinates, "class": list(model.classes)},
        {**common, "macro_f1": fit.score, "set_coverage": fit.coverage},
    )
