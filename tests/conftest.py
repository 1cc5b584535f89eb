"""Small real cubes, a tiny model fitted on them, and the command line as a function."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors here are tiny: threads would only wait for each other

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import xarray as xr

from thalweg.earth.cube.cube import Cube
from thalweg.earth.model.earth_model import EarthModel
from thalweg.simulate import Landscape, simulate

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@pytest.fixture(scope="session")
def landscape() -> Landscape:
    return simulate(seed=3, size=32, years=1)


@pytest.fixture(scope="session")
def datasets(landscape: Landscape) -> dict[str, xr.Dataset]:
    """Every fourth date of a simulated landscape; Sentinel-2 never sees the upper left 3 x 3 pixels."""
    sentinel2 = landscape.sentinel2.isel(time=slice(0, None, 4)).copy(deep=True)
    sentinel2["SCL"][:, :3, :3] = 9
    return {"sentinel-2": sentinel2, "sentinel-1": landscape.sentinel1.isel(time=slice(0, None, 4)).copy(deep=True)}


@pytest.fixture(scope="session")
def cube_folder(datasets: dict[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "landscape"
    folder.mkdir()
    datasets["sentinel-2"].to_netcdf(folder / "s2.nc", engine="h5netcdf")
    datasets["sentinel-1"].to_netcdf(folder / "s1.nc", engine="h5netcdf")
    return folder


@pytest.fixture(scope="session")
def cube(cube_folder: Path) -> Cube:
    return Cube.open(cube_folder)


@pytest.fixture(scope="session")
def fitted_folder(cube_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The closed-form start of Sentinel-2 and Sentinel-1, fitted to the small cube."""
    from thalweg.earth.sensors import sensor_by_name
    from thalweg.earth.training.config import TrainingConfig
    from thalweg.earth.training.fit import train_autoencoder, train_fusion

    folder = tmp_path_factory.mktemp("fitted")
    settings = TrainingConfig(steps=0, start_tiles=8, tile=8, stride=1, calibration_tiles=24)
    encoders = [folder / "sentinel-2", folder / "sentinel-1"]
    for encoder in encoders:
        train_autoencoder(sensor_by_name(encoder.name), [cube_folder], encoder, folder / "run", settings)
    train_fusion(encoders, [cube_folder], folder / "model", folder / "run", settings)
    return folder / "model"


