"""What a what-if is asked for, in words: `ndvi=0.8`, `ndvi+0.1`, `lai+1`, `spectrum:B4=0.05,B8=0.4`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.earth.counterfactual.quantities import Quantity, by_name
from thalweg.earth.model.earth_model import EarthModel
from thalweg.errors import UsageError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ONE = re.compile(rf"^\s*(?P<name>[A-Za-z]\w*)\s*(?P<sign>[=+-])\s*(?P<value>{_NUMBER})\s*$")
_SPECTRUM = "spectrum:"


@dataclass(frozen=True)
class Target:
    """Quantities and where they are to be.

    Attributes:
        text: as it was asked for.
        quantities: one, or several bands.
        amounts: the values asked for, or what is to be added.
        relative: whether `amounts` are to be added.
    """

    text: str
    quantities: tuple[Quantity, ...]
    amounts: tuple[float, ...]
    relative: bool

    @classmethod
    def read(cls, text: str, model: EarthModel, given: Mapping[str, Quantity]) -> "Target":
        """Read a target.

        Args:
            text: `NAME=VALUE`, `NAME+VALUE`, `NAME-VALUE`, or `spectrum:BAND=VALUE,BAND=VALUE`.
            model: whose decoded bands are meant.
            given: further quantities by name, such as read-outs.

        Raises:
            UsageError: not of that form, or an unknown name.
        """
        is_spectrum = text.strip().lower().startswith(_SPECTRUM)
        parts = text.strip()[len(_SPECTRUM) :].split(",") if is_spectrum else [text]
        found = [_ONE.match(part) for part in parts]
        if not all(found) or (is_spectrum and any(one is not None and one["sign"] != "=" for one in found)):
            raise UsageError(
                f"target {text!r}: expected NAME=VALUE, NAME+VALUE or NAME-VALUE such as ndvi+0.1, or a spectrum such "
                "as spectrum:B4=0.05,B8=0.4"
            )
        known = [one for one in found if one is not None]
        quantities = tuple(by_name(one["name"], model, given) for one in known)
        names = [quantity.name for quantity in quantities]
        if len(set(names)) < len(names):
            raise UsageError(f"target {text!r}: expected distinct bands, one comes twice")
        amounts = tuple(float(one["value"]) * (-1 if one["sign"] == "-" else 1) for one in known)
        return cls(text, quantities, amounts, known[0]["sign"] != "=")

    def measure(self, embeddings: Tensor) -> Tensor:
        """Embeddings (Q, K, 1, 1) to the quantities' values (Q, M); differentiable."""
        return torch.stack([quantity.of(embeddings)[:, 0, 0] for quantity in self.quantities], 1)

    def goals(self, values: NDArray) -> NDArray[np.floating]:
        """Where the quantities are to be (M,), from where they are (M,)."""
        amounts = np.array(self.amounts)
        return values + amounts if self.relative else amounts

    @property
    def tolerances(self) -> NDArray[np.floating]:
        """Differences from the goals that do not matter (M,)."""
        return np.array([quantity.tolerance for quantity in self.quantities])
