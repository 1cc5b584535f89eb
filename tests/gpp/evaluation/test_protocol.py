from functools import partial

import numpy as np
import pandas as pd
import pytest

from thalweg.earth.indices import INDICES
from thalweg.errors import UsageError
from thalweg.gpp.data.windows import make_windows
from thalweg.gpp.evaluation.protocol import EvaluationConfig, common_windows, evaluate, folds, warmer_sites
from thalweg.gpp.models.baselines import RidgeLearner
from thalweg.gpp.models.ensemble import Ensemble
from thalweg.gpp.models.predictors import PredictorSet, predictor_sets, with_indices
from thalweg.gpp.models.registry import MODELS, check_models, climatology, ridge

WEATHER = PredictorSet("weather", ("SW_IN_POT", "wet"))


def test_folds_hold_everything_out_once(make_table):
    windows = make_windows(make_table(sites=4, years=3), ["wet"])
    by_site = list(folds(windows, "site"))
    assert [fold.held_out.sites for fold in by_site] == [[site] for site in windows.sites]
    assert sum(len(fold.held_out) for fold in by_site) == len(windows)
    assert all(not set(fold.training.sites) & set(fold.held_out.sites) for fold in by_site)
    by_year = list(folds(windows, "year"))
    assert [set(fold.held_out.year) for fold in by_year] == [{2017}, {2018}, {2019}]
    assert {fold.unit for fold in by_year} == {"year"}
    both = list(folds(windows, "site-year"))
    assert len(both) == 12 and sum(len(fold.held_out) for fold in both) == len(windows)
    assert len(list(folds(windows, "site", groups=2))) == 2


def test_all_sets_are_scored_on_the_same_rows(make_table):
    table = make_table(sites=4)
    table.loc[table["time"].dt.month == 5, "wet"] = np.nan
    windows = common_windows(table, [WEATHER, PredictorSet("light", ("SW_IN_POT",))])
    assert len(windows["weather"]) == len(windows["light"])
    assert (windows["weather"].time == windows["light"].time).all()
    table["late"] = np.where(table["time"] >= "2018-06-01", 1.0, np.nan)
    table["wet"] = np.where(table["time"] < "2018-02-01", table["wet"], np.nan)
    with pytest.raises(UsageError, match="no overlap in time"):
        common_windows(table, [PredictorSet("late", ("late",)), PredictorSet("wet", ("wet",))])


def test_an_evaluation_scores_every_split_model_and_seed(make_table):
    models = {"ridge": ridge, "climatology": climatology}
    config = EvaluationConfig(("site", "year"), (0, 1), partitions=2, stride=5, featureless=("climatology",))
    sets = [WEATHER, PredictorSet("light", ("SW_IN_POT",))]
    found = evaluate(make_table(sites=4, years=3, noise=0.1), sets, models, config)
    assert len(found.scores) == 2 * (2 * 2 + 2)
    table = found.scores.set_index(["split", "predictors", "model", "seed"])["r2"]
    assert table["site", "weather", "ridge", 0] > table["site", "light", "ridge", 0] > 0.5
    assert table["year", "weather", "ridge", 1] > table["year", "no features", "climatology", 1]
    assert found.scores["days"].nunique() == 1


def test_components_are_fitted_on_the_training_part(make_table):
    table = make_table(sites=3)
    table["twice"] = 2 * table["wet"] + 1
    one = PredictorSet("components", ("wet", "twice", "SW_IN_POT"), ("wet", "twice"), 1)
    training, held_out = make_windows(table, one.columns).split(sites=["S1"])
    reduced, other = one.reduce(training, held_out)
    assert reduced.features == other.features == ("component_1", "SW_IN_POT")
    component, wet = reduced.daily[:, 0], training.daily[:, 0]
    assert abs(np.corrcoef(component, wet)[0, 1]) == pytest.approx(1, abs=1e-4)
    changed = table.copy()
    changed.loc[changed["site"] == "S1", "twice"] = 0
    again, _ = one.reduce(*make_windows(changed, one.columns).split(sites=["S1"]))
    here = training.covered
    np.testing.assert_allclose(again.daily[here], reduced.daily[here], rtol=1e-5)


def test_several_processes_give_the_same_predictions(make_table):
    run = partial(evaluate, make_table(sites=4), [WEATHER], {"ridge": ridge})
    one, two = (run(EvaluationConfig(partitions=2, workers=workers)) for workers in (1, 2))
    pd.testing.assert_frame_equal(one.predictions, two.predictions)


