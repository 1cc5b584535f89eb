"""A third sensor added to a model of two: the steps of docs/add-a-sensor.md, which must match this test."""

from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import torch
import xarray as xr

from thalweg.earth import Cube, embed, sensors
from thalweg.earth.model.checkpoints import read_checkpoint_card
from thalweg.earth.sensors import Band, ClassMask, Sensor, register_sensor, sensor_by_name
from thalweg.earth.training.config import TrainingConfig
from thalweg.earth.training.fit import train_autoencoder, train_fusion
from thalweg.simulate import simulate

QUICK = TrainingConfig(steps=12, tile=12, centres=2, start_tiles=16, validation_tiles=2, calibration_tiles=6)


@pytest.fixture(scope="module")
def landscape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third") / "landscape"
    simulate(seed=5, size=40, years=1).write(folder)
    return folder


@pytest.fixture(scope="module")
def trained_models(landscape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two encoders, their fusion, a third encoder, and the fusion of all three."""
    work = tmp_path_factory.mktemp("models")
    for name in ("sentinel-2", "sentinel-1"):
        train_autoencoder(sensor_by_name(name), [landscape], work / name, work / f"{name}.run", QUICK)
    first = [work / "sentinel-2", work / "sentinel-1"]
    train_fusion(first, [landscape], work / "two", work / "two.run", QUICK)
    train_autoencoder(sensor_by_name("landsat-8"), [landscape], work / "landsat-8", work / "landsat-8.run", QUICK)
    train_fusion([*first, work / "landsat-8"], [landscape], work / "three", work / "three.run", QUICK)
    return work


def test_other_encoders_stay_bit_identical(trained_models: Path) -> None:
    for name in ("sentinel-2", "sentinel-1"):
        before, after = (read_checkpoint_card(trained_models / model / name) for model in ("two", "three"))
        assert before.content_hash == after.content_hash
        weights = [(trained_models / model / name / "weights.safetensors").read_bytes() for model in ("two", "three")]
        assert weights[0] == weights[1]
    fusions = [read_checkpoint_card(trained_models / model / "fusion") for model in ("two", "three")]
    assert fusions[0].content_hash != fusions[1].content_hash
    assert set(fusions[1].training["encoders"]) == {"sentinel-2", "sentinel-1", "landsat-8"}


def test_three_sensors_make_one_embedding(trained_models: Path, landscape: Path) -> None:
    from thalweg.earth import EarthModel

    model = EarthModel.load(trained_models / "three")
    with_landsat = embed(landscape, model)
    without = embed(Cube.open(landscape, ("sentinel-2", "sentinel-1")), model)
    assert "gap_landsat-8" in with_landsat
    assert np.isnan(without["gap_landsat-8"]).all()
    seen = np.isfinite(with_landsat.embeddings.values)
    assert seen.any()
    assert np.array_equal(seen, np.isfinite(without.embeddings.values))
    assert not np.allclose(with_landsat.embeddings.values[seen], without.embeddings.values[seen])


def test_the_third_sensor_is_decoded(trained_models: Path, landscape: Path) -> None:
    from thalweg.earth import EarthModel
    from thalweg.earth.training.tiles import TrainingSite

    model = EarthModel.load(trained_models / "three")
    site = TrainingSite.load(landscape, model.sensors)
    with torch.inference_mode():
        embedding = model(site.contexts, site.centre_days).values
        context = site.contexts["landsat-8"]
        nearest = (context.days[None] - site.centre_days[:, None]).abs().argmin(1)
        away = (context.days[nearest] - site.centre_days)[:, None]
        rebuilt = model.decode(embedding, "landsat-8", away)[:, 0]
    target, valid = (part[nearest][..., 7:-7, 7:-7] for part in (context.values, context.valid))
    error = ((rebuilt - target).abs() * valid).sum() / (valid.sum() * 6)
    average = (context.values * context.valid).sum((0, 2, 3)) / context.valid.sum((0, 2, 3))
    constant = ((average[:, None, None] - target).abs() * valid).sum() / (valid.sum() * 6)
    assert error < 0.6 * constant


def test_a_sensor_of_the_user_is_trained(landscape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "_REGISTRY", dict(sensors._REGISTRY))  # registered for this test only
    mission = register_sensor(
        Sensor(
            name="thermal-infrared-mission",
            title="A mission that the package does not know",
            bands=(Band(name="red_edge", wavelength=705), Band(name="swir", wavelength=1610)),
            units="reflectance",
            value_range=(0, 1),
            resolution=20,
            validity=ClassMask(variable="mission_mask", clear=(1,)),
            encoding_size=12,
        )
    )
    s2 = xr.open_dataset(landscape / "s2.nc", engine="h5netcdf", mask_and_scale=False)
    data = xr.Dataset(
        {
            "red_edge": s2.B05.astype("float32") / 1e4,
            "swir": s2.B11.astype("float32") / 1e4,
            "mission_mask": s2.SCL.isin([4, 5, 6, 7]).astype("uint8"),
        }
    ).rio.write_crs(s2.rio.crs)
    folder = tmp_path / "cube"
    folder.mkdir()
    data.to_netcdf(folder / "mission.nc", engine="h5netcdf")
    s2.to_netcdf(folder / "s2.nc", engine="h5netcdf")
    assert set(Cube.open(folder).series) == {"sentinel-2", mission.name}
    settings = TrainingConfig(steps=2, tile=12, centres=2, start_tiles=4)
    autoencoder = train_autoencoder(mission, [folder], tmp_path / "mission", tmp_path / "run", settings)
    assert autoencoder.sensor == mission
