"""Results of `embed` and `thalweg.open`: written by other libraries, opened again, pickled; damaged chunks named."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.earth.inference.job import Job
from thalweg.earth.inference.runner import embed_to_zarr
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.positions import LonLat, PixelIndex
from thalweg.earth.store.portable import portable, structured
from thalweg.errors import ThalwegError, UsageError

BLOCK = 16
KINDS = ("embed", "open", "open quantized")
PARTS: dict[str, dict[str, object]] = {
    "whole": {},
    "pixel": {"y": 20, "x": 11},
    "date": {"time": 2},
    "window of a date": {"time": [1], "y": slice(3, 19), "x": slice(0, 9)},
}


@pytest.fixture(scope="module")
def store(cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed_to_zarr(Job(cube, model, block=BLOCK), tmp_path_factory.mktemp("stores") / "out.zarr")


@pytest.fixture(scope="module")
def results(
    store: Path, cube: Cube, model: EarthModel, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, xr.Dataset]:
    small = embed_to_zarr(Job(cube, model, quantize=8), tmp_path_factory.mktemp("stores") / "small.zarr")
    opened = {"open": thalweg.open(store), "open quantized": thalweg.open(small)}
    return {"embed": thalweg.embed(cube, model), **opened}


def to_degrees(dataset: xr.Dataset, row: int, column: int) -> LonLat:
    project = Transformer.from_crs(dataset.attrs["proj:wkt2"], "EPSG:4326", always_xy=True)
    return LonLat(*project.transform(float(dataset.x[column]), float(dataset.y[row])))


def write_netcdf(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    dataset.to_netcdf(path)
    return xr.open_dataset(path, decode_timedelta=False)


def write_zarr_2(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    dataset.to_zarr(path, zarr_format=2)
    return xr.open_zarr(path)


def write_zarr_3(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    dataset.to_zarr(path, zarr_format=3, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


WRITERS: dict[str, Callable[[xr.Dataset, Path], xr.Dataset]] = {
    "netcdf": write_netcdf,
    "zarr 2": write_zarr_2,
    "zarr 3": write_zarr_3,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", WRITERS)
def test_results_are_equal_after_writing_and_reading(
    writer: str, kind: str, part: str, results: dict[str, xr.Dataset], tmp_path: Path
) -> None:
    dataset = results[kind].isel(PARTS[part])
    back = WRITERS[writer](dataset, tmp_path / "written")
    for name in dataset.variables:
        np.testing.assert_array_equal(back[name].values, dataset[name].values, err_msg=str(name))
        assert back[name].dtype == dataset[name].dtype, name
    assert structured(back.attrs, "thalweg:sources") == structured(dataset.attrs, "thalweg:sources")
    assert back.attrs["thalweg:model"] == dataset.attrs["thalweg:model"]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_accessor_works_on_written_results(
    writer: str, results: dict[str, xr.Dataset], model: EarthModel, tmp_path: Path
) -> None:
    dataset = results["embed"]
    back = WRITERS[writer](dataset, tmp_path / "written")
    place = to_degrees(dataset, 20, 12)
    for call in (
        lambda data: data.thalweg.similar(PixelIndex(12, 20)),
        lambda data: data.thalweg.pca(2),
        lambda data: data.thalweg.decode("sentinel-1", model=model),
        lambda data: data.thalweg.at(place).embeddings,
    ):
        np.testing.assert_array_equal(call(back).values, call(dataset).values)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_pickled_and_chunked(kind: str, results: dict[str, xr.Dataset], tmp_path: Path) -> None:
    dataset = results[kind]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.embeddings.values, dataset.embeddings.values)
    chunked = again.chunk({"time": 2, "y": 16, "x": 16})
    chunked.to_zarr(tmp_path / "chunked.zarr", zarr_format=2)
    back = xr.open_zarr(tmp_path / "chunked.zarr")
    np.testing.assert_array_equal(back.embeddings.values, dataset.embeddings.values)


def test_the_store_itself_keeps_its_conventions(store: Path) -> None:
    plain = xr.open_zarr(store)
    assert isinstance(plain.attrs["zarr_conventions"], list) and isinstance(plain.attrs["thalweg:sources"], dict)
    assert structured(plain.attrs, "thalweg:sources") == structured(thalweg.open(store).attrs, "thalweg:sources")


def test_attributes_that_netcdf_cannot_hold_become_json() -> None:
    attributes = {"n": 1, "list": [1.5, 2], "names": ["a"], "dict": {"a": [1]}, "none": None, "flag": True, "empty": []}
    dataset = portable(xr.Dataset({"a": ("x", [1.0], {"_FillValue": np.nan})}, attrs=attributes))
    assert dataset.attrs == {
        **{"n": 1, "list": [1.5, 2], "names": ["a"]},
        **{"dict": '{"a": [1]}', "none": "null", "flag": "true", "empty": "[]"},
    }
    assert "_FillValue" not in dataset.a.attrs and np.isnan(dataset.a.encoding["_FillValue"])


def test_a_selection_without_a_dimension_is_refused(results: dict[str, xr.Dataset]) -> None:
    with pytest.raises(UsageError, match=r"no dimension time: .*dataset.isel\(time=\[0\]\)"):
        results["open"].isel(time=0).thalweg.similar(PixelIndex(4, 3))
    with pytest.raises(UsageError, match="no dimension y, x"):
        results["open"].isel(y=0, x=0).thalweg.at(LonLat(3.0, 50.8))


@pytest.mark.parametrize(
    "first", ["import thalweg, xarray", "import xarray, thalweg", "from xarray import Dataset; import thalweg, xarray"]
)
def test_the_accessor_is_registered_in_either_order_of_imports(first: str, store: Path) -> None:
    code = (
        f"import sys; {first}; from thalweg.earth.positions import PixelIndex; "
        "print(xarray.open_zarr(sys.argv[1]).thalweg.similar(PixelIndex(4, 3)).shape)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(store)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(32, 32)", "")


def test_finding_xarray_without_importing_it_changes_nothing() -> None:
    code = """