def test_sets_follow_the_columns(make_table):
    table = make_table(sites=1)
    random = np.random.default_rng(0)
    bands = {name: random.uniform(0.02, 0.4, len(table)) for name in ("B02", "B04", "B08", "VV", "VH")}
    wide = with_indices(table.assign(TA_ERA=1.0, **bands, **{f"e{index}": 0.0 for index in range(1, 4)}))
    np.testing.assert_allclose(wide["NDVI"], (wide["B08"] - wide["B04"]) / (wide["B08"] + wide["B04"]))
    found, left_out = predictor_sets(wide, ["vegetation"])
    sets = {one.name: one for one in found}
    assert left_out == []
    assert sets["indices"].columns == (*INDICES, "vegetation")
    assert sets["bands, Sentinel-1 only"].columns == ("VV", "VH", "vegetation")
    assert sets["principal components, potential radiation"].components == 3
    assert sets["embedding, meteorology, potential radiation"].columns[-2:] == ("SW_IN_POT", "vegetation")
    found, left_out = predictor_sets(table)
    assert [one.name for one in found] == ["potential radiation"]
    assert "embedding: the table has no such columns" in left_out
    with pytest.raises(UsageError, match="no columns to predict from"):
        predictor_sets(table.drop(columns=["SW_IN_POT"]))


def test_models_are_made_by_name():
    assert all(isinstance(make(3), Ensemble) and make(3).seed == 3 for make in MODELS.values())
    assert isinstance(MODELS["ridge"](0).candidates["1000"](0), RidgeLearner)


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match=r"model 'rigde': expected transformer, .*; did you mean ridge\?"):
        check_models(["boosting", "rigde"])
    with pytest.raises(
        UsageError, match=r"splitting 'sites': expected site, year, site-year, temperature; did you mean site\?"
    ):
        EvaluationConfig(splittings=("sites",))  # type: ignore[arg-type]


def test_warmer_sites_are_predicted_from_cooler_ones(make_table):
    table = make_table(sites=6)
    table["TA_ERA"] = table["site"].str[1].astype(float) + table["SW_IN_POT"] / 100
    assert warmer_sites(table) == ["S3", "S4", "S5"]
    found = evaluate(table, [WEATHER], {"ridge": ridge}, EvaluationConfig(("temperature",), stride=5))
    assert set(found.predictions["site"]) == {"S3", "S4", "S5"}
    poisoned = table.assign(gpp=table["gpp"].where(table["site"] < "S3", 30.0))
    other = evaluate(poisoned, [WEATHER], {"ridge": ridge}, EvaluationConfig(("temperature",), stride=5))
    for name in ("predicted", "lower", "upper"):
        np.testing.assert_array_equal(found.predictions[name], other.predictions[name])
    with pytest.raises(UsageError, match="no column TA_ERA or TA_F"):
        warmer_sites(table.drop(columns="TA_ERA"))


@pytest.mark.parametrize("partitions", [2, None])
def test_poison_at_an_outer_site_leaves_its_choices_and_prediction(make_table, partitions):
    def model(seed):
        return Ensemble({"10": RidgeLearner, "flat": partial(RidgeLearner, penalty=1e6)}, 2, seed, stacked=True)

    table = make_table(sites=5)
    noise = np.random.default_rng(0).uniform(0, 40, len(table))
    poisoned = table.assign(gpp=table["gpp"].where(table["site"] != "S2", noise))
    config = EvaluationConfig(partitions=partitions, stride=5)
    one, two = (
        evaluate(each, [WEATHER], {"stack": model}, config).predictions.set_index(["site", "time"])
        for each in (table, poisoned)
    )
    columns = ["predicted", "lower", "upper"]
    pd.testing.assert_frame_equal(one.loc["S2", columns], two.loc["S2", columns])
    assert not np.allclose(one.loc["S1", columns], two.loc["S1", columns])


@pytest.mark.parametrize("sites", [2, 3])
def test_fewer_than_four_sites_are_left_out_one_by_one(make_table, sites):
    told = []
    found = evaluate(
        make_table(sites=sites),
        [WEATHER],
        {"ridge": ridge},
        EvaluationConfig(partitions=3, stride=5),
        lambda *at: told.append(at),
    )
    assert found.predictions["site"].nunique() == sites
    assert f"{sites} sites, fewer than 4: each is left out by an ensemble of its own" in found.notes[0]
    assert told[0][:2] == (1, 1) and told[0][2].startswith("ridge on weather: ")


def test_models_of_photosynthesis_run_where_meteorology_is(make_table):
    table = make_table(sites=4).assign(TA_F=15.0, VPD_F=5.0, SW_IN_F=200.0)
    sets = [WEATHER, PredictorSet("meteorology", ("TA_F", "VPD_F", "SW_IN_F"))]
    config = EvaluationConfig(partitions=1, stride=20, physical=("lue",))
    found = evaluate(table, sets, {"lue": MODELS["lue"]}, config)
    assert found.scores["predictors"].tolist() == ["meteorology"]
    with pytest.raises(UsageError, match="no set of predictors has temperature"):
        evaluate(table, [WEATHER], {"lue": MODELS["lue"]}, config)


def test_too_few_sites_or_years_are_refused(make_table):
    windows = make_windows(make_table(sites=1, years=1), ["wet"])
    with pytest.raises(UsageError, match="1 sites: expected two or more"):
        list(folds(windows, "site"))
    with pytest.raises(UsageError, match="a single year, 2017"):
        list(folds(windows, "year"))
