"""Answers about a map of labels: its state, its scores, and its tiles."""

from typing import Any

import numpy as np

from thalweg.app.earth import tiles
from thalweg.app.earth.labels.label_maps import LabelMap, MadeMap
from thalweg.app.earth.open_stores import OpenStore
from thalweg.earth.export.categorical import rgb
from thalweg.earth.mapping.learning.applicability import LIMIT_LEVELS
from thalweg.earth.mapping.mapping_report import class_scores, fit_areas, mapped_hectares
from thalweg.errors import UsageError


def describe_map(found: LabelMap, ahead: int) -> dict[str, Any]:
    """Return the state of a map, with its scores once it is done; JSON values only.

    Args:
        found: the map.
        ahead: number of maps that are made before it.
    """
    state = {
        "store": found.store,
        "version": found.version,
        "status": found.job.status,
        "reason": found.job.reason,
        "ahead": ahead,
        "progress": round(found.progress, 3),
    }
    return state if found.made is None else {**state, "result": _describe_result(found.made, found)}


def _describe_result(made: MadeMap, found: LabelMap) -> dict[str, Any]:
    fit, summary, model = made.result.fit, made.result.summary, made.result.model
    assert fit is not None
    scores, areas, hectares = class_scores(fit), fit_areas(fit, summary), mapped_hectares(fit.reader.dataset, summary)
    return {
        "classes": [
            {
                "name": name,
                "colour": found.colours[name],
                "f1": _number(scores.f1[index]),
                "recall": _number(scores.recall[index]),
                "precision": _number(scores.precision[index]),
                "pixels": int(scores.pixels[index]),
                "mapped": _number(areas.mapped[index] * hectares),
                "area": _number(areas.shares[index] * hectares),
                "low": _number(areas.low[index] * hectares),
                "high": _number(areas.high[index] * hectares),
            }
            for index, name in enumerate(model.classes)
        ],
        "features": model.plan.title,
        "learner": model.learner,
        "macro_f1": _number(fit.score),
        "correct": _number(scores.correct),
        "labelled_pixels": model.pixels,
        "labels": len(np.unique(fit.labels.features)),
        "blocks": {"side": fit.blocks.side, "count": fit.blocks.count, "reason": fit.blocks.reason},
        "curve": [{"share": share, "pixels": size, "score": _number(score)} for share, size, score in fit.curve],
        "coverage": _number(fit.coverage),
        "single": _number(summary.plausible[1] / max(summary.mapped, 1)),
        "beyond": [
            {"level": level, "share": _number(share)}
            for level, share in zip(LIMIT_LEVELS, summary.shares_beyond, strict=True)
        ],
        "notes": [*fit.notes, *found.job.notes],
        "polygons": made.polygons,
    }


def draw_map_tile(store: OpenStore, found: LabelMap, level: int, row: int, column: int) -> bytes:
    """Draw a tile of a map as PNG, as `tiles.draw_tile` draws the layers of a store.

    Raises:
        UsageError: The map is not done or of another store, or there is no such level or tile.
    """
    made = found.done()
    if (store.name, store.version) != (found.store, found.version):
        raise UsageError("this map is of another store, or of one that was replaced since: make it again")
    rows, columns = tiles.tile_slices(store, level, row, column, tiles.stride(store, level))
    palette = np.zeros((256, 3), np.uint8)
    for code, name in enumerate(made.result.model.classes, 1):
        palette[code] = rgb(found.colours[name])
    part = made.codes[rows, columns]
    return tiles.png(tiles.with_alpha(palette[part], part > 0))


def _number(value: float) -> float | None:
    """Return a number for JSON, rounded to four decimals; None if it is not finite."""
    return round(float(value), 4) if np.isfinite(value) else None
