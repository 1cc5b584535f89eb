"""Counterfactuals: targets that are read, reached or reported as out of reach; decoded bands before and after."""

import numpy as np
import pytest
import xarray as xr

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.counterfactual import LIMITS, band_table, decoded_spectra, find_counterfactual
from thalweg.earth.counterfactual.counterfactual_plots import draw_counterfactual
from thalweg.earth.counterfactual.quantities import LinearProbe
from thalweg.earth.counterfactual.target import Target
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import PixelIndex
from thalweg.errors import UsageError

PIXEL = PixelIndex(12, 20)


@pytest.fixture(scope="module")
def embedded(cube: object, model: EarthModel) -> xr.Dataset:
    return embed(cube, model, 32)


@pytest.fixture(scope="module")
def distribution(embedded: xr.Dataset) -> EmbeddingDistribution:
    return EmbeddingDistribution.of(embedded)


@pytest.fixture(scope="module")
def date(embedded: xr.Dataset) -> int:
    """A date on which the pixel has an embedding."""
    return int(np.flatnonzero(np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))[-1])


def test_targets_are_read(model: EarthModel) -> None:
    start = np.array([0.5])
    for text, goal in (("ndvi=0.8", 0.8), ("NDVI + 0.1", 0.6), ("ndvi-.1", 0.4), ("B8=+0.3", 0.3), ("vv=-12", -12)):
        assert Target.read(text, model).goals(start)[0] == pytest.approx(goal)
    spectrum = Target.read("spectrum: B4=0.05, B8=0.4", model)
    assert [one.name for one in spectrum.quantities] == ["B04", "B08"]
    np.testing.assert_array_equal(spectrum.goals(np.zeros(2)), [0.05, 0.4])


@pytest.mark.parametrize(
    "text", ["", "ndvi", "ndvi=", "ndvi=high", "ndvi*2", "spectrum:", "spectrum:B4+0.1", "spectrum:B4=0.1;B8=0.2"]
)
def test_invalid_targets_are_refused_in_one_line(text: str, model: EarthModel) -> None:
    with pytest.raises(UsageError, match="expected NAME=VALUE, NAME\\+VALUE or NAME-VALUE") as caught:
        Target.read(text, model)
    assert "\n" not in str(caught.value)


def test_a_band_that_comes_twice_is_refused(model: EarthModel) -> None:
    with pytest.raises(UsageError, match="distinct bands"):
        Target.read("spectrum:B4=0.1,red=0.2", model)


