"""A third sensor added to a model of two: the steps of docs/add-a-sensor.md, which must match this test."""

from pathlib import Path
from typing import Literal

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
from thalweg.earth.training.tiles import RandomTiles, TileShape, TrainingSite
from thalweg.simulate import simulate

QUICK = TrainingConfig(
    steps=12, tile=12, centres=2, start_tiles=16, validation_tiles=2, calibration_tiles=12, encoded_tiles=8
)


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


MISSION_MASK = ClassMask(variable="mission_mask", clear=(1,))
FEW = {"start_tiles": 16, "calibration_tiles": 4, "encoded_tiles": 4, "validation_tiles": 1}


def write_mission(landscape: Path, folder: Path, bands: dict[str, tuple[str, float, float]]) -> Path:
    """Write a cube of Sentinel-2 and of an invented mission, whose bands are Sentinel-2's, scaled and shifted."""
    s2 = xr.open_dataset(landscape / "s2.nc", engine="h5netcdf", mask_and_scale=False)
    values = {
        name: s2[source].astype("float32") / 1e4 * factor + offset for name, (source, factor, offset) in bands.items()
    }
    for band in values.values():
        band.attrs.clear()
    data = xr.Dataset({**values, "mission_mask": s2.SCL.isin([4, 5, 6, 7]).astype("uint8")}).rio.write_crs(s2.rio.crs)
    folder.mkdir()
    data.to_netcdf(folder / "mission.nc", engine="h5netcdf")
    s2.to_netcdf(folder / "s2.nc", engine="h5netcdf")
    return folder


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered sensors are forgotten after the test."""
    monkeypatch.setattr(sensors, "_REGISTRY", dict(sensors._REGISTRY))


@pytest.mark.usefixtures("own_registry")
def test_a_sensor_of_the_user_is_trained(landscape: Path, tmp_path: Path) -> None:
    mission = register_sensor(
        Sensor(
            name="thermal-infrared-mission",
            title="A mission that the package does not know",
            bands=(Band(name="red_edge", wavelength=705), Band(name="swir", wavelength=1610)),
            units="reflectance",
            value_range=(0, 1),
            resolution=20,
            validity=MISSION_MASK,
            encoding_size=12,
        )
    )
    folder = write_mission(landscape, tmp_path / "cube", {"red_edge": ("B05", 1, 0), "swir": ("B11", 1, 0)})
    assert set(Cube.open(folder).series) == {"sentinel-2", mission.name}
    settings = TrainingConfig(steps=2, tile=12, centres=2, **FEW)
    autoencoder = train_autoencoder(mission, [folder], tmp_path / "mission", tmp_path / "run", settings)
    assert autoencoder.sensor == mission


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("units", ["reflectance", "dB"])
def test_a_sensor_of_one_band_is_trained_and_fused(
    units: Literal["reflectance", "dB"], trained_models: Path, landscape: Path, tmp_path: Path
) -> None:
    mission = register_sensor(
        Sensor(
            name="one-band-mission",
            title="A mission of one band",
            bands=(Band(name="only"),),
            units=units,
            value_range=(0, 1) if units == "reflectance" else (-30, 5),
            resolution=20,
            validity=MISSION_MASK,
        )
    )
    only = ("B08", 1, 0) if units == "reflectance" else ("B08", 20, -20)
    folder = write_mission(landscape, tmp_path / "cube", {"only": only})
    settings = TrainingConfig(steps=2, tiles=1, tile=12, centres=2, **FEW)
    encoders = [trained_models / "sentinel-2", tmp_path / mission.name]
    train_autoencoder(mission, [folder], encoders[1], tmp_path / "run", settings)
    model = train_fusion(encoders, [folder], tmp_path / "model", tmp_path / "fusion.run", settings)
    assert model.sensors == ("sentinel-2", mission.name)
    assert len(model.fusion.log_positions) == (11 if units == "reflectance" else 10)
    site = TrainingSite.load(folder, model.sensors)
    tile = next(iter(RandomTiles([site], 0, TileShape(8, 1, 2))))
    fused = model(tile.contexts, tile.centre_days)
    assert torch.isfinite(fused.values).all() and (fused.spread > 0).all()
    low, high = mission.value_range
    decoded = model.decode(fused.values, mission.name)
    assert decoded.shape == (2, 1, 8, 8)
    assert torch.isfinite(decoded).all() and low - 5 < decoded.mean() < high + 5


@pytest.mark.usefixtures("own_registry")
def test_a_reference_sensor_without_reflectance_is_trained_and_fused(landscape: Path, tmp_path: Path) -> None:
    mission = register_sensor(
        Sensor(
            name="radar-mission",
            title="A mission of three bands in dB",
            bands=(Band(name="first"), Band(name="second"), Band(name="third")),
            units="dB",
            value_range=(-30, 5),
            resolution=10,
            validity=MISSION_MASK,
            is_reference=True,
        )
    )
    bands = {"first": ("B08", 20, -20), "second": ("B11", 20, -20), "third": ("B03", 40, -20)}
    folder = write_mission(landscape, tmp_path / "cube", bands)
    settings = TrainingConfig(steps=2, tiles=1, tile=12, centres=2, **FEW)
    train_autoencoder(mission, [folder], tmp_path / "encoder", tmp_path / "run", settings)
    model = train_fusion([tmp_path / "encoder"], [folder], tmp_path / "model", tmp_path / "fusion.run", settings)
    assert len(model.fusion.log_positions) == 0
    site = TrainingSite.load(folder, model.sensors)
    tile = next(iter(RandomTiles([site], 0, TileShape(8, 1, 2))))
    fused = model(tile.contexts, tile.centre_days)
    assert torch.isfinite(fused.values).all() and (fused.spread > 0).all()
    assert torch.isfinite(model.decode(fused.values, mission.name)).all()
