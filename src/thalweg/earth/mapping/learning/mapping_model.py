"""Mapping model: a fitted learner with everything that a map needs; saved with skops, never pickled."""

import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg._version import __version__
from thalweg.earth.mapping.features.feature_plan import FeaturePlan
from thalweg.earth.mapping.learning.applicability import Applicability
from thalweg.earth.mapping.learning.estimator_checks import TREE_TYPES, check_estimator
from thalweg.earth.mapping.learning.learners import class_probabilities
from thalweg.earth.mapping.learning.single_threaded import single_threaded
from thalweg.errors import DataWarning, MissingPathError, UsageError, one_line
from thalweg.io.json_files import read_as
from thalweg.notices import warn

MODEL_FILE = "model.skops"
"""Name of the model in the folder of a map."""

_FORMAT = "thalweg-map-1"
_MAX_REASON = 160


@dataclass(frozen=True)
class MappingCard:
    """Values of a mapping model that are no arrays.

    Attributes:
        format: version of the layout.
        column: name of the labels' column.
        classes: names of the classes, in the order of their codes; empty for numbers.
        plan: features.
        learner: learner and its settings in text.
        threshold: largest score of a plausible class, or half-width of the interval around a number.
        limits: limits of the dissimilarity index.
        mean_distance: mean distance between training pixels.
        pixels: number of training pixels.
        seed: seed of the learner.
        version: version of thalweg that wrote the model.
        library: version of scikit-learn that fitted it.
    """

    format: str
    column: str
    classes: tuple[str, ...]
    plan: FeaturePlan
    learner: str
    threshold: float
    limits: tuple[float, ...]
    mean_distance: float
    pixels: int
    seed: int
    version: str
    library: str


@dataclass(frozen=True, eq=False)
class MappingModel:
    """Fitted learner of classes or numbers, with its features, its uncertainty and its training pixels.

    Attributes:
        column: name of the labels' column.
        classes: names of the classes, in the order of their codes from 1; empty for numbers.
        plan: features.
        estimator: fitted scikit-learn estimator.
        learner: learner and its settings in text.
        threshold: largest score of a plausible class, or half-width of the 90 % interval around a number.
        applicability: dissimilarity index to the training pixels.
        pixels: number of training pixels.
        seed: seed of the learner.
    """

    column: str
    classes: tuple[str, ...]
    plan: FeaturePlan
    estimator: Any
    learner: str
    threshold: float
    applicability: Applicability
    pixels: int
    seed: int

    @single_threaded()
    def predict(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the probabilities (N, C) of the classes, or the numbers (N,), of features (N, F), float32."""
        if self.classes:
            return class_probabilities(self.estimator, features, len(self.classes))
        return np.asarray(self.estimator.predict(features), np.float32)

    def with_threshold(self, threshold: float) -> "MappingModel":
        """Return the model with another threshold."""
        return replace(self, threshold=threshold)

    def save(self, path: Path) -> None:
        """Write the model to a file.

        Raises:
            OSError: The file cannot be written.
        """
        import sklearn
        from skops.io import dump

        card = MappingCard(
            format=_FORMAT,
            column=self.column,
            classes=self.classes,
            plan=self.plan,
            learner=self.learner,
            threshold=self.threshold,
            limits=self.applicability.limits,
            mean_distance=self.applicability.mean_distance,
            pixels=self.pixels,
            seed=self.seed,
            version=__version__,
            library=sklearn.__version__,
        )
        arrays = {name: getattr(self.applicability, name) for name in ("mean", "scale", "references")}
        dump({"card": json.dumps(asdict(card)), "estimator": self.estimator, **arrays}, path)

    @classmethod
    def load(cls, path: str | Path) -> "MappingModel":
        """Read a model that `save` wrote; of its parts, only known types are built.

        Args:
            path: model file, or the folder of a map that holds one.

        Raises:
            MissingPathError: There is no such file.
            UsageError: The file is no mapping model, or holds types that no mapping model has.
        """
        import sklearn
        from skops.io import get_untrusted_types, load

        path = Path(path)
        path = path / MODEL_FILE if path.is_dir() else path
        if not path.is_file():
            raise MissingPathError(f"{path}: no such mapping model: expected a folder of `thalweg earth classify`")
        try:
            foreign = sorted(set(get_untrusted_types(file=path)) - set(TREE_TYPES))
            if foreign:
                raise UsageError(
                    f"{path}: holds {', '.join(foreign):.200}: no mapping model has these, do not trust it"
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other versions of scikit-learn are reported below
                content = load(path, trusted=list(TREE_TYPES))
            card = read_as(MappingCard, json.loads(content["card"]), f"{path}: card")
            applicability = Applicability(
                content["mean"], content["scale"], content["references"], card.mean_distance, card.limits
            )
            estimator = content["estimator"]
        except UsageError:
            raise
        except Exception as error:  # skops raises many kinds on damaged files
            raise UsageError(
                f"{path}: not a mapping model ({one_line(error)[:_MAX_REASON]}): learn it again"
            ) from error
        if card.format != _FORMAT or applicability.references.shape[1:] != (card.plan.count,):
            raise UsageError(f"{path}: a mapping model of another layout ({card.format}): learn it again")
        try:
            check_estimator(estimator, card.plan.count, len(card.classes))
        except UsageError as error:
            raise UsageError(f"{path}: {error}: do not trust it, or learn it again") from error
        except (AttributeError, TypeError, ValueError, KeyError) as error:  # parts that a fitted learner has
            raise UsageError(
                f"{path}: an incomplete learner ({one_line(error)[:_MAX_REASON]}): learn it again"
            ) from error
        if card.library != sklearn.__version__:
            warn(
                DataWarning(f"{path}: fitted by scikit-learn {card.library}, read by {sklearn.__version__}"),
                stacklevel=2,
            )
        return cls(
            card.column, card.classes, card.plan, estimator, card.learner, card.threshold, applicability, card.pixels,
            card.seed,
        )  # fmt: skip