@pytest.fixture(scope="session")
def model_folder(fitted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fitted model with a small random change of all weights, so that its residuals are not zero."""
    from thalweg.earth.model.checkpoints import save_checkpoint

    folder = tmp_path_factory.mktemp("stirred") / "model"
    model = EarthModel.load(fitted_folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    hashes = {}
    for name in model.sensors:
        autoencoder = model.autoencoder(name)
        card = save_checkpoint(autoencoder, "autoencoder", (autoencoder.sensor,), folder / name, {})
        hashes[name] = card.content_hash
    save_checkpoint(model.fusion, "fusion", model.fusion.sensors, folder / "fusion", {"encoders": hashes})
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> EarthModel:
    return EarthModel.load(model_folder)


Maker = Callable[..., xr.Dataset]


def _on_grid(
    bands: dict[str, np.ndarray], start: str, step_days: int, left: float, top: float, resolution: float, epsg: int
) -> xr.Dataset:
    import rioxarray  # noqa: F401  (gives datasets their .rio)

    count, height, width = next(iter(bands.values())).shape
    dates = np.datetime64(start, "ns") + np.arange(count) * np.timedelta64(step_days, "D")
    coordinates = {
        "time": dates,
        "y": top - (np.arange(height) + 0.5) * resolution,
        "x": left + (np.arange(width) + 0.5) * resolution,
    }
    data = {name: (("time", "y", "x"), values) for name, values in bands.items()}
    return xr.Dataset(data, coordinates).rio.write_crs(epsg)


@pytest.fixture(scope="session")
def make_s2() -> Maker:
    """A function that makes a clear Sentinel-2 dataset of reflectance; every band and pixel differs."""

    def make(
        dates: int = 4, size: int = 6, left: float = 500_000, top: float = 5_600_000, epsg: int = 32631
    ) -> xr.Dataset:
        shape = (dates, size, size)
        ramp = np.arange(dates * size * size, dtype=np.float32).reshape(shape) / (dates * size * size)
        bands = {name: 0.05 * (index + 1) + 0.04 * ramp for index, name in enumerate(S2_BANDS)}
        bands["SCL"] = np.full(shape, 4, np.uint8)
        return _on_grid(bands, "2018-05-01", 5, left, top, 10, epsg)

    return make


@pytest.fixture(scope="session")
def make_s1() -> Maker:
    """A function that makes a Sentinel-1 dataset in dB; every date differs."""

    def make(
        dates: int = 5,
        size: int = 6,
        left: float = 500_000,
        top: float = 5_600_000,
        resolution: float = 10,
        epsg: int = 32631,
    ) -> xr.Dataset:
        shape = (dates, size, size)
        noise = np.random.default_rng(0).normal(0, 2, (2, *shape)).astype(np.float32)
        data = _on_grid({"VV": -10 + noise[0], "VH": -17 + noise[1]}, "2018-05-02", 6, left, top, resolution, epsg)
        for name in ("VV", "VH"):
            data[name].attrs["units"] = "dB"
        return data

    return make


@dataclass(frozen=True)
class BadCube:
    """A path that is no good cube, and what the message must name."""

    path: Path
    words: tuple[str, ...]


def _text(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    (folder / "s2.nc").write_text("this is not NetCDF\n")
    return "s2.nc", "not a readable cube", "expected NetCDF"


def _truncated(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    s2().to_netcdf(folder / "s2.nc", engine="h5netcdf")
    whole = (folder / "s2.nc").read_bytes()
    (folder / "s2.nc").write_bytes(whole[: len(whole) // 2])
    return "s2.nc", "not a readable cube", "expected NetCDF"


def _no_bands(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    s2()[["SCL"]].rename(SCL="rain").to_netcdf(folder / "s2.nc", engine="h5netcdf")
    return "bad", "not a cube", "thalweg earth sensors"


def _empty_folder(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    return "bad", "no NetCDF", ".zarr"


def _missing(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    folder.rmdir()
    return "bad", "no such file"


def _wrote(folder: Path, *words: str, s2: xr.Dataset, s1: xr.Dataset | None = None) -> tuple[str, ...]:
    s2.to_netcdf(folder / "s2.nc", engine="h5netcdf")
    if s1 is not None:
        s1.to_netcdf(folder / "s1.nc", engine="h5netcdf")
    return words


def _with(data: xr.Dataset, **values: object) -> xr.Dataset:
    for name, value in values.items():
        data[name][:] = value
    return data


def _percent(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    for name in S2_BANDS:
        data[name] = data[name] * 100
    return _wrote(folder, "s2.nc", "B02", "expected reflectance", "percent by 100", s2=data)


def _picture(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    for name in S2_BANDS:
        data[name] = (data[name] * 255).astype(np.uint8)
    return _wrote(folder, "s2.nc", "digital numbers", "8-bit image", s2=data)


def _no_baseline(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    for name in S2_BANDS:
        data[name] = (data[name] * 10_000 + 1000).astype(np.uint16)
    data = data.assign_coords(time=data.time + np.timedelta64(5 * 365, "D"))
    return _wrote(folder, "s2.nc", "4 date(s) from 2023", "processing_baseline", "boa_offset_applied", s2=data)


def _uneven(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    x = data.x.values.copy()
    x[-1] += 7
    return _wrote(folder, "s2.nc", "x is not evenly spaced", "reproject", s2=data.assign_coords(x=x))


def _nan_coordinate(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    x = data.x.values.copy()
    x[2] = np.nan
    return _wrote(folder, "s2.nc", "x is not evenly spaced", "reproject", s2=data.assign_coords(x=x))


def _not_dates(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    return _wrote(folder, "s2.nc", "expected dates", "days since", s2=s2().assign_coords(time=np.arange(4)))


def _no_date(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    times = s2().time.values.copy()
    times[2] = np.datetime64("NaT")
    data = s2().assign_coords(time=times)
    data.time.encoding = {"units": "days since 2018-01-01", "dtype": "float64", "_FillValue": np.nan}
    return _wrote(folder, "s2.nc", "1 date(s) missing", "dropna('time')", s2=data)


def _flat_band(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    data["B04"] = data["B04"].isel(time=0, drop=True)
    return _wrote(folder, "s2.nc", "B04", "expected time, y, x", s2=data)


def _digital_numbers(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    for name in S2_BANDS:
        data[name] = data[name] * 10_000
    return _wrote(folder, "s2.nc", "B02", "expected reflectance", "divide by 10000", s2=data)


def _linear_power(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s1()
    for name in ("VV", "VH"):
        data[name] = 10 ** (data[name] / 10)
        data[name].attrs.clear()
    return _wrote(folder, "s1.nc", "VV", "expected backscatter in dB", "10 * log10", s2=s2(), s1=data)


def _degrees(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2().drop_vars("spatial_ref")
    data = data.assign_coords(x=3 + 0.00014 * np.arange(6), y=50.8 - 0.00014 * np.arange(6)).rio.write_crs(4326)
    return _wrote(folder, "s2.nc", "degrees", "EPSG:4326", "reproject", s2=data)


def _coarse(folder: Path, s2: Maker, s1: Maker) -> tuple[str, ...]:
    data = s2()
    data = data.assign_coords(x=data.x.values[0] + 60 * np.arange(6), y=data.y.values[0] - 60 * np.arange(6))
    return _wrote(folder, "s2.nc", "pixels of 60 m", "expected 10 m", s2=data)


BAD_CUBES: dict[str, Callable[[Path, Maker, Maker], tuple[str, ...]]] = {
    "text": _text,
    "truncated": _truncated,
    "no bands": _no_bands,
    "empty folder": _empty_folder,
    "missing": _missing,
    "no common footprint": lambda folder, s2, s1: _wrote(
        folder, "s1.nc", "no common footprint", "s2.nc", s2=s2(), s1=s1(left=600_000)
    ),
    "degrees": _degrees,
    "60 m pixels": _coarse,
    "another UTM zone": lambda folder, s2, s1: _wrote(
        folder, "s1.nc", "EPSG:32632", "EPSG:32631", "reproject", s2=s2(), s1=s1(epsg=32632)
    ),
    "no valid pixel": lambda folder, s2, s1: _wrote(folder, "s2.nc", "no valid pixel", "check", s2=_with(s2(), SCL=9)),
    "one date": lambda folder, s2, s1: _wrote(folder, "s2.nc", "1 date", "expected two or more", s2=s2(dates=1)),
    "no dates": lambda folder, s2, s1: _wrote(folder, "s2.nc", "0 dates", s2=s2().isel(time=slice(0, 0))),
    "unsorted dates": lambda folder, s2, s1: _wrote(
        folder, "s2.nc", "not in order", "sortby('time')", s2=s2().isel(time=[1, 0, 2, 3])
    ),
    "percent": _percent,
    "8-bit image": _picture,
    "recent numbers without a baseline": _no_baseline,
    "no mask": lambda folder, s2, s1: _wrote(
        folder, "s2.nc", "without a mask", "assume", s2=s2().drop_vars("SCL").assign_attrs(sensor="sentinel-2")
    ),
    "uneven x": _uneven,
    "NaN in x": _nan_coordinate,
    "time is no date": _not_dates,
    "a date is missing": _no_date,
    "band without time": _flat_band,
    "no reference system": lambda folder, s2, s1: _wrote(
        folder, "s2.nc", "no coordinate reference system", "write_crs", s2=s2().drop_vars("spatial_ref")
    ),
    "no mask and no name": lambda folder, s2, s1: _wrote(
        folder, "s2.nc", "sentinel-2 or landsat-8", "sensor=", s2=s2().drop_vars("SCL")
    ),
    "digital numbers as reflectance": _digital_numbers,
    "undeclared linear power": _linear_power,
}


@pytest.fixture(params=list(BAD_CUBES))
def bad_cube(request: pytest.FixtureRequest, tmp_path: Path, make_s2: Maker, make_s1: Maker) -> BadCube:
    folder = tmp_path / "bad"
    folder.mkdir()
    return BadCube(folder, BAD_CUBES[request.param](folder, make_s2, make_s1))


@dataclass(frozen=True)
class Ran:
    """Result of a command: exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """The `thalweg` command as a function of its arguments, run in an empty folder."""
    from thalweg.cli import main

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("THALWEG_TRACEBACK", "1")  # an error the package does not know fails the test, it is not a line

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["thalweg", *map(str, arguments)])
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as noise:  # outside of pytest they would be on stderr too
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("always", RuntimeWarning)
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err + "".join(f"{warning.message}\n" for warning in noise))

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Headless Chromium, the same for all tests of a process; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_QUIET))
        yield browser
        browser.close()
