"""`thalweg earth whatif`, `explain` and `between`: counterfactuals, principal directions and paths of embeddings."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.cli.common.checks import check_model, check_new, check_store, check_writable
from thalweg.cli.common.positions import LonLatOption, PixelOption, XYOption, required_position
from thalweg.cli.common.progress import announce
from thalweg.errors import UsageError
from thalweg.limits import MAX_DIRECTIONS, MAX_FRAMES, check_count

if TYPE_CHECKING:
    from thalweg.earth.counterfactual.counterfactual import Counterfactual
    from thalweg.earth.store.lookup import LocatedEmbedding

Store = Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")]
Model = Annotated[Path | None, typer.Option(help="folder of the model that made the store; the shipped by default")]

GPP_TARGET = "gpp"
"""Name of the quantity that `--gpp` adds."""


def whatif(
    store: Store,
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    date: Annotated[str, typer.Option(help="a date such as 2019-07-01, at most three days from an embedding")],
    target: Annotated[str, typer.Option(help="ndvi=0.8, ndvi+0.1, B8-0.05, spectrum:B4=0.05,B8=0.4, lai+1, gpp+1")],
    pixel: PixelOption = None,
    xy: XYOption = None,
    lonlat: LonLatOption = None,
    level: Annotated[
        float, typer.Option(help="fraction of real embeddings in the region that the result must lie in")
    ] = 0.95,
    readout: Annotated[list[Path] | None, typer.Option(help="JSON file of a linear probe; repeat for more")] = None,
    gpp: Annotated[Path | None, typer.Option(help="folder of a GPP model, for the target gpp")] = None,
    model: Model = None,
) -> None:
    """Find the minimal perturbation of a pixel's embedding that reaches a target; write its bands before and after."""
    from thalweg.earth.counterfactual.quantities import LinearProbe
    from thalweg.earth.store.lookup import parse_date

    position = required_position(pixel, xy, lonlat)
    parse_date(date)
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g}: expected a fraction between 0 and 1")
    check_store(store)
    check_new(out)
    check_model(model)
    probes = [LinearProbe.load(path) for path in readout or []]
    _check_target(target, [probe.name for probe in probes], gpp is not None)

    announce(f"opening {store}")
    from thalweg.earth.store.lookup import embedding_at
    from thalweg.earth.store.reader import open_store

    dataset = open_store(store)
    for probe in probes:
        probe.check_model(str(dataset.attrs["thalweg:model"]))
    located = embedding_at(dataset, position, date)
    _say_place(located, date, is_pixel=pixel is not None)

    announce("loading the model")
    from thalweg.earth.counterfactual.counterfactual import find_counterfactual
    from thalweg.earth.model.earth_model import EarthModel

    quantities = []
    if gpp is not None:
        from thalweg.gpp.models.checkpoint import load_model
        from thalweg.gpp.quantity import gpp_quantity

        quantities.append(gpp_quantity(load_model(gpp), dataset, located))
    loaded = EarthModel.load(model)
    loaded.check_made(dataset)
    quantities += [probe.quantity(loaded) for probe in probes]

    announce("searching the minimal perturbation")
    assert located.pixel is not None
    result = find_counterfactual(dataset, located.pixel, date, target, loaded, level=level, quantities=quantities)
    _write_counterfactual(result, store, out, level)
    print(result.summary)
    print(f"result: {out}")


def _check_target(target: str, probes: Iterable[str], has_gpp: bool) -> None:
    """Refuse an invalid target, or one that names an unknown quantity, without a model."""
    from thalweg.earth.counterfactual.quantities import check_quantity_name
    from thalweg.earth.counterfactual.target import TargetText
    from thalweg.earth.sensors import known_sensors

    probes = [probe.lower() for probe in probes]
    for name in (given.lower() for given in TargetText.parse(target).names):
        if name == GPP_TARGET and not has_gpp and name not in probes:
            raise UsageError(f"target {name!r}: give a GPP model, --gpp FOLDER; the shipped weights hold none")
        check_quantity_name(name, known_sensors(), [*probes, *([GPP_TARGET] if has_gpp else [])])


def _say_place(located: "LocatedEmbedding", date: str, is_pixel: bool) -> None:
    """Print the pixel and the date that are taken where they are not literally those of the command line."""
    day = str(located.date)[:10]
    if located.pixel is not None and not is_pixel:
        print(f"pixel: {located.pixel}")
    if day != date.strip()[:10]:
        print(f"date: {day}, the nearest to {date}")


