"""Checks of a series on a sample before it is used: the decoding, and values that look wrong."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from thalweg.earth.cube.decoding.band_decoding import Decoding, on_dates
from thalweg.earth.cube.decoding.measurements import IMPOSSIBLE, INFINITE, UNKNOWN_CLASS, decode_block
from thalweg.earth.cube.decoding.series_decoding import decide, stated_decoding
from thalweg.earth.cube.decoding.value_samples import Sample, sample_of
from thalweg.earth.sensors import BitMask, Sensor
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

DARK_PERCENTILE = 1
"""Percentile of a band that represents its darkest pixels, such as cloud shadows."""

MIN_PIXELS = 100
"""Smallest number of pixels from which percentiles are taken."""

MAX_SPREAD = 0.3
"""Largest difference between the bands' dark percentiles of a scene that looks shifted. Sand is dark in blue and bright
in the infrared, snow the reverse, while an offset is the same in all bands."""


def checked_decoding(dataset: "xr.Dataset", sensor: Sensor, where: str) -> tuple[Decoding, list[str]]:
    """Decide the decoding of a sensor's dataset, and check its values.

    Args:
        dataset: bands and mask under their declared names.
        sensor: its declaration.
        where: file or dataset that messages name.

    Returns:
        The decoding, and a message for each kind of value that looks wrong.

    Raises:
        UsageError: the decoding is ambiguous, or a mask is empty.
    """
    stated = stated_decoding(dataset, sensor, where)
    sample = sample_of(dataset, stated)
    decoding = decide(stated, sample, dataset, sensor, where)
    _check_mask_is_produced(sample, sensor, where)
    counts: Counter[str] = Counter()
    for block, dates in sample.blocks:
        decode_block(block, sensor, where, on_dates(decoding, dates), counts)
    pixels = sum(block.sizes["time"] * block.sizes["y"] * block.sizes["x"] for block, _ in sample.blocks)
    notes = [f"{line} in a sample" for line in count_lines(counts, sensor, pixels)]
    if (note := _offset_note(decoding, sample, sensor, dataset.time.values)) is not None:
        notes.append(note)
    return decoding, [f"{where}: {sensor.title}: {note}" for note in notes]


def count_lines(counts: "Counter[str]", sensor: Sensor, pixels: int) -> list[str]:
    """Return a message for each kind of value that was masked.

    Args:
        counts: masked pixel-dates by kind, as `decode_block` counts them.
        sensor: declaration of the sensor.
        pixels: number of pixel-dates that were read.
    """
    low, high = sensor.physical_range or (-np.inf, np.inf)
    unit = "" if sensor.units == "reflectance" else f" {sensor.units}"
    texts = {
        INFINITE: "with infinite values, taken as missing",
        IMPOSSIBLE: f"with values outside {low:g} to {high:g}{unit}, which no surface has, taken as missing",
        UNKNOWN_CLASS: "with a class that the mask's declaration does not know, taken as not clear",
    }
    return [f"{counts[kind]:,} of {pixels:,} pixel-dates {text}" for kind, text in texts.items() if counts[kind]]


def _check_mask_is_produced(sample: Sample, sensor: Sensor, where: str) -> None:
    """Refuse a mask on dates for which the products left it empty, since 0 does not mean clear there."""
    for mask in sensor.masks:
        if not isinstance(mask, BitMask) or mask.not_produced is None:
            continue
        first, last = (np.datetime64(date, "D") for date in mask.not_produced)
        empty, flagged = set(), False
        for block, _ in sample.blocks:
            if mask.variable in block:
                days = block.time.values.astype("datetime64[D]")
                inside = (days >= first) & (days <= last)
                empty |= set(days[inside].tolist())
                flagged |= bool((np.nan_to_num(block[mask.variable].values[inside]) > 0).any())
        if empty and not flagged:
            raise UsageError(
                f"{where}: {mask.variable} is empty on {len(empty)} date(s) from {min(empty)} on; it was not produced "
                f"from {first} to {last}, so that 0 does not mean clear: leave these dates out or give another mask"
            )


def _offset_note(decoding: Decoding, sample: Sample, sensor: Sensor, dates: np.ndarray) -> str | None:
    """Return a message if values look shifted by the products' offset: not removed, or removed twice."""
    if sensor.offset_since_baseline is None or sensor.digital_number_scale is None:
        return None
    offset = abs(sensor.offset_since_baseline[1]) * sensor.digital_number_scale
    values = np.stack([sample.values(name, band) for name, band in decoding.items()])
    low, high = sensor.physical_range or (-np.inf, np.inf)
    possible = ((values >= low) & (values <= high)).all(0)
    recent = dates[sample.dates] >= np.datetime64(sensor.offset_since_date or "NaT")
    for since in (recent, ~recent):
        chosen = values[:, possible & since]
        if chosen.shape[1] < MIN_PIXELS:
            continue
        dark = np.percentile(chosen, DARK_PERCENTILE, axis=1)
        if dark.min() < -0.3 * offset:
            looks = "removed twice"
        elif 0.9 * offset <= dark.min() <= 2 * offset and np.ptp(dark) <= MAX_SPREAD:
            looks = "still in them"
        else:
            continue
        return (
            f"the darkest {DARK_PERCENTILE} % of each band reach {dark.min():.3f} to {dark.max():.3f}: the products' "
            f"offset of {offset:g} looks {looks}: check processing_baseline and boa_offset_applied"
        )
    return None
