"""Names of exported dates, and the progress callback of exports."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int], None]
"""Callback that takes the number of finished dates and their total."""


def date_name(dataset: "xr.Dataset", index: int) -> str:
    """Return the name of a date in files: `2018-06-30`, with the time of day if the day occurs more than once."""
    days = dataset.time.values.astype("datetime64[D]")
    is_unique = (days == days[index]).sum() == 1
    moment = np.datetime_as_string(dataset.time.values[index], "s").replace(":", "")
    return str(days[index]) if is_unique else moment
