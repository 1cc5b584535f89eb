"""One linear probe over whatever stores it is given: this package's, AlphaEarth, TESSERA, on one file of labels.

    python benchmarks/earth_compare.py NAME=STORE [NAME=STORE ...] --labels LABELS --column COLUMN

The protocol is the same for all stores. A sample is a feature of the labels (a point or a polygon): the mean over its
pixels of what a store has there, on a calendar or on one date. Only features with a finite sample in every store count.
The probe is the logistic regression of `thalweg earth classify`, its regularisation chosen on the training blocks.
Folds are whole blocks of --block metres of the map, the same for all stores (by default, the side that the labels ask
for on the first store's pixels). Keys: `features`, `classes`, `blocks`, `block_metres`; and per store NAME:
`NAME_macro_f1`, `NAME_accuracy`, `NAME_dimensions`, `NAME_values` (numbers per sample), `NAME_pixel_metres`,
`NAME_dates`.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common import report
from thalweg.earth.foreign.opening import open_grid
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.labels.geometry_files import read_geometries
from thalweg.earth.mapping.labels.label_pixels import LabelPixels, label_pixels
from thalweg.earth.mapping.learning.cross_validation import cross_validate, score
from thalweg.earth.mapping.learning.learners import learners
from thalweg.earth.mapping.learning.spatial_blocks import MIN_BLOCKS, SpatialBlocks
from thalweg.earth.positions import dataset_geobox
from thalweg.errors import UsageError

if TYPE_CHECKING:
    import geopandas
    import xarray as xr

LEARNER = "logistic"


@dataclass(frozen=True, eq=False)
class StoreSamples:
    """Samples of a store.

    Attributes:
        dataset: the store.
        plan: what is taken of each pixel.
        pixels: labelled pixels.
        numbers: (N,), numbers of the features with a finite sample, rising.
        values: (N, F), their samples.
    """

    dataset: "xr.Dataset"
    plan: FeaturePlan
    pixels: LabelPixels
    numbers: NDArray[np.int64]
    values: NDArray[np.float32]


def samples(
    dataset: "xr.Dataset", labels: "geopandas.GeoDataFrame", column: str, calendar: str | None, date: str | None
) -> StoreSamples:
    """Return the mean of each labelled feature's pixels.

    Args:
        dataset: embeddings on a grid.
        labels: points and polygons.
        column: column of the classes.
        calendar: calendar of stores that can be interpolated.
        date: date of stores with several; those with one date have that.

    Raises:
        UsageError: The labels or dates are not usable.
    """
    has_one_date = dataset.sizes["time"] == 1
    is_calendar = "uncertainty" in dataset and not has_one_date and date is None
    plan = FeaturePlan.of(dataset, calendar if is_calendar else None, None if has_one_date else date)
    pixels = label_pixels(dataset, labels, column, True)
    found = plan.reader(dataset).pixels(pixels.rows, pixels.columns)
    known = np.isfinite(found).all(1)
    numbers, index = np.unique(pixels.features[known], return_inverse=True)
    total = np.zeros((len(numbers), plan.count), np.float64)
    np.add.at(total, index, found[known])
    means = total / np.bincount(index, minlength=len(numbers))[:, None]
    return StoreSamples(dataset, plan, pixels, numbers, means.astype(np.float32))


def map_blocks(
    labels: "geopandas.GeoDataFrame", numbers: NDArray[np.int64], first: StoreSamples, metres: float | None
) -> tuple[NDArray[np.int64], float]:
    """Return the block of each feature (N,), and the side of the blocks in metres.

    Args:
        labels: the labels.
        numbers: features to divide.
        first: samples whose grid and labels give the map and, by default, the side.
        metres: side of a block.

    Raises:
        UsageError: Too few blocks have labels.
    """
    if metres is None:
        metres = SpatialBlocks.of(first.pixels).side * float(first.dataset.attrs["geoemb:gsd"])
    points = labels.geometry.iloc[numbers].to_crs(str(dataset_geobox(first.dataset).crs)).representative_point()
    cells = np.floor(np.column_stack([points.y, points.x]) / metres)
    groups = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    if groups.max() + 1 < MIN_BLOCKS:
        raise UsageError(
            f"the labels lie in {groups.max() + 1} block(s) of {metres:g} m: expected at least {MIN_BLOCKS}: choose "
            "smaller blocks, or label more places"
        )
    return groups, metres


def compare(
    stores: dict[str, "xr.Dataset"],
    labels: "geopandas.GeoDataFrame",
    column: str,
    calendar: str | None = None,
    date: str | None = None,
    metres: float | None = None,
) -> dict[str, Any]:
    """Return the scores of the probe on every store.

    Args:
        stores: embeddings on grids, by name.
        labels: points and polygons with classes.
        column: column of the classes.
        calendar: as `samples` takes it.
        date: as `samples` takes it.
        metres: side of a block; chosen by default.

    Raises:
        UsageError: The labels, dates or blocks are not usable, or no feature has a sample in every store.
    """
    found = {name: samples(dataset, labels, column, calendar, date) for name, dataset in stores.items()}
    common = set.intersection(*({*one.numbers.tolist()} for one in found.values()))
    numbers = np.array(sorted(common), np.int64)
    if not len(numbers):
        raise UsageError("no labelled feature has an embedding in every store: choose stores of one place")
    classes, values = np.unique(labels[column].astype(str).to_numpy()[numbers], return_inverse=True)
    groups, side = map_blocks(labels, numbers, next(iter(found.values())), metres)
    results: dict[str, Any] = {
        "features": len(numbers),
        "classes": len(classes),
        "blocks": int(groups.max()) + 1,
        "block_metres": float(side),
    }
    candidates = learners(LEARNER, True, int(np.bincount(values).min()))
    for name, one in found.items():
        features = one.values[np.searchsorted(one.numbers, numbers)]
        predicted = cross_validate(features, values, groups, candidates, len(classes), 0).predicted
        known = np.isfinite(predicted[:, 0])
        results |= {
            f"{name}_macro_f1": score(values[known], predicted[known], len(classes)),
            f"{name}_accuracy": float((predicted[known].argmax(1) == values[known]).mean()),
            f"{name}_dimensions": one.plan.dimensions,
            f"{name}_values": one.plan.count,
            f"{name}_pixel_metres": float(one.dataset.attrs["geoemb:gsd"]),
            f"{name}_dates": len(one.plan.days),
        }
    return results


def named_stores(arguments: list[str]) -> dict[str, Path]:
    """Return the paths of NAME=STORE by name.

    Raises:
        UsageError: One has another form, or a name occurs twice.
    """
    stores: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or not name.isidentifier() or not path:
            raise UsageError(f"{argument}: expected NAME=STORE, with a name of letters, digits and _")
        if name in stores:
            raise UsageError(f"{argument}: a second store named {name}: choose another name")
        stores[name] = Path(path)
    return stores


def main() -> None:
    """Compare the stores of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+", help="NAME=STORE, as thalweg.open takes a store")
    parser.add_argument("--labels", type=Path, required=True, help="points or polygons with classes")
    parser.add_argument("--column", required=True, help="column of the classes")
    parser.add_argument("--calendar", help="calendar of stores with an uncertainty; P15D by default")
    parser.add_argument("--date", help="date of stores with several, instead of a calendar")
    parser.add_argument("--block", type=float, help="side of a block in metres")
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    given = parser.parse_args()
    stores = {name: open_grid(path) for name, path in named_stores(given.stores).items()}
    labels = read_geometries(given.labels)
    report(compare(stores, labels, given.column, given.calendar, given.date, given.block), given.json)


if __name__ == "__main__":
    main()
