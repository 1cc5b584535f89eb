"""Targets of a counterfactual and their text form: `ndvi=0.8`, `ndvi+0.1`, `lai+1`, `spectrum:B4=0.05,B8=0.4`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.counterfactual.quantities import Quantity, quantity_by_name
from thalweg.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.earth.model.earth_model import EarthModel

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"^\s*(?P<name>[A-Za-z]\w*)\s*(?P<sign>[=+-])\s*(?P<value>{_NUMBER})\s*$")
_SPECTRUM = "spectrum:"


@dataclass(frozen=True)
class TargetText:
    """Names and amounts of a target as text, before the names are looked up.

    Attributes:
        text: the text.
        names: names of the quantities: one, or several bands of a spectrum.
        amounts: the values to reach, or to add.
        is_relative: whether `amounts` are to be added to the present values.
    """

    text: str
    names: tuple[str, ...]
    amounts: tuple[float, ...]
    is_relative: bool

    @classmethod
    def parse(cls, text: str) -> "TargetText":
        """Read `NAME=VALUE`, `NAME+VALUE`, `NAME-VALUE` or `spectrum:BAND=VALUE,BAND=VALUE`.

        Raises:
            UsageError: The text has another form.
        """
        is_spectrum = text.strip().lower().startswith(_SPECTRUM)
        parts = text.strip()[len(_SPECTRUM) :].split(",") if is_spectrum else [text]
        found = [match for match in map(_TERM.match, parts) if match is not None]
        if len(found) < len(parts) or (is_spectrum and any(term["sign"] != "=" for term in found)):
            raise UsageError(
                f"target {text!r}: expected NAME=VALUE, NAME+VALUE or NAME-VALUE such as ndvi+0.1, or a spectrum such "
                "as spectrum:B4=0.05,B8=0.4"
            )
        amounts = tuple(float(term["value"]) * (-1 if term["sign"] == "-" else 1) for term in found)
        return cls(text, tuple(term["name"] for term in found), amounts, found[0]["sign"] != "=")


@dataclass(frozen=True)
class Target:
    """Quantities and the values that they are to reach.

    Attributes:
        text: the target as text.
        quantities: one, or several bands.
        amounts: the values to reach, or to add, one per quantity.
        is_relative: whether `amounts` are to be added to the present values.
    """

    text: str
    quantities: tuple[Quantity, ...]
    amounts: tuple[float, ...]
    is_relative: bool

    @classmethod
    def read(cls, text: str, model: "EarthModel", others: Iterable[Quantity] = ()) -> "Target":
        """Read a target from its text form.

        Args:
            text: as `TargetText.parse` reads it.
            model: the Earth model whose sensors are decoded.
            others: further quantities that the text may name, such as linear probes.

        Raises:
            UsageError: The text has another form, names an unknown quantity or names a band twice.
        """
        parsed = TargetText.parse(text)
        others = list(others)
        quantities = tuple(quantity_by_name(name, model, others) for name in parsed.names)
        if len({quantity.name for quantity in quantities}) < len(quantities):
            raise UsageError(f"target {text!r}: expected distinct bands, one comes twice")
        return cls(text, quantities, parsed.amounts, parsed.is_relative)

    def measure(self, embeddings: "Tensor") -> "Tensor":
        """Return the values (Q, M) of the quantities at embeddings (Q, K, 1, 1); differentiable."""
        import torch

        return torch.stack([quantity.evaluate(embeddings)[:, 0, 0] for quantity in self.quantities], 1)

    def goals(self, values: NDArray) -> NDArray[np.floating]:
        """Return the values (M,) to reach from the present values (M,)."""
        amounts = np.array(self.amounts)
        return values + amounts if self.is_relative else amounts

    @property
    def tolerances(self) -> NDArray[np.floating]:
        """Largest differences from the goals that count as reached, (M,)."""
        return np.array([quantity.tolerance for quantity in self.quantities])
