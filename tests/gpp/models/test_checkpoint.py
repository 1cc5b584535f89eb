"""Model folders of every kind of learner: equal predictions after reading, native files, and damage that is named."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thalweg.errors import UsageError
from thalweg.gpp.data.features import FeatureRecipe
from thalweg.gpp.data.windows import Windows, make_windows
from thalweg.gpp.models.baselines import ClimatologyLearner, RidgeLearner
from thalweg.gpp.models.checkpoint import load_model, save_model
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.physics.physics_learners import LightUseEfficiencyLearner, PModelLearner
from thalweg.gpp.models.physics.residual import ResidualLearner
from thalweg.gpp.models.sites.level_learner import LevelLearner
from thalweg.gpp.models.transformer import TransformerConfig, TransformerLearner
from thalweg.gpp.models.trees.boosting import BoostingLearner
from thalweg.gpp.models.trees.lightgbm_learner import LightGBMConfig, LightGBMLearner

TREES = LightGBMConfig(leaves=4, trees=50, bound_trees=5, rate=0.2)
TINY = TransformerConfig(width=8, heads=2, epochs=1)
CANDIDATES: dict[str, dict[str, Callable]] = {
    "transformer": {"small": partial(TransformerLearner, config=TINY)},
    "lightgbm": {"4 leaves": partial(LightGBMLearner, config=TREES)},
    "boosting": {"trees": partial(BoostingLearner, leaves=4, trees=40)},
    "ridge": {"10": RidgeLearner},
    "climatology": {"day of year": ClimatologyLearner},
    "lue": {"lue": LightUseEfficiencyLearner},
    "p-model": {"p-model": PModelLearner},
    "residual": {"4 leaves": partial(ResidualLearner, base="lue", config=TREES)},
    "site-level": {"4 leaves": partial(LevelLearner, config=TREES)},
    "stack": {"ridge": RidgeLearner, "4 leaves, climate": partial(LightGBMLearner, config=TREES)},
}


@pytest.fixture(scope="module")
def windows(make_table: Callable[..., pd.DataFrame]) -> Windows:
    table = make_table(sites=3, years=1)
    random = np.random.default_rng(0)
    dimensions = {f"e{index + 1}": random.normal(size=len(table)) for index in range(7)}
    table = table.assign(TA_F=table["SW_IN_POT"] / 18, VPD_F=5.0 + table["wet"], SW_IN_F=table["SW_IN_POT"] / 2)
    return make_windows(table.assign(**dimensions), [*dimensions, "SW_IN_POT", "TA_F", "VPD_F", "SW_IN_F"], stride=4)


@pytest.fixture(scope="module")
def plain_recipe() -> FeatureRecipe:
    return FeatureRecipe(embedding_model="thalweg-earth-test", size=7, gap_filling="linear")


@pytest.mark.parametrize("kind", CANDIDATES)
def test_any_model_is_saved_and_predicts_as_before(
    kind: str, windows: Windows, plain_recipe: FeatureRecipe, tmp_path: Path
):
    ensemble = Ensemble(CANDIDATES[kind], members=2, stacked=kind == "stack").fit(windows)
    save_model(ensemble, windows, plain_recipe, tmp_path / "model", kind)
    loaded = load_model(tmp_path / "model")
    assert loaded.card.training["model"] == kind
    for level in (0.5, 0.9):
        expected = ensemble.predict_interval(windows, level)
        np.testing.assert_allclose(loaded.ensemble.predict_interval(windows, level), expected, rtol=1e-4, atol=1e-4)
    assert not [
        path
        for path in (tmp_path / "model").iterdir()
        if path.suffix not in {".json", ".safetensors", ".txt", ".skops"}
    ]


@pytest.fixture(scope="module")
def trees(windows: Windows, plain_recipe: FeatureRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "model"
    save_model(Ensemble(CANDIDATES["lightgbm"], members=2).fit(windows), windows, plain_recipe, folder)
    return folder


def test_lightgbm_reads_the_text(trees: Path, windows: Windows):
    import lightgbm

    names = {path.name for path in trees.iterdir()}
    assert {"2-0.estimate.txt", "2-0.lower.txt", "2-0.upper.txt", "0-0.estimate.txt"} <= names
    booster = lightgbm.Booster(model_file=trees / "2-0.estimate.txt")
    assert booster.num_trees() in (25, 50)


def damage_text(folder: Path) -> None:
    path = folder / "0-0.lower.txt"
    path.write_bytes(path.read_bytes()[:-100])


def change_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_text, "0-0.lower.txt: not the file of model.json .hash differs.: train it again"),
        (lambda folder: (folder / "1-0.upper.txt").unlink(), "no such file, which model.json names"),
        (lambda folder: change_card(folder, files={"../x.txt": "0"}), "no such file"),
        (lambda folder: change_card(folder, files={}), "no model can be built from it"),
        (lambda folder: change_card(folder, weights={}), "it holds 3 learners"),
        (lambda folder: change_card(folder, members=5), "5 members, it holds 3 learners"),
        (lambda folder: change_card(folder, learners={"0-0": {"kind": "other"}}), "it holds 1 learners"),
    ],
)
def test_a_damaged_folder_is_refused(trees: Path, tmp_path: Path, damage: Callable[[Path], None], message: str):
    folder = Path(shutil.copytree(trees, tmp_path / "copy"))
    damage(folder)
    with pytest.raises(UsageError, match=message):
        load_model(folder)


def test_an_unfitted_model_is_not_saved(windows: Windows, plain_recipe: FeatureRecipe, tmp_path: Path):
    with pytest.raises(UsageError, match="not fitted yet"):
        save_model(Ensemble(CANDIDATES["ridge"]), windows, plain_recipe, tmp_path / "model")
    assert not list(tmp_path.iterdir())
