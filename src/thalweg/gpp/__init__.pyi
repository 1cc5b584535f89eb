from .data.features import FeatureRecipe, daily_features, join_flux, tower_table, write_table
from .data.fluxnet import FluxConfig, read_flux
from .evaluation.protocol import Evaluation, EvaluationConfig, evaluate
from .evaluation.report import write_report
from .flux.wind_records import read_wind
from .footprint.footprint import Tower
from .footprint.kljun import TowerHeights
from .models.checkpoint import GppModel, load_model
from .models.predictors import PredictorSet, predictor_sets
from .models.registry import MODELS
from .predict import MapJob, predict_map, predict_series
from .tables.daily_table import daily_table
from .train import train_model

__all__ = [
    "MODELS",
    "Evaluation",
    "EvaluationConfig",
    "FeatureRecipe",
    "FluxConfig",
    "GppModel",
    "MapJob",
    "PredictorSet",
    "Tower",
    "TowerHeights",
    "daily_features",
    "daily_table",
    "evaluate",
    "join_flux",
    "load_model",
    "predict_map",
    "predict_series",
    "predictor_sets",
    "read_flux",
    "read_wind",
    "tower_table",
    "train_model",
    "write_report",
    "write_table",
]