import sys, thalweg, importlib.util
importlib.util.find_spec("xarray")
assert "xarray" not in sys.modules
import xarray
print(type(xarray.__spec__.loader).__name__, hasattr(xarray.Dataset, "thalweg"))
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith("thalweg")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["SourceFileLoader True", "[]"], done.stderr


def damage(store: Path, variable: str, copy: Path, shard: str = "0/0/0/0") -> Path:
    """Copy a store and change bytes of the first chunk of one shard."""
    shutil.copytree(store, copy)
    path = copy / variable / "c" / shard
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(content)
    return copy


def test_a_damaged_chunk_affects_only_what_is_read_from_it(store: Path, tmp_path: Path, model: EarthModel) -> None:
    copy = damage(store, "embeddings", tmp_path / "damaged.zarr", "0/0/1/0")
    opened, whole = thalweg.open(copy), thalweg.open(store)
    np.testing.assert_array_equal(
        opened.embeddings.isel(y=slice(0, 16)).values, whole.embeddings.isel(y=slice(0, 16)).values
    )
    place = to_degrees(whole, 20, 20)
    np.testing.assert_array_equal(opened.thalweg.at(place).embeddings.values, whole.thalweg.at(place).embeddings.values)
    calls: tuple[Callable[[], object], ...] = (
        lambda: opened.embeddings.values,
        lambda: opened.embeddings.isel(y=20, x=[3, 4]).values,
        lambda: opened.thalweg.at(to_degrees(whole, 20, 3)).embeddings.values,
        lambda: opened.thalweg.similar(PixelIndex(4, 3)),
        lambda: opened.thalweg.pca(2),
        lambda: opened.thalweg.decode("sentinel-1", model=model),
        lambda: opened.chunk({"time": 1}).embeddings.mean().compute(),
        lambda: opened.to_netcdf(tmp_path / "out.nc"),
    )
    for call in calls:
        with pytest.raises(ThalwegError) as caught:
            call()
        line = str(caught.value)
        assert line.startswith("damaged.zarr: embeddings cannot be read at time ") and "\n" not in line
        assert "y 16 to 31, x 0 to 15" in line and "a damaged chunk" in line


@pytest.mark.parametrize("command", ["export", "map", "similar", "whatif"])
def test_commands_raise_one_line_error_for_a_damaged_chunk(
    command: str, store: Path, cli: Callable, model_folder: Path, tmp_path: Path
) -> None:
    copy = damage(store, "embeddings", tmp_path / "damaged.zarr")
    day = str(thalweg.open(store).time.values[0])[:10]
    arguments: dict[str, tuple[object, ...]] = {
        "export": ("export", copy, "out", "--format", "cog"),
        "map": ("map", copy),
        "similar": ("similar", copy, "--pixel", 4, 3),
        "whatif": (
            *("whatif", copy, "out", "--pixel", 4, 3, "--date", day),
            *("--target", "ndvi+0.1", "--model", model_folder),
        ),
    }
    ran = cli("earth", *arguments[command])
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("thalweg: damaged.zarr: embeddings cannot be read at time 0 to 0")
    assert not list(Path.cwd().iterdir())


def test_a_store_records_sensors_taken_as_clear(datasets: dict[str, xr.Dataset], model: EarthModel) -> None:
    optical = datasets["sentinel-2"]
    for cube, is_assumed in ((optical, None), (optical.drop_vars("SCL").assign_attrs(sensor="sentinel-2"), True)):
        embedded = thalweg.embed({**datasets, "sentinel-2": cube}, model, assume_clear=True)
        sources = structured(embedded.attrs, "thalweg:sources")
        assert sources["sentinel-2"].get("assumed_clear") is is_assumed
        assert "assumed_clear" not in sources["sentinel-1"]