@pytest.mark.parametrize("target", ["ndvi-0.02", "nirv+0.01", "B8-0.01", "spectrum:B4=same,B8=same"])
def test_a_near_target_is_reached(
    target: str, embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    if "same" in target:
        here = decoded_spectra(model, embedded.embeddings.values[date, :, 12, 20], np.zeros(32))["sentinel-2"].value
        target = f"spectrum:B4={here[2] - 0.004:.4f},B8={here[6] + 0.005:.4f}"
    found = find_counterfactual(embedded, PIXEL, date, target, model, distribution)
    assert found.reached
    assert 0 < found.norm < found.median_distance
    assert "minimal perturbation" in found.summary
    assert LIMITS in found.summary
    after = found.after["sentinel-2"].set_index("band").value
    before = found.before["sentinel-2"].set_index("band").value
    ndvi = [(bands.B08 - bands.B04) / (bands.B08 + bands.B04) for bands in (before, after)]
    if target.startswith("ndvi"):
        assert found.score_before == pytest.approx(ndvi[0], abs=1e-3)
        assert found.score_after == pytest.approx(ndvi[1], abs=1e-3)
        assert ndvi[1] - ndvi[0] == pytest.approx(-0.02, abs=2e-3)
    if target.startswith("B8"):
        assert pytest.approx(-0.01, abs=1.1e-3) == after.B08 - before.B08
    if target.startswith("spectrum"):
        assert found.score_after < 0.0011 < found.score_before


def test_a_target_out_of_reach_is_reported(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    found = find_counterfactual(embedded, PIXEL, date, "B8=9", model, distribution)
    assert not found.reached
    assert found.summary.startswith("Not reached: no perturbation inside the 95 % region of real embeddings was found")
    assert found.score_after > found.score_before
    assert found.plausible
    assert found.norm <= distribution.pairwise_quantile()


def test_values_outside_the_range_of_a_sensor_are_reported(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    for target, band in (("B4=-0.03", "B04"), ("B8=1.1", "B08"), ("ndvi+0.01", "")):
        found = find_counterfactual(embedded, PIXEL, date, target, model, distribution)
        values = found.after["sentinel-2"].set_index("band").value
        assert ("outside the range of the sensor" in found.summary) == bool(((values < 0) | (values > 1)).any())
        if band and found.reached:
            assert band in found.summary


def test_the_embedding_has_its_lineage(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    found = find_counterfactual(embedded, PIXEL, date, "ndvi+0.02", model, distribution)
    assert found.embedding.lineage.operation == "whatif"
    assert found.embedding.lineage.parameters["target"] == "ndvi+0.02"
    assert found.embedding.lineage.prompt == found.place
    start = embedded.embeddings.values[date, :, 12, 20]
    change = found.embedding.tensors["embedding"].numpy() - start
    assert float(distribution.mahalanobis_norm(change)) == pytest.approx(found.norm, rel=1e-3)
    assert found.plausible == bool(
        distribution.distance(found.embedding.tensors["embedding"].numpy()) <= distribution.radius_quantile(0.95)
    )


def test_intervals_follow_the_uncertainty(embedded: xr.Dataset, date: int, model: EarthModel) -> None:
    here = embedded.isel(time=date, y=12, x=20)
    vector, uncertainty = here.embeddings.values, here.uncertainty.values
    none, own, double = (decoded_spectra(model, vector, factor * uncertainty) for factor in (0, 1, 2))
    for sensor in model.sensors:
        np.testing.assert_allclose(none[sensor].low, none[sensor].high, atol=1e-5)
        widths = [(tables[sensor].high - tables[sensor].low).to_numpy() for tables in (own, double)]
        assert (widths[0] > 0).all()
        np.testing.assert_allclose(widths[1] / widths[0], 2, rtol=0.3)
        assert ((own[sensor].low <= own[sensor].value) & (own[sensor].value <= own[sensor].high)).all()
    assert set(own["sentinel-1"].units) == {"dB"}


def test_the_table_and_the_figure_hold_every_band(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    found = find_counterfactual(embedded, PIXEL, date, "ndvi+0.02", model, distribution)
    rows = band_table(found)
    assert list(rows.band)[-2:] == ["VV", "VH"] or list(rows.band)[:2] == ["VV", "VH"]
    assert len(rows) == 12
    np.testing.assert_allclose(rows.change, rows.value_after - rows.value_before, atol=1e-7)
    labels = {label.get_text() for axis in draw_counterfactual(found).axes for label in axis.get_xticklabels()}
    assert {"B02", "B12", "VV", "VH"} <= labels


def test_a_linear_probe_is_a_target(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    flat = np.moveaxis(embedded.embeddings.values, 1, -1).reshape(-1, 32)
    flat = flat[np.isfinite(flat).all(1)]
    leaf_area = 3 + flat @ np.random.default_rng(0).normal(size=32) / flat.std()
    probe = LinearProbe.fit(flat, leaf_area, "lai", "m2 m-2", model.identifier)
    found = find_counterfactual(
        embedded, PIXEL, date, "LAI+0.5", model, distribution, quantities=[probe.quantity(model)]
    )
    assert found.reached
    assert found.score_after - found.score_before == pytest.approx(0.5, abs=0.011)
    assert probe.predict(found.embedding.tensors["embedding"].numpy()) == pytest.approx(found.score_after, abs=1e-2)


def test_seven_dimensions_are_reported_as_few(cube: object, model: EarthModel) -> None:
    seven = embed(cube, model, 7)
    date = int(np.flatnonzero(np.isfinite(seven.embeddings.values[:, 0, 12, 20]))[-1])
    found = find_counterfactual(seven, PIXEL, date, "ndvi+0.01", model)
    assert found.embedding.tensors["embedding"].shape == (7,)
    assert "first 7 dimensions hold the season" in found.summary


def test_what_is_refused(
    embedded: xr.Dataset, date: int, model: EarthModel, distribution: EmbeddingDistribution
) -> None:
    def refused(match: str, **changed: object) -> None:
        arguments = {"dataset": embedded, "position": PIXEL, "date": date, "target": "ndvi+0.1", **changed}
        with pytest.raises(UsageError, match=match) as caught:
            find_counterfactual(model=model, distribution=arguments.pop("distribution", distribution), **arguments)
        assert "\n" not in str(caught.value)

    refused("pixel row 40, column 0 is outside", position=PixelIndex(40, 0))
    refused("pixel row 0, column 0 has no embedding on any date", position=PixelIndex(0, 0))
    refused("no embedding within 3 days of 2031-01-01", date="2031-01-01")
    refused("date 99: expected an index from 0 to", date=99)
    refused("target 'height': expected NDVI, EVI, NIRv, kNDVI, lai, .*B02", target="height+1")
    refused("lai: this model was trained without it", target="lai+1")
    refused("target 'nvdi': .*; did you mean NDVI", target="nvdi+1")
    refused("expected a level between 0 and 1, got 95", level=95)
    refused("embeddings of other, model", dataset=embedded.assign_attrs({"thalweg:model": "other"}))
    refused("not a dataset of embeddings", dataset=xr.Dataset())
    foreign = EmbeddingDistribution("other", distribution.mean, distribution.covariance, np.ones(1), np.ones(1))
    refused("expected a distribution of embeddings of", distribution=foreign)
    unseen = np.flatnonzero(~np.isfinite(embedded.embeddings.values[:, 0, 12, 20]))
    if len(unseen):
        refused("has no embedding on .*: the nearest date on which it has one is", date=int(unseen[0]))
