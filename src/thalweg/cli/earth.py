"""`thalweg earth`: from a cube to embeddings and maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.analysis import change, check_shown, cluster, draw_shown
from thalweg.cli.common.checks import check_input, check_model, check_new, check_store, check_writable
from thalweg.cli.common.cubes import AssumeClear
from thalweg.cli.common.positions import LonLatOption, PixelOption, XYOption, optional_position, required_position
from thalweg.cli.common.progress import announce
from thalweg.cli.common.seed_options import SEED_FLAGS
from thalweg.cli.fetch import DEFAULT_CATALOGUE, Box, CatalogueName, Crs, Search, Sensors, Time, cube_and_out, fetch
from thalweg.cli.mapping import apply, classify, regress, sample
from thalweg.cli.mosaic import Axes, mosaic, shared_axes
from thalweg.cli.search import index, search
from thalweg.cli.store import Dates, Memory, Quantise, Scheduler, Workers, check_execution, export, write_embeddings
from thalweg.cli.whatif import between, explain, whatif
from thalweg.errors import UsageError
from thalweg.limits import MAX_IMAGES, MAX_LANDSCAPE, MAX_YEARS, check_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

earth = typer.Typer(no_args_is_help=True, help="Embedding spaces learned from satellites.")
earth.command()(export)

Source = Annotated[Path, typer.Argument(help="a NetCDF file, a Zarr store, or a folder of them or of dated GeoTIFFs")]
Store = Annotated[
    Path, typer.Argument(help="an embedding store written by `thalweg earth embed`, or AlphaEarth or TESSERA files")
]
Figure = Annotated[Path | None, typer.Option("--png", help="PNG file to write")]
BAR_CHARACTERS = 30
"""Length of the bar of a date that is clear everywhere."""

earth.command()(fetch)
for _command in (whatif, explain, between, cluster, change, sample, classify, regress, apply, index, search, mosaic):
    earth.command()(_command)


@earth.command("sensors")
def list_sensors() -> None:
    """List the declared sensors."""
    from thalweg.earth.sensors import known_sensors

    for sensor in known_sensors():
        print(f"{sensor.name}: {sensor.title}, {sensor.units}, {sensor.resolution:g} m: {' '.join(sensor.band_names)}")


@earth.command()
def inspect(
    path: Source,
    png: Figure = None,
    assume_clear: AssumeClear = False,
    dates: Annotated[bool, typer.Option("--dates", help="list the clear fraction of every date")] = False,
) -> None:
    """Summarise a cube: grid, sensors, bands, dates, clear fractions, masked values; draw the availability."""
    check_input(path)
    if png is not None:
        check_writable(png)
    announce(f"reading {path}")
    from collections import Counter

    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.cube.decoding.value_checks import count_lines
    from thalweg.earth.cube.grid import describe_crs
    from thalweg.earth.plots import availability

    cube = Cube.open(path, assume_clear=assume_clear)
    rows, columns = cube.grid.shape
    print(f"{cube.name}: {rows} x {columns} px of {cube.grid.resolution.x:g} m, {describe_crs(cube.grid)}")
    fractions = {}
    for name, series in cube.series.items():
        bands = [
            band for band, is_present in zip(series.sensor.band_names, series.present_bands, strict=True) if is_present
        ]
        masked: Counter[str] = Counter()
        announce(f"reading {series.sensor.title}")
        fractions[name] = cube.usable_fraction(name, masked)
        print(
            f"\n{series.sensor.title}: {len(series.dates)} dates, {_day(series.dates[0])} to {_day(series.dates[-1])}"
            f"{_longest_gap(series.dates)}"
        )
        print(f"  bands {' '.join(bands)}; {fractions[name].mean():.0%} of pixel-dates clear")
        for line in [
            *series.layout_notes(cube.grid),
            *count_lines(masked, series.sensor, rows * columns * len(series.dates)),
        ]:
            print(f"  {line}")
        if dates:
            for date, clear in zip(series.dates, fractions[name], strict=True):
                print(f"  {_day(date)}  {clear:5.0%}  {'#' * round(BAR_CHARACTERS * clear)}")
    print(f"\n{len(cube.eligible())} dates get embeddings (at least 3.5 % of {cube.reference.sensor.title} clear)")
    print(f"figure: {availability(cube, png or Path(f'{cube.name}-availability.png'), fractions)}")


def _longest_gap(dates: "NDArray[np.datetime64]") -> str:
    """Return the longest gap between two dates in words, nothing for a single date."""
    import numpy as np

    days = np.diff(dates) / np.timedelta64(1, "D")
    return f", longest gap {days.max():.0f} days after {_day(dates[days.argmax()])}" if len(days) else ""


def _day(date: object) -> str:
    return str(date)[:10]


@earth.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    seed: Annotated[str, typer.Option(*SEED_FLAGS, help="seed of everything in the landscape")] = "7",
    size: Annotated[int, typer.Option(help="pixels each way")] = 128,
    years: Annotated[int, typer.Option(help="length of the record")] = 2,
    climate: Annotated[
        str, typer.Option(help="temperate, continental, mediterranean, semiarid, boreal or humid_tropical")
    ] = "temperate",
) -> None:
    """Simulate a landscape, its observation by three satellites, and its ground truth."""
    from typing import cast

    from thalweg.seeds import read_seed

    check_new(out)
    check_count("--size", size, 16, MAX_LANDSCAPE)
    check_count("--years", years, 1, MAX_YEARS)
    number = read_seed(seed)
    announce("simulating")
    from thalweg.simulate import Climate
    from thalweg.simulate import simulate as make

    make(seed=number, size=size, years=years, climate=cast(Climate, climate)).write(out)
    print(f"landscape: {out}")


Steps = Annotated[int | None, typer.Option(help="optimizer steps; 0 for the linear initialisation alone")]
Seed = Annotated[str, typer.Option(*SEED_FLAGS, help="seed of initialisation, tiles and masking")]
Run = Annotated[Path | None, typer.Option("--run", help="folder of logs and resume state; OUT.run by default")]


@earth.command()
def train(
    sensor: Annotated[str, typer.Argument(help="a declared sensor (`thalweg earth sensors`)")],
    data: Annotated[list[Path], typer.Argument(help="cubes to train on")],
    out: Annotated[Path, typer.Option("--out", help="checkpoint folder to write")],
    steps: Steps = None,
    seed: Seed = "0",
    run: Run = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Stage 1: train a sensor's context-aware autoencoder. A killed run resumes."""
    from thalweg.earth.sensors import sensor_by_name
    from thalweg.seeds import read_seed

    declared = sensor_by_name(sensor)
    check_count("--steps", 0 if steps is None else steps, 0, MAX_IMAGES)
    number = read_seed(seed)
    for cube in data:
        check_input(cube)
    check_new(out)
    announce("reading the cubes")
    from thalweg.earth.training.config import TrainingConfig
    from thalweg.earth.training.fit import train_autoencoder

    settings = TrainingConfig(seed=number) if steps is None else TrainingConfig(seed=number, steps=steps)
    folder = run or out.with_name(f"{out.name}.run")
    train_autoencoder(declared, data, out, folder, settings, assume_clear)
    print(f"checkpoint: {out}")


