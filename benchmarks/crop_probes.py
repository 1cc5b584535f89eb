"""Probes of crop type at a site with labels: from one date, and from a series with few labels."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

BLOCK_SIDE = 8
MIN_CLASS_PIXELS = 50
FEW_SHOT_DATES, FEW_SHOT_LABELS, FEW_SHOT_DRAWS = 12, 5, 20


def labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Crop type (H, W) and the pixels that count (H, W): classes of more than 50 pixels."""
    with xr.open_dataset(folder / "labels.nc", engine="h5netcdf", mask_and_scale=False) as labels:
        crop = labels.ct.values.astype(int)
    counts = {code: int((crop == code).sum()) for code in np.unique(crop)}
    return crop, np.isin(crop, [code for code, count in counts.items() if code and count > MIN_CLASS_PIXELS])


def blocks_of(shape: tuple[int, int], side: int) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows // side) * 1000 + columns // side


def single_date_probe(embedding: np.ndarray, crop: np.ndarray, use: np.ndarray, learner: Any) -> float:
    """Median over every sixth date of the macro F1 from the embedding of one date; embedding (T, H, W, K).

    Standardised, 5 folds over blocks of 8 x 8 px.
    """
    groups = blocks_of(crop.shape, BLOCK_SIDE)[use]
    scores = []
    for date in range(8, len(embedding) - 5, 6):
        pipeline = make_pipeline(StandardScaler(), learner)
        guess = cross_val_predict(pipeline, embedding[date][use], crop[use], groups=groups, cv=GroupKFold(5))
        scores.append(f1_score(crop[use], guess, average="macro"))
    return float(np.median(scores))


def few_shot(embedding: np.ndarray, crop: np.ndarray, use: np.ndarray) -> float:
    """Macro F1 from series with 5 labelled pixels per class, mean of 20 draws; embedding (T, H, W, K).

    A series has 12 dates, evenly over the clear dates. Pixels in the blocks of 8 x 8 px that hold a label are not
    tested; F1 is the mean over the classes that remain.
    """
    dates = np.linspace(0, len(embedding) - 1, FEW_SHOT_DATES).round().astype(int)
    series = np.moveaxis(embedding[dates], 0, 2)[use].reshape(use.sum(), -1)
    truth, blocks = crop[use], blocks_of(crop.shape, BLOCK_SIDE)[use]
    scores = []
    for draw in range(FEW_SHOT_DRAWS):
        random = np.random.default_rng(draw)
        shown = np.concatenate(
            [random.choice(np.flatnonzero(truth == c), FEW_SHOT_LABELS, replace=False) for c in np.unique(truth)]
        )
        tested = ~np.isin(blocks, blocks[shown])
        learner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400)).fit(series[shown], truth[shown])
        guess = learner.predict(series[tested])
        scores.append(f1_score(truth[tested], guess, average="macro", labels=np.unique(truth[tested])))
    return float(np.mean(scores))
