"""Position of the sun."""

import pandas as pd
import pytest

from thalweg.simulate.weather.sun import sun_position


def test_sun_position_agrees_with_a_real_overpass() -> None:
    # Sentinel-2 over 3.02 E 50.82 N, 2017-08-04 10:53:28 UTC: zenith 35.9, azimuth 155.2 degrees.
    zenith, azimuth = sun_position(pd.DatetimeIndex(["2017-08-04 10:53:28"]), 50.82, 3.02)
    assert zenith[0] == pytest.approx(35.87, abs=0.5) and azimuth[0] == pytest.approx(155.2, abs=1.0)