@earth.command()
def fuse(
    checkpoints: Annotated[list[Path], typer.Argument(help="stage 1 checkpoints, one per sensor")],
    data: Annotated[list[Path], typer.Option("--data", help="a cube to train on; repeat for more")],
    out: Annotated[Path, typer.Option("--out", help="model folder to write")],
    steps: Steps = None,
    seed: Seed = "0",
    run: Run = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Stage 2: fuse frozen encoders into one embedding. A killed run resumes."""
    from thalweg.seeds import read_seed

    check_count("--steps", 0 if steps is None else steps, 0, MAX_IMAGES)
    number = read_seed(seed)
    for path in (*checkpoints, *data):
        check_input(path)
    check_new(out)
    announce("reading the cubes")
    from thalweg.earth.training.config import TrainingConfig
    from thalweg.earth.training.fit import train_fusion

    settings = TrainingConfig(seed=number) if steps is None else TrainingConfig(seed=number, steps=steps)
    folder = run or out.with_name(f"{out.name}.run")
    model = train_fusion(checkpoints, data, out, folder, settings, assume_clear=assume_clear)
    print(f"model: {out} ({model.identifier})")


@earth.command()
def embed(
    context: typer.Context,
    cube: Annotated[Path, typer.Argument(help="a NetCDF file, a Zarr store, or a folder of them; none with --bbox")],
    out: Annotated[Path | None, typer.Argument(help="Zarr store to write; must not exist")] = None,
    size: Annotated[int, typer.Option(help="dimensions: 7 (the paper's size) or all 32")] = 7,
    model: Annotated[Path | None, typer.Option(help="model folder; the shipped weights by default")] = None,
    bbox: Box = None,
    time: Time = None,
    sensor: Sensors = None,
    catalog: CatalogueName = DEFAULT_CATALOGUE,
    crs: Crs = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    quantise: Quantise = None,
    dates: Dates = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Embed a cube, or a catalogue's data (--bbox, --time): a vector per pixel and date. A killed run resumes."""
    from thalweg.earth.inference.calendar_dates import calendar_days
    from thalweg.earth.store.quantization import check_bits

    check_bits(quantise)
    if dates is not None:
        calendar_days(dates)
    if size not in (7, 32):
        raise UsageError(f"--size {size}: expected 7 or 32")
    check_execution(scheduler, workers)
    check_model(model)
    cube, out = cube_and_out(cube, out, Search(context.command, bbox, time, sensor, catalog, crs))
    check_input(cube)
    check_new(out)
    announce(f"reading {cube}")
    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.inference.job import Job
    from thalweg.earth.inference.memory import parse_size
    from thalweg.earth.model.earth_model import EarthModel

    if memory is not None:
        parse_size(memory)
    opened = Cube.open(cube, assume_clear=assume_clear)
    announce("loading the model")
    job = Job(opened, EarthModel.load(model), size, quantize=quantise, calendar=dates)
    announce("choosing the dates")
    write_embeddings(job, out, scheduler, workers, memory)


@earth.command("map")
def draw_map(
    store: Store,
    date: Annotated[str | None, typer.Option(help="a date such as 2018-06-30; the clearest by default")] = None,
    show: Annotated[
        str,
        typer.Option(
            help="embedding, quality, cluster, ndvi, evi, nirv, kndvi, lai, fapar, chlorophyll, soil_moisture"
        ),
    ] = "embedding",
    model: Annotated[
        Path | None, typer.Option(help="model folder for decoding; the shipped weights by default")
    ] = None,
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    axes: Axes = None,
    png: Figure = None,
) -> None:
    """Draw a date: its RGB preview next to its embeddings, or one quantity; or the embedding of one pixel over time."""
    from thalweg.earth.store.lookup import parse_date

    position = optional_position(pixel, xy, lonlat)
    if date is not None:
        parse_date(date)
    if date is not None and position is not None:
        raise UsageError("--date: the series of a pixel shows all dates, leave --date out")
    if show.lower() != "embedding":
        check_shown(show)
    if show.lower() != "embedding" and position is not None:
        raise UsageError("--show: the series of a pixel shows its embedding, leave --show out")
    if axes is not None and (position is not None or show.lower() != "embedding"):
        raise UsageError("--axes: only the map of an embedding has such colours, leave --axes out")
    check_store(store)
    check_model(model)
    kind = "pixel" if position is not None else "map" if show.lower() == "embedding" else show.lower()
    png = png or Path(f"{store.stem}-{kind}.png")
    check_writable(png)
    announce(f"opening {store}")
    from thalweg.earth.foreign.opening import open_grid
    from thalweg.earth.plots import clearest_date, pixel_series
    from thalweg.earth.positions import dataset_geobox, locate
    from thalweg.earth.store.lookup import date_index

    dataset = open_grid(store)
    if position is not None:
        located = locate(position, dataset_geobox(dataset))
        if located != position:
            print(f"pixel: {located}")
        print(f"figure: {pixel_series(dataset, png, located)}")
        return
    index = clearest_date(dataset) if date is None else date_index(dataset, date)
    day = _day(dataset.time.values[index])
    if date is None:
        print(f"date: {day}, the {'clearest' if 'quality' in dataset else 'latest'}")
    elif day != _day(date.strip()):
        print(f"date: {day}, the nearest to {date}")
    components = None if axes is None else shared_axes(dataset, axes)
    announce("drawing the map")
    print(f"figure: {draw_shown(dataset, show.lower(), index, model, png, components)}")


@earth.command()
def similar(
    store: Store,
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    png: Figure = None,
) -> None:
    """Draw the similarity of every pixel's embedding series to that of one pixel."""
    position = required_position(pixel, xy, lonlat)
    check_store(store)
    png = png or Path(f"{store.stem}-similar.png")
    check_writable(png)
    announce(f"opening {store}")
    from thalweg.earth.foreign.opening import open_grid
    from thalweg.earth.plots import similarity_map
    from thalweg.earth.positions import dataset_geobox, locate

    dataset = open_grid(store)
    located = locate(position, dataset_geobox(dataset))
    if located != position:
        print(f"pixel: {located}")
    announce("comparing the pixels")
    print(f"figure: {similarity_map(dataset, png, located)}")


@earth.command()
def demo(context: typer.Context, out: Annotated[Path, typer.Argument(help="folder to write; must not exist")]) -> None:
    """Run the main job offline: simulate a landscape, embed it with the shipped weights, draw the maps."""
    check_new(out)
    simulate(out / "landscape", size=64, years=1)
    inspect(out / "landscape", out / "availability.png")
    embed(context, out / "landscape", out / "embeddings.zarr")
    draw_map(out / "embeddings.zarr", png=out / "map.png")
    draw_map(out / "embeddings.zarr", pixel=(32, 32), png=out / "pixel.png")
    similar(out / "embeddings.zarr", (32, 32), png=out / "similar.png")
    print(f"\nThe results are in {out}: look at map.png first, and open embeddings.zarr with thalweg.open.")
