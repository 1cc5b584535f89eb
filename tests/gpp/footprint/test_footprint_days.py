"""Features of a footprint that varies by day: by hand, and the same as a disc where it does not vary."""

import numpy as np
import pytest

from thalweg.earth.cube.windows import Window
from thalweg.errors import UsageError
from thalweg.gpp.data.features import daily_features
from thalweg.gpp.footprint.footprint import Footprint
from thalweg.gpp.footprint.footprint_days import features_of_footprints
from thalweg.gpp.footprint.footprint_series import FootprintPixels
from thalweg.gpp.footprint.kljun_footprints import KljunFootprints

DATES = np.array(["2018-05-01", "2018-05-05", "2018-05-06", "2018-05-09", "2018-05-13", "2018-05-15"], "datetime64[ns]")
FOOTPRINT = Footprint(Window(0, 0, 2, 2), np.ones((2, 2), bool))
DAYS = np.arange("2018-05-01", "2018-05-16", dtype="datetime64[D]").astype("datetime64[ns]")


def pixels(noise: float = 1.0, half_width: float = 0.0) -> FootprintPixels:
    random = np.random.default_rng(0)
    values = random.normal(scale=noise, size=(len(DATES), 3, 2, 2)).astype(np.float32)
    usable = np.ones((len(DATES), 2, 2), bool)
    return FootprintPixels(FOOTPRINT, DATES, ("e1", "e2", "e3"), values, usable, np.full_like(values, half_width))


def footprints(weights: np.ndarray, days: np.ndarray = DAYS) -> KljunFootprints:
    return KljunFootprints(FOOTPRINT, 20.0, days, weights.astype(np.float32), weights.mean(0))


def test_equal_weights_give_a_disc():
    source = pixels(half_width=0.3)
    source.usable[2, 0, 1] = False
    source.values[2, :, 0, 1] = np.nan
    found = features_of_footprints(source, footprints(np.full((15, 4), 0.2)))
    disc = daily_features(source.average(), "linear")
    assert list(found) == list(disc)
    np.testing.assert_array_equal(found["time"], disc["time"])
    np.testing.assert_allclose(found.drop(columns="time"), disc.drop(columns="time"), atol=1e-6)


def test_every_day_has_the_pixel_that_the_tower_sees():
    """With all weight on one pixel, a day's features are that pixel's, filled to days."""
    source = pixels()
    seen = np.arange(15) % 4
    found = features_of_footprints(source, footprints(np.eye(4)[seen] + 1e-12))
    known = DATES.astype("datetime64[D]").astype(float)
    for feature in range(3):
        each = [np.interp(DAYS.astype("datetime64[D]").astype(float), known, source.values[:, feature, row, column])
                for row in (0, 1) for column in (0, 1)]  # fmt: skip
        expected = np.array(each)[seen, np.arange(15)]
        np.testing.assert_allclose(found[f"e{feature + 1}"], expected, atol=1e-5)
        np.testing.assert_allclose(found[f"e{feature + 1}_spread"], 0, atol=1e-3)


def test_a_clouded_footprint_takes_the_mean_one():
    source = pixels()
    source.usable[:, 0, 0] = False
    source.values[:, :, 0, 0] = np.nan
    own = np.full((15, 4), 0.25)
    own[3] = [0.97, 0.01, 0.01, 0.01]  # on the pixel that no date shows
    found = features_of_footprints(source, footprints(own))
    mean = own.mean(0)[1:] / own.mean(0)[1:].sum()
    before, after = (source.values[date].reshape(3, 4)[:, 1:] @ mean for date in (0, 1))
    np.testing.assert_allclose(found.loc[3, ["e1", "e2", "e3"]].astype(float), before / 4 + after * 3 / 4, atol=1e-5)


def test_several_dates_of_a_day_are_averaged():
    source = pixels()
    twice = FootprintPixels(
        FOOTPRINT, np.sort(np.append(DATES, DATES[2] + np.timedelta64(1, "h"))), source.names,
        np.insert(source.values, 3, source.values[2] + 2, axis=0), np.ones((7, 2, 2), bool),
        np.zeros((7, 3, 2, 2), np.float32),
    )  # fmt: skip
    weights = footprints(np.full((15, 4), 0.25))
    difference = features_of_footprints(twice, weights)["e1"] - features_of_footprints(source, weights)["e1"]
    assert difference[5] == pytest.approx(1, abs=1e-5) and difference[4] == pytest.approx(0, abs=1e-6)


def test_few_dates_are_refused():
    source = pixels()
    source.usable[2:] = False
    with pytest.raises(UsageError, match="series: 2 dates with enough usable pixels of the footprint"):
        features_of_footprints(source, footprints(np.full((15, 4), 0.25)))
