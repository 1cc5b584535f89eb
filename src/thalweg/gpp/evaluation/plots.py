"""Figures of predicted days of a target, such as GPP, as PNG files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from thalweg.gpp.evaluation.scores import r_squared, score_by_site
from thalweg.gpp.tables.target_columns import GPP, FluxTarget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OBSERVED, _PREDICTED = "#444444", "#26706b"


def observed_against_predicted(predictions: pd.DataFrame, path: Path, title: str, target: FluxTarget = GPP) -> None:
    """Draw the density of held-out days, observed against predicted, with the line of equality."""
    figure = _figure(6.2, 5.4)
    axis = figure.subplots()
    observed, predicted = predictions["observed"].to_numpy(), predictions["predicted"].to_numpy()
    low, high = min(observed.min(), predicted.min()), max(observed.max(), predicted.max())
    cells = axis.hexbin(
        predicted, observed, gridsize=60, extent=(low, high, low, high), mincnt=1, bins="log", cmap="viridis",
        linewidths=0.1,
    )  # fmt: skip
    axis.plot([low, high], [low, high], color="black", linewidth=0.8)
    axis.set_xlabel(f"predicted {target.label}, {_math(target.units)}")
    axis.set_ylabel(f"observed {target.label}, {_math(target.units)}")
    axis.set_aspect("equal")
    axis.set_title(f"{title}\n{len(observed)} days, R$^2$ {r_squared(observed, predicted):.3f}", fontsize=10)
    figure.colorbar(cells, ax=axis, label="days", shrink=0.85)
    figure.savefig(path)


def series_by_site(
    predictions: pd.DataFrame, path: Path, title: str, level: float, target: FluxTarget = GPP, count: int = 6
) -> None:
    """Draw the series of sites between the best and the worst RMSE, with their intervals."""
    ranked = score_by_site(predictions).sort_values("rmse")
    chosen = ranked.index[np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))]
    figure = _figure(11, 1 + 1.6 * len(chosen))
    axes = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axis, site in zip(axes, chosen, strict=True):
        rows = predictions[predictions["site"] == site].sort_values("time")
        days = rows.set_index("time").reindex(pd.date_range(rows["time"].iloc[0], rows["time"].iloc[-1]))
        axis.fill_between(days.index, days["lower"], days["upper"], color=_PREDICTED, alpha=0.2, linewidth=0)
        axis.plot(days.index, days["observed"], ".", color=_OBSERVED, markersize=1.5, label="observed")
        axis.plot(days.index, days["predicted"], color=_PREDICTED, linewidth=1, label="predicted")
        axis.set_title(
            f"{site}: R$^2$ {ranked.loc[site, 'r2']:.2f}, RMSE {ranked.loc[site, 'rmse']:.2f}", loc="left", fontsize=9
        )
    axes[0].legend(ncols=2, fontsize=8, loc="upper right")
    figure.supylabel(f"{target.label}, {_math(target.units)}", fontsize=9)
    figure.suptitle(f"{title}; bands are {level:.0%} intervals", fontsize=10)
    figure.savefig(path)


def error_by_month(predictions: pd.DataFrame, path: Path, title: str, target: FluxTarget = GPP) -> None:
    """Draw RMSE and bias by calendar month."""
    error = predictions["predicted"] - predictions["observed"]
    by_month = error.groupby(predictions["time"].dt.month)
    months = by_month.mean().index
    figure = _figure(7, 3.6)
    axis = figure.subplots()
    axis.bar(months, by_month.apply(lambda part: float(np.sqrt(np.square(part).mean()))), color="#a9c9c6", label="RMSE")
    axis.plot(months, by_month.mean(), color=_OBSERVED, marker="o", markersize=4, label="bias")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xticks(range(1, 13), list("JFMAMJJASOND"))
    axis.set_ylabel(f"error, {_math(target.units)}")
    axis.legend(fontsize=8)
    axis.set_title(title, fontsize=10)
    figure.savefig(path)


def _math(units: str) -> str:
    """Return units with their exponents raised."""
    return re.sub(r"-\d", r"$^{\g<0>}$", units)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=110)
