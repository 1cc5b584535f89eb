"""State of a fitted learner as JSON settings, arrays and files, so that any model is saved without pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from thalweg.errors import UsageError


@dataclass(frozen=True)
class LearnerState:
    """Everything that a fitted learner predicts from.

    Attributes:
        kind: Name of the learner, a key of `checkpoint.LEARNERS`.
        settings: Settings that JSON holds.
        arrays: Arrays by name, for safetensors.
        files: Contents of files in the native format of a library, by the file's name.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def join(cls, kind: str, parts: "Mapping[str, LearnerState]", settings: dict[str, Any]) -> "LearnerState":
        """Return the state of a learner that is made of other learners.

        Args:
            kind: Name of the learner.
            parts: States of its parts by name.
            settings: Settings of its own; the name `parts` is taken.
        """
        return cls(
            kind,
            {**settings, "parts": {name: {"kind": part.kind, **part.settings} for name, part in parts.items()}},
            {f"{name}.{key}": array for name, part in parts.items() for key, array in part.arrays.items()},
            {f"{name}.{key}": content for name, part in parts.items() for key, content in part.files.items()},
        )

    def part(self, name: str) -> "LearnerState":
        """Return the state of one part of a joined state.

        Raises:
            KeyError: There is no such part.
        """
        settings = dict(self.settings["parts"][name])
        prefix = f"{name}."

        def own(values: dict[str, Any]) -> dict[str, Any]:
            return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}

        return LearnerState(settings.pop("kind"), settings, own(self.arrays), own(self.files))


def dump_estimator(estimator: Any) -> bytes:
    """Return a fitted scikit-learn estimator in the format of skops."""
    from skops.io import dumps

    content: bytes = dumps(estimator)
    return content


def load_estimator(content: bytes, features: int) -> Any:
    """Read an estimator of `dump_estimator`; types that no learner of this package has are not built.

    Args:
        content: Content of the file.
        features: Number of features that the estimator has to take.

    Raises:
        UsageError: The estimator is of another type, takes other features, or has a damaged tree.
    """
    import warnings

    from skops.io import get_untrusted_types, loads

    from thalweg.earth.mapping.learning.estimator_checks import TREE_TYPES, check_estimator

    foreign = sorted(set(get_untrusted_types(data=content)) - set(TREE_TYPES))
    if foreign:
        raise UsageError(f"holds {', '.join(foreign):.200}: no learner has these")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other versions of scikit-learn
        estimator = loads(content, trusted=list(TREE_TYPES))
    check_estimator(estimator, features, 0)
    return estimator
