"""Training of a GPP model on the prepared tables of towers."""

from collections.abc import Sequence
from pathlib import Path

from thalweg.errors import UsageError
from thalweg.gpp.data.features import model_columns, read_tables
from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.models.checkpoint import GppModel, save_model
from thalweg.gpp.models.registry import MODELS, check_models
from thalweg.gpp.tables.daily_table import with_vegetation_columns
from thalweg.gpp.tables.target_columns import target_of
from thalweg.io.atomic import refuse_existing


def train_model(
    tables: Sequence[str | Path],
    out: str | Path,
    columns: Sequence[str] = (),
    seed: int = 0,
    model: str = "transformer",
    vegetation: bool = False,
    target: str | None = None,
) -> GppModel:
    """Fit a model to prepared tables and save it.

    Args:
        tables: Tables that `write_table` or `thalweg gpp prepare` wrote, one per site, with GPP.
        out: Model folder; must not exist.
        columns: Columns to predict from in addition to the embedding and potential radiation; a model with further
            columns makes no maps.
        seed: Seed of the ensemble.
        model: Key of `MODELS`.
        vegetation: Predict from the site's vegetation class too, as a column per class.
        target: FluxTarget that the tables must hold; any by default.

    Returns:
        The fitted model.

    Raises:
        MissingPathError: A table does not exist.
        UsageError: The folder exists, a table is invalid, its recipe differs from the others, or a column or the
            target is missing.
        ThalwegError: The folder cannot be written.
    """
    check_models([model])
    refuse_existing(Path(out))
    table, recipe = read_tables([Path(path) for path in tables])
    if target not in (None, recipe.target):
        raise UsageError(f"{tables[0]}: target {recipe.target}, expected {target}: prepare it with that target")
    check_models([model], target_of(table))
    table, classes = with_vegetation_columns(table) if vegetation else (table, [])
    windows = make_windows(table, [*model_columns(recipe), *columns, *classes])
    ensemble = MODELS[model](seed).fit(windows)
    return GppModel(ensemble, save_model(ensemble, windows, recipe, Path(out), model))
