"""`thalweg earth`: from a cube to embeddings and maps."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.cubes import AssumeClear
from thalweg.cli.fetch import DEFAULT_CATALOGUE, Box, CatalogueName, Crs, Sensors, Time, cube_and_out, fetch
from thalweg.cli.store import Memory, Quantise, Scheduler, Workers, export, write_embeddings
from thalweg.cli.whatif import between, explain, whatif
from thalweg.errors import UsageError
from thalweg.limits import MAX_IMAGES, MAX_LANDSCAPE, MAX_YEARS, check_count

earth = typer.Typer(no_args_is_help=True, help="Embedding spaces learned from satellites.")
earth.command()(export)

Source = Annotated[Path, typer.Argument(help="a NetCDF file, a Zarr store, or a folder of them or of dated GeoTIFFs")]
Store = Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")]
Picture = Annotated[Path | None, typer.Option("--png", help="where to write the picture")]
Pixel = Annotated[
    tuple[float, float] | None, typer.Option("--pixel", help="column and row, or map coordinates x and y")
]


earth.command()(fetch)
for _command in (whatif, explain, between):
    earth.command()(_command)


@earth.command("sensors")
def list_sensors() -> None:
    """List the declared sensors."""
    from thalweg.earth.sensors import known_sensors

    for sensor in known_sensors():
        print(f"{sensor.name}: {sensor.title}, {sensor.units}, {sensor.resolution:g} m: {' '.join(sensor.band_names)}")


@earth.command()
def inspect(path: Source, png: Picture = None, assume_clear: AssumeClear = False) -> None:
    """Say what a cube holds: sensors, dates, clear fraction per date, gaps, values masked; draw the availability."""
    from collections import Counter

    import numpy as np

    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.cube.decoding.value_checks import count_lines
    from thalweg.earth.cube.grid import describe_crs
    from thalweg.earth.plots import availability

    cube = Cube.open(path, assume_clear=assume_clear)
    rows, columns = cube.grid.shape
    print(f"{cube.name}: {rows} x {columns} px of {cube.grid.resolution.x:g} m, {describe_crs(cube.grid)}")
    for name, series in cube.series.items():
        bands = [band for band, here in zip(series.sensor.band_names, series.present_bands, strict=True) if here]
        masked: Counter[str] = Counter()
        fraction = cube.usable_fraction(name, masked)
        days = np.diff(series.dates) / np.timedelta64(1, "D")
        first, last = (np.datetime_as_string(date, "D") for date in series.dates[[0, -1]])
        longest = f", longest gap {days.max():.0f} days after {_day(series.dates[days.argmax()])}" if len(days) else ""
        print(f"\n{series.sensor.title}: {len(series.dates)} dates, {first} to {last}{longest}")
        print(f"  bands {' '.join(bands)}; {fraction.mean():.0%} of pixel-dates clear")
        for line in [
            *series.layout_notes(cube.grid),
            *count_lines(masked, series.sensor, rows * columns * len(series.dates)),
        ]:
            print(f"  {line}")
        for date, clear in zip(series.dates, fraction, strict=True):
            print(f"  {_day(date)}  {clear:5.0%}  {'#' * round(30 * clear)}")
    print(f"\n{len(cube.eligible())} dates get embeddings (at least 3.5 % of {cube.reference.sensor.title} clear)")
    print(f"figure: {availability(cube, png or Path(f'{cube.name}-availability.png'))}")


def _day(date: object) -> str:
    return str(date)[:10]


@earth.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    seed: Annotated[int, typer.Option(help="seed of everything in the landscape")] = 7,
    size: Annotated[int, typer.Option(help="pixels each way")] = 128,
    years: Annotated[int, typer.Option(help="length of the record")] = 2,
    climate: Annotated[str, typer.Option(help="temperate, continental, mediterranean or semiarid")] = "temperate",
) -> None:
    """Simulate a landscape as three satellites see it, with its truth."""
    from typing import cast

    from thalweg.seeds import check_seeds
    from thalweg.simulate import Climate
    from thalweg.simulate import simulate as make

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    check_count("--size", size, 16, MAX_LANDSCAPE)
    check_count("--years", years, 1, MAX_YEARS)
    check_seeds([seed])
    make(seed=seed, size=size, years=years, climate=cast(Climate, climate)).write(out)
    print(f"landscape: {out}")


Steps = Annotated[int | None, typer.Option(help="optimiser steps; the linear start alone with 0")]
Seed = Annotated[int, typer.Option(help="seed of initialisation, tiles and hiding")]
Run = Annotated[Path | None, typer.Option("--run", help="folder of logs and resume state; OUT.run by default")]


@earth.command()
def train(
    sensor: Annotated[str, typer.Argument(help="a declared sensor (`thalweg earth sensors`)")],
    data: Annotated[list[Path], typer.Argument(help="cubes to train on")],
    out: Annotated[Path, typer.Option("--out", help="checkpoint folder to write")],
    steps: Steps = None,
    seed: Seed = 0,
    run: Run = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Stage 1: train a sensor's context-aware autoencoder. A killed run resumes."""
    from thalweg.earth.sensors import sensor_by_name
    from thalweg.earth.training.modules import TrainingConfig, train_autoencoder

    check_count("--steps", 0 if steps is None else steps, 0, MAX_IMAGES)
    settings = TrainingConfig(seed=seed) if steps is None else TrainingConfig(seed=seed, steps=steps)
    folder = run or out.with_name(f"{out.name}.run")
    train_autoencoder(sensor_by_name(sensor), data, out, folder, settings, assume_clear)
    print(f"checkpoint: {out}")


