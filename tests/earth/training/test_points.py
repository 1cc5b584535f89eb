"""Tables of points: series of single pixels, without a neighbourhood."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from thalweg.earth.model.context import HALO, RECEPTIVE_FIELD, days_since_epoch
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import SENTINEL_1, SENTINEL_2
from thalweg.earth.training.points import PointSite, read_points
from thalweg.earth.training.tiles import RandomTiles, TileShape
from thalweg.errors import UsageError

SENSORS = [SENTINEL_2, SENTINEL_1]
MONTHS = pd.date_range("2020-01-01", periods=6, freq="30D")


def rows_of(place: str | int, times: pd.DatetimeIndex = MONTHS, shift: float = 0.0) -> pd.DataFrame:
    """Rows of one place: reflectance numbers that differ by band and date, backscatter in dB."""
    numbers = 300 + 10 * np.arange(len(times)) + shift
    optical = {name: numbers + 100 * index for index, name in enumerate(SENTINEL_2.band_names)}
    radar = {"VV_dB": -10 + 0.1 * np.arange(len(times)), "VH_dB": -17 + 0.1 * np.arange(len(times))}
    return pd.DataFrame({"sample_id": place, "time": times, "ref_id": "survey", **optical, **radar})


def table(folder: Path, *parts: pd.DataFrame) -> Path:
    path = folder / "points.parquet"
    pd.concat(parts).sample(frac=1, random_state=0).to_parquet(path)
    return path


def test_values_are_scaled_and_dated(tmp_path: Path) -> None:
    (site,) = read_points(table(tmp_path, rows_of("b", shift=7), rows_of("a")), SENSORS)
    assert site.places == ("a", "b")
    optical, radar = (site.contexts[sensor.name] for sensor in SENSORS)
    assert optical.values.shape == (6, 10, 1, 2)
    assert radar.values.shape == (6, 2, 1, 2)
    assert optical.valid.all() and radar.valid.all() and optical.present.all() and radar.present.all()
    expected = (300 + 10 * np.arange(6))[:, None] + 100 * np.arange(10)
    np.testing.assert_allclose(optical.values[:, :, 0, 0], SENTINEL_2.scale(expected * 1e-4), atol=1e-6)
    np.testing.assert_allclose(optical.values[:, :, 0, 1], SENTINEL_2.scale((expected + 7) * 1e-4), atol=1e-6)
    np.testing.assert_allclose(radar.values[0, :, 0, 0], SENTINEL_1.scale(np.array([-10.0, -17.0])), atol=1e-6)
    days = torch.from_numpy(days_since_epoch(MONTHS.to_numpy("datetime64[ns]"))).float()
    assert torch.equal(optical.days, days) and torch.equal(site.centre_days, days)
    assert site.truth == {}


def test_a_composite_has_the_date_of_its_middle(tmp_path: Path) -> None:
    path = table(tmp_path, rows_of("a"))
    (plain,), (middle,) = read_points(path, SENSORS), read_points(path, SENSORS, period_days=30)
    torch.testing.assert_close(middle.centre_days, plain.centre_days + 15)
    torch.testing.assert_close(middle.contexts["sentinel-1"].days, plain.contexts["sentinel-1"].days + 15)


def test_missing_and_bright_values_are_invalid(tmp_path: Path) -> None:
    rows = rows_of("a")
    rows.loc[1, "B04"] = 0
    rows.loc[2, "B02"] = 2100
    rows.loc[3, "VV_dB"] = np.nan
    path = table(tmp_path, rows)
    (site,) = read_points(path, SENSORS)
    optical, radar = (site.contexts[sensor.name] for sensor in SENSORS)
    assert optical.valid.flatten().tolist() == [1, 0, 0, 1, 1, 1]
    assert not optical.values[1:3].any() and optical.values[[0, 3, 4, 5]].all()
    assert radar.valid.flatten().tolist() == [1, 1, 1, 0, 1, 1]
    assert not radar.values[3].any()
    assert torch.equal(site.centre_days, optical.days[[0, 3, 4, 5]])
    (lenient,) = read_points(path, SENSORS, max_blue=0.3)
    assert lenient.contexts["sentinel-2"].valid.flatten().tolist() == [1, 0, 1, 1, 1, 1]
    assert read_points(path, SENSORS, max_blue=0.01) == []


@pytest.mark.parametrize("drop", [True, False])
def test_an_absent_band_makes_nothing_invalid(drop: bool, tmp_path: Path) -> None:
    rows = rows_of("a")
    rows = rows.drop(columns="B08") if drop else rows.assign(B08=0)
    (site,) = read_points(table(tmp_path, rows), SENSORS)
    optical = site.contexts["sentinel-2"]
    assert optical.present.tolist() == [name != "B08" for name in SENTINEL_2.band_names]
    assert optical.valid.all()
    assert not optical.values[:, ~optical.present].any() and optical.values[:, optical.present].all()


def test_points_are_grouped_by_their_dates(tmp_path: Path) -> None:
    later, few = MONTHS + pd.Timedelta(days=3), MONTHS[:3]
    path = table(tmp_path, rows_of("a"), rows_of("b", later), rows_of("c"), rows_of("d", few))
    sites = read_points(path, SENSORS)
    assert {site.places for site in sites} == {("a", "c"), ("b",)}
    assert len({site.name for site in sites}) == 2


def test_reference_data_sets_are_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, rows_of("a"), rows_of("b").assign(ref_id="test-sites"))
    assert read_points(path, SENSORS, leave_out=["test-sites"])[0].places == ("a",)
    assert read_points(path, SENSORS)[0].places == ("a", "b")


def test_identifiers_may_be_numbers(tmp_path: Path) -> None:
    (site,) = read_points(table(tmp_path, rows_of(9, shift=5), rows_of(10)), SENSORS)
    assert site.places == ("10", "9")
    assert (site.contexts["sentinel-2"].values[..., 0, 0] < site.contexts["sentinel-2"].values[..., 0, 1]).all()


def test_a_table_without_the_reference_sensor_has_the_dates_of_another(tmp_path: Path) -> None:
    path = table(tmp_path, rows_of("a")[["sample_id", "time", "VV_dB", "VH_dB"]])
    for sensors in (SENSORS, [SENTINEL_1]):
        (site,) = read_points(path, sensors)
        assert list(site.contexts) == ["sentinel-1"]
        assert len(site.centre_days) == len(MONTHS)


@pytest.mark.parametrize(
    ("dropped", "leave_out", "message"),
    [
        (["sample_id"], (), "no column sample_id, it has time"),
        (["time", "sample_id"], (), "no column sample_id or time, it has ref_id"),
        (["ref_id"], ("survey",), "no column ref_id, it has sample_id"),
        ([*SENTINEL_2.band_names, "VV_dB", "VH_dB"], (), "no band of sentinel-2, sentinel-1 among its columns"),
    ],
)
def test_missing_columns_are_refused_in_one_line(
    dropped: list[str], leave_out: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = table(tmp_path, rows_of("a").drop(columns=dropped))
    with pytest.raises(UsageError, match=message) as caught:
        read_points(path, SENSORS, leave_out=leave_out)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.fixture
def site(tmp_path: Path) -> PointSite:
    (site,) = read_points(table(tmp_path, *(rows_of(f"{i:02}", shift=40.0 * i) for i in range(20))), SENSORS)
    return site


def test_a_tile_of_points_has_a_centre_pixel_per_point(site: PointSite) -> None:
    points = torch.tensor([3, 0, 7, 11, 2, 19])
    tile = site.tile(points, site.centre_days[:2])
    assert tile.stride == RECEPTIVE_FIELD and tile.truth == {}
    for name, context in tile.contexts.items():
        centres = context.valid[..., HALO::RECEPTIVE_FIELD, HALO::RECEPTIVE_FIELD]
        assert context.valid.sum() == centres.sum() == 6 * len(context.days)
        values = context.values[..., HALO::RECEPTIVE_FIELD, HALO::RECEPTIVE_FIELD].flatten(-2)
        assert torch.equal(values[..., :6], site.contexts[name].values[:, :, 0, points])
        assert not values[..., 6:].any()


def test_points_of_a_tile_do_not_see_each_other(site: PointSite, model: EarthModel) -> None:
    points, days = torch.arange(6), site.centre_days[1:3]
    tile = site.tile(points, days)
    together = model.encode(tile.contexts, days, tile.stride)
    for name, encoding in together.items():
        assert encoding.values.shape[-2:] == (2, 4)
        pixels = encoding.values.flatten(-2)
        for index in (0, 1, 5):
            lone = site.tile(points[[index]], days)
            alone = model.encode(lone.contexts, days, lone.stride)[name].values
            torch.testing.assert_close(pixels[..., index], alone[..., 0, 0], atol=1e-5, rtol=0)
        assert not encoding.observed.flatten(-2)[..., 6:].any()
    assert (together["sentinel-2"].values[..., 0, 0] - together["sentinel-2"].values[..., 0, 1]).abs().max() > 1e-3


def test_every_fifth_point_is_kept_for_validation(site: PointSite) -> None:
    def drawn(validation: int | None) -> set[float]:
        tiles = RandomTiles([site], 0, TileShape(centres=2), validation=validation)
        blue = [
            tile.contexts["sentinel-2"].values[0, 0] for tile, _ in zip(tiles, range(validation or 20), strict=False)
        ]
        return {float(value) for values in blue for value in values[values > 0]}

    first_month = site.contexts["sentinel-2"].values[0, 0, 0]
    assert drawn(20) == {float(value) for value in first_month[4::5]}
    kept = torch.arange(20) % 5 == 4
    assert drawn(None) == {float(value) for value in first_month[~kept]}


def test_the_dates_of_a_sensor_become_the_centre_dates(site: PointSite) -> None:
    own = PointSite(site.name, site.contexts, site.centre_days[:1], site.places).centred_on("sentinel-1")
    assert torch.equal(own.centre_days, site.contexts["sentinel-1"].days)
