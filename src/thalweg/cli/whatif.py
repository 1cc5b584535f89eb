"""`thalweg earth whatif`, `explain` and `between`: the tools that steer Earth embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.errors import UsageError
from thalweg.limits import MAX_DIRECTIONS, MAX_FRAMES, check_count

Store = Annotated[Path, typer.Argument(help="an embedding store written by `thalweg earth embed`")]
Model = Annotated[Path | None, typer.Option(help="folder of the model that made the store; the shipped by default")]


def whatif(
    store: Store,
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    pixel: Annotated[tuple[float, float], typer.Option("--pixel", help="column and row, or map coordinates x and y")],
    date: Annotated[str, typer.Option(help="a date such as 2019-07-01, at most three days from an embedding")],
    target: Annotated[str, typer.Option(help="ndvi=0.8, ndvi+0.1, B8-0.05, spectrum:B4=0.05,B8=0.4, lai+1, gpp+1")],
    level: Annotated[float, typer.Option(help="share of real embeddings in the region the result must lie in")] = 0.95,
    readout: Annotated[list[Path] | None, typer.Option(help="a read-out's JSON file; repeat for more")] = None,
    gpp: Annotated[Path | None, typer.Option(help="a GPP model's folder, for the target gpp")] = None,
    model: Model = None,
) -> None:
    """Find the smallest plausible change of a pixel's state that reaches a target; write it before and after."""
    import json

    from thalweg._version import __version__
    from thalweg.earth.counterfactual.counterfactual import draw, table, what_if
    from thalweg.earth.counterfactual.quantities import LinearProbe
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.plots import save_figure
    from thalweg.earth.store.writer import open_embeddings
    from thalweg.gpp.models.checkpoint import load_model
    from thalweg.io.atomic import atomic_folder

    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    loaded = [LinearProbe.load(path) for path in readout or []]
    result = what_if(
        open_embeddings(store),
        pixel,
        date,
        target,
        EarthModel.load(model),
        level=level,
        readouts={one.name: one for one in loaded},
        gpp=load_model(gpp) if gpp is not None else None,
    )
    record = {
        "thalweg_version": __version__,
        "model": result.embedding.lineage.model.name,
        "store": store.name,
        "level": level,
        **{
            name: getattr(result, name)
            for name in (
                *("place", "target", "reached", "plausible", "score_before", "score_after"),
                *("distance", "apart", "text"),
            )
        },
    }
    with atomic_folder(out) as folder:
        save_figure(draw(result), folder / "whatif.png")
        table(result).to_csv(folder / "bands.csv", index=False, float_format="%.5g")
        result.embedding.save(folder / "embedding.safetensors")
        (folder / "record.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(result.text)
    print(f"result: {out}")


def explain(
    store: Store,
    png: Annotated[Path, typer.Argument(help="where to write the figure")],
    count: Annotated[int, typer.Option(help="how many directions")] = 4,
    model: Model = None,
) -> None:
    """Draw what the principal directions of a store's embeddings mean: decoded spectra along each."""
    from thalweg.earth.counterfactual.directions import draw
    from thalweg.earth.counterfactual.directions import explain as decode_directions
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.plots import save_figure
    from thalweg.earth.store.writer import open_embeddings

    check_count("--count", count, 1, MAX_DIRECTIONS)
    loaded = EarthModel.load(model)
    directions = decode_directions(open_embeddings(store), loaded, count=count)
    print(f"figure: {save_figure(draw(directions, loaded), png)}")


def between(
    store: Store,
    start: Annotated[str, typer.Argument(help="COLUMN,ROW@DATE such as 12,30@2019-07-01; a date for the whole scene")],
    end: Annotated[str, typer.Argument(help="another place or date of the store")],
    out: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    count: Annotated[int, typer.Option(help="steps, both ends included")] = 7,
    model: Model = None,
) -> None:
    """Decode the path between two dates or two places: pictures, and bands along it."""
    import pandas as pd

    from thalweg.earth.counterfactual.generator import EarthGenerator
    from thalweg.earth.counterfactual.interpolation import between as decode_path
    from thalweg.earth.counterfactual.interpolation import draw
    from thalweg.earth.model.earth_model import EarthModel
    from thalweg.earth.plots import save_figure
    from thalweg.earth.store.writer import open_embeddings
    from thalweg.io.atomic import atomic_folder

    check_count("--count", count, 2, MAX_FRAMES)
    if out.exists():
        raise UsageError(f"{out}: exists already: choose another name or remove it")
    found = decode_path(EarthGenerator(EarthModel.load(model), dataset=open_embeddings(store)), start, end, count)
    with atomic_folder(out) as folder:
        save_figure(draw(found), folder / "between.png")
        pd.DataFrame(found.bands, columns=list(found.band_names)).to_csv(
            folder / "bands.csv", index_label="step", float_format="%.5g"
        )
        for step, embedding in enumerate(found.embeddings):
            embedding.save(folder / f"embedding-{step:02d}.safetensors")
    print(f"result: {out}")