@earth.command()
def fuse(
    checkpoints: Annotated[list[Path], typer.Argument(help="stage 1 checkpoints, one a sensor")],
    data: Annotated[list[Path], typer.Option("--data", help="a cube to train on; repeat for more")],
    out: Annotated[Path, typer.Option("--out", help="model folder to write")],
    steps: Steps = None,
    seed: Seed = 0,
    run: Run = None,
    assume_clear: AssumeClear = False,
) -> None:
    """Stage 2: fuse frozen encoders into one embedding. A killed run resumes."""
    from thalweg.earth.training.modules import TrainingConfig, train_fusion

    check_count("--steps", 0 if steps is None else steps, 0, MAX_IMAGES)
    settings = TrainingConfig(seed=seed) if steps is None else TrainingConfig(seed=seed, steps=steps)
    folder = run or out.with_name(f"{out.name}.run")
    model = train_fusion(checkpoints, data, out, folder, settings, assume_clear=assume_clear)
    print(f"model: {out} ({model.identifier})")


@earth.command()
def embed(
    cube: Annotated[Path, typer.Argument(help="a NetCDF file, a Zarr store, or a folder of them; none with --bbox")],
    out: Annotated[Path | None, typer.Argument(help="Zarr store to write; must not exist")] = None,
    size: Annotated[int, typer.Option(help="7 values (the paper's size) or all 32")] = 7,
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
    assume_clear: AssumeClear = False,
) -> None:
    """Embed a cube, or what a catalogue has (--bbox, --time): a vector per pixel and date. A killed run resumes."""
    from thalweg.earth.cube.cube import Cube
    from thalweg.earth.inference.job import Job
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.store.quantization import check_bits

    check_bits(quantise)
    cube, out = cube_and_out(cube, out, bbox, time, sensor, catalog, crs)
    opened = Cube.open(cube, assume_clear=assume_clear)
    job = Job(opened, EarthModel.load(model), size, quantise=quantise)
    write_embeddings(job, out, scheduler, workers, memory)


@earth.command("map")
def draw_map(
    store: Store,
    date: Annotated[str | None, typer.Option(help="a date such as 2018-06-30; the clearest by default")] = None,
    pixel: Pixel = None,
    png: Picture = None,
) -> None:
    """Draw a date's picture beside the embedding, or with --pixel a pixel's series with its uncertainty."""
    from thalweg.earth.plots import embedding_map, pixel_series
    from thalweg.earth.store.writer import open_embeddings

    dataset = open_embeddings(store)
    if pixel is not None:
        print(f"figure: {pixel_series(dataset, png or Path(f'{store.stem}-pixel.png'), pixel)}")
    else:
        print(f"figure: {embedding_map(dataset, png or Path(f'{store.stem}-map.png'), date)}")


@earth.command()
def similar(
    store: Store,
    pixel: Annotated[tuple[float, float], typer.Option("--pixel", help="column and row, or map coordinates x and y")],
    png: Picture = None,
) -> None:
    """Draw how alike every pixel's season is to one pixel's."""
    from thalweg.earth.plots import similarity_map
    from thalweg.earth.store.writer import open_embeddings

    print(f"figure: {similarity_map(open_embeddings(store), png or Path(f'{store.stem}-similar.png'), pixel)}")


@earth.command()
def demo(out: Annotated[Path, typer.Argument(help="folder to write; must not exist")]) -> None:
    """Run the main job offline: simulate a landscape, embed it with the shipped weights, draw the maps."""
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another folder or remove it")
    simulate(out / "landscape", size=64, years=1)
    inspect(out / "landscape", out / "availability.png")
    embed(out / "landscape", out / "embeddings.zarr")
    draw_map(out / "embeddings.zarr", png=out / "map.png")
    draw_map(out / "embeddings.zarr", pixel=(32, 32), png=out / "pixel.png")
    similar(out / "embeddings.zarr", (32, 32), out / "similar.png")
    print(f"\nThe results lie in {out}: open map.png first, embeddings.zarr with thalweg.open.")