def _write_counterfactual(result: "Counterfactual", store: Path, out: Path, level: float) -> None:
    """Write the folder of a counterfactual: figure, table of bands, embedding and record."""
    import json

    from thalweg._version import __version__
    from thalweg.earth.counterfactual.counterfactual import band_table
    from thalweg.earth.counterfactual.counterfactual_plots import draw_counterfactual
    from thalweg.earth.plots import save_figure
    from thalweg.io.atomic import atomic_folder

    record = {
        "thalweg_version": __version__,
        "model": result.embedding.lineage.model.name,
        "store": store.name,
        "level": level,
        "place": result.place,
        "target": result.target,
        "reached": result.reached,
        "plausible": result.plausible,
        "score_before": result.score_before,
        "score_after": result.score_after,
        "distance": result.norm,
        "apart": result.median_distance,
        "text": result.summary,
    }
    with atomic_folder(out) as folder:
        save_figure(draw_counterfactual(result), folder / "whatif.png")
        band_table(result).to_csv(folder / "bands.csv", index=False, float_format="%.5g")
        result.embedding.save(folder / "embedding.safetensors")
        (folder / "record.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def explain(
    store: Store,
    png: Annotated[Path, typer.Argument(help="PNG file to write")],
    count: Annotated[int, typer.Option(help="number of directions")] = 4,
    model: Model = None,
) -> None:
    """Draw the decoded spectra along the principal directions of a store's embeddings."""
    check_count("--count", count, 1, MAX_DIRECTIONS)
    check_store(store)
    check_writable(png)
    check_model(model)

    announce(f"opening {store}")
    from thalweg.earth.store.reader import open_store

    dataset = open_store(store)

    announce("loading the model")
    from thalweg.earth.counterfactual.counterfactual_plots import draw_directions
    from thalweg.earth.counterfactual.directions import principal_directions
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.plots import save_figure

    loaded = EarthModel.load(model)
    announce("decoding the principal directions")
    directions = principal_directions(dataset, loaded, count=count)
    print(f"figure: {save_figure(draw_directions(directions, loaded), png)}")


def between(
    store: Store,
    start: Annotated[
        str,
        typer.Argument(help="POSITION@DATE such as pixel:30,12@2019-07-01; a date alone for the whole scene"),
    ],
    end: Annotated[str, typer.Argument(help="another place or date of the store")],
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    count: Annotated[int, typer.Option(help="steps, both ends included")] = 7,
    model: Model = None,
) -> None:
    """Decode the path between two dates or two places: RGB previews, and bands along it."""
    from thalweg.earth.store.lookup import embedding_at_place, parse_place

    places = [parse_place(start), parse_place(end)]
    if (places[0].position is None) != (places[1].position is None):
        raise UsageError(f"expected two pixels or two dates, got {start} and {end}")
    check_count("--count", count, 2, MAX_FRAMES)
    check_store(store)
    check_new(out)
    check_model(model)

    announce(f"opening {store}")
    from thalweg.earth.positions import PixelIndex
    from thalweg.earth.store.reader import open_store

    dataset = open_store(store)
    ends = [embedding_at_place(dataset, place) for place in places]
    for place, located in zip(places, ends, strict=True):
        _say_place(located, place.date, is_pixel=isinstance(place.position, PixelIndex))

    announce("loading the model")
    import pandas as pd

    from thalweg.earth.counterfactual.counterfactual_plots import draw_path
    from thalweg.earth.counterfactual.generator import EarthGenerator
    from thalweg.earth.counterfactual.interpolation import decode_path
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.plots import save_figure
    from thalweg.io.atomic import atomic_folder

    generator = EarthGenerator(EarthModel.load(model), dataset=dataset)
    announce("decoding the path")
    decoded = decode_path(generator, ends[0].place, ends[1].place, count)
    with atomic_folder(out) as folder:
        save_figure(draw_path(decoded), folder / "between.png")
        pd.DataFrame(decoded.bands, columns=list(decoded.band_names)).to_csv(
            folder / "bands.csv", index_label="step", float_format="%.5g"
        )
        for step, embedding in enumerate(decoded.embeddings):
            embedding.save(folder / f"embedding-{step:02d}.safetensors")
    print(f"result: {out}")
