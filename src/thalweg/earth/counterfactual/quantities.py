"""Differentiable quantities of an embedding: decoded bands, spectral indices, traits, linear probes."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.cube.names import candidates
from thalweg.earth.indices import INDICES, index_band_numbers, index_name, spectral_index
from thalweg.earth.sensors import Sensor, sensor_by_name
from thalweg.errors import MissingPathError, UsageError, unknown_name
from thalweg.io.atomic import atomic_write
from thalweg.io.json_files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from thalweg.earth.model.earth_model import EarthModel

PROBE_FORMAT = "thalweg-readout"
"""Value of `format` in the file of a linear probe."""
MIN_VECTORS_PER_DIMENSION = 10
"""Embeddings that fitting a linear probe needs for each dimension."""
MIN_REFLECTANCE = 1e-4
"""Lower bound of decoded reflectance in spectral indices, whose denominators must not vanish."""


@dataclass(frozen=True)
class Quantity:
    """Differentiable function from an embedding to one number.

    Attributes:
        name: name in targets, messages and figures.
        unit: unit of the values; "1" for pure numbers.
        evaluate: embeddings (Q, K, h, w) to values (Q, h, w), float32.
        tolerance: largest difference that counts as equal, in `unit`.
    """

    name: str
    unit: str
    evaluate: "Callable[[Tensor], Tensor]"
    tolerance: float


def find_band(sensors: Iterable[Sensor], name: str) -> tuple[Sensor, int] | None:
    """Return the sensor that has a band, and the index of the band in it; None if no sensor has it.

    Args:
        sensors: sensors to search, in order.
        name: any name that a cube may give the band, such as `B4` or `red`.
    """
    for sensor in sensors:
        for index, band in enumerate(sensor.bands):
            if candidates(sensor_by_name(sensor.name), name) == (band.name,):
                return sensor, index
    return None


def check_quantity_name(name: str, sensors: Sequence[Sensor], others: Iterable[str] = ()) -> None:
    """Check the name of a quantity without a model.

    Args:
        name: name of a spectral index, of a band, of a trait or of another quantity; case does not matter.
        sensors: sensors whose bands are decoded.
        others: names of further quantities, such as linear probes.

    Raises:
        UsageError: There is no quantity of that name; the message lists the names and the closest one.
    """
    others = list(others)
    if name.lower() in {other.lower() for other in others} or index_name(name) is not None:
        return
    if find_band(sensors, name) is None:
        from thalweg.earth.model.fusion import TRAITS

        if name.lower() not in TRAITS:
            bands = [band for sensor in sensors for band in sensor.band_names]
            raise unknown_name("target", name, [*others, *INDICES, *TRAITS, *bands])


def quantity_by_name(name: str, model: "EarthModel", others: Iterable[Quantity] = ()) -> Quantity:
    """Return a quantity by its name; case does not matter.

    Args:
        name: name of one of `others`, a spectral index (`INDICES`), a band by any name that a cube may give it, or a
            trait that the model decodes (`thalweg.earth.model.fusion.TRAITS`).
        model: the Earth model whose sensors are decoded.
        others: further quantities, such as linear probes.

    Raises:
        UsageError: There is no quantity of that name.
    """
    others = list(others)
    found = next((quantity for quantity in others if quantity.name.lower() == name.lower()), None)
    if found is not None:
        return found
    check_quantity_name(name, model.fusion.sensors, [quantity.name for quantity in others])
    index = index_name(name)
    if index is not None:
        return _index_quantity(model, index)
    band = find_band(model.fusion.sensors, name)
    return _trait_quantity(model, name.lower()) if band is None else _band_quantity(model, *band)


def _band_quantity(model: "EarthModel", sensor: Sensor, index: int) -> Quantity:
    """Return a decoded band as a quantity."""
    is_optical = sensor.units == "reflectance"

    def evaluate(embeddings: "Tensor") -> "Tensor":
        return model.decode(embeddings, sensor.name)[:, index]

    return Quantity(sensor.band_names[index], "1" if is_optical else "dB", evaluate, 0.001 if is_optical else 0.1)


def _index_quantity(model: "EarthModel", name: str) -> Quantity:
    """Return a spectral index of the decoded reference sensor as a quantity."""
    sensor = model.reference
    numbers = index_band_numbers(sensor)

    def evaluate(embeddings: "Tensor") -> "Tensor":
        bands = model.decode(embeddings, sensor.name).clamp(min=MIN_REFLECTANCE)
        return spectral_index(name, {common: bands[:, number] for common, number in numbers.items()})

    return Quantity(name, "1", evaluate, 0.001)


def _trait_quantity(model: "EarthModel", name: str) -> Quantity:
    """Return a decoded trait as a quantity, not cut to its bounds: a gradient leads away from bare soil too."""
    from thalweg.earth.model.fusion import TRAITS

    trait = TRAITS[name]

    def evaluate(embeddings: "Tensor") -> "Tensor":
        return model.decode_trait(embeddings, name, bounded=False)[0]

    return Quantity(name, trait.units, evaluate, 0.001 if trait.largest <= 1 else 0.01)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Linear probe of embeddings: a quantity that was measured in the field or simulated, as a linear function of them.

    Attributes:
        name: name of the quantity, for instance `lai`.
        unit: unit of its values.
        model: identifier of the Earth model whose embeddings it takes.
        weights: (K,), float64.
        offset: value at an embedding of zeros.
        fitted_to: description of the data it was fitted to.
    """

    name: str
    unit: str
    model: str
    weights: NDArray[np.floating]
    offset: float
    fitted_to: str = ""

    @classmethod
    def fit(
        cls, vectors: NDArray, values: NDArray, name: str, unit: str, model: str, fitted_to: str = ""
    ) -> "LinearProbe":
        """Fit a linear probe by ordinary least squares.

        Args:
            vectors: (N, K), embeddings.
            values: (N,), the quantity at each of them.
            name: name of the quantity.
            unit: unit of `values`.
            model: identifier of the Earth model that made `vectors`.
            fitted_to: description of the data.

        Raises:
            UsageError: N is less than ten times K.
        """
        count, size = vectors.shape
        if count < MIN_VECTORS_PER_DIMENSION * size:
            raise UsageError(
                f"{count} embeddings for a linear probe of {size} dimensions: expected at least "
                f"{MIN_VECTORS_PER_DIMENSION * size}"
            )
        design = np.column_stack([vectors, np.ones(count)]).astype(np.float64)
        found = np.linalg.lstsq(design, values.astype(np.float64), rcond=None)[0]
        return cls(name, unit, model, found[:-1], float(found[-1]), fitted_to)

    def predict(self, vectors: NDArray) -> NDArray[np.floating]:
        """Return the values (...) at embeddings (..., K)."""
        return np.asarray(vectors @ self.weights + self.offset)

    def check_model(self, identifier: str) -> None:
        """Raise a `UsageError` if the probe was fitted to embeddings of another Earth model than `identifier`."""
        if identifier != self.model:
            raise UsageError(f"linear probe {self.name}: fitted to {self.model}, the embeddings are of {identifier}")

    def quantity(self, model: "EarthModel") -> Quantity:
        """Return the probe as a quantity.

        Raises:
            UsageError: The probe was fitted to embeddings of another model; on evaluation, the embeddings have another
                number of dimensions.
        """
        self.check_model(model.identifier)

        def evaluate(embeddings: "Tensor") -> "Tensor":
            import torch

            if embeddings.shape[1] != len(self.weights):
                raise UsageError(
                    f"linear probe {self.name} takes {len(self.weights)} dimensions, the embeddings have "
                    f"{embeddings.shape[1]}"
                )
            weights = torch.as_tensor(self.weights, dtype=embeddings.dtype, device=embeddings.device)
            return torch.einsum("qkhw,k->qhw", embeddings, weights) + self.offset

        return Quantity(self.name, self.unit, evaluate, 0.01)

    def save(self, path: str | Path) -> Path:
        """Write the probe to a JSON file, complete or not at all."""
        record = {
            "format": PROBE_FORMAT,
            **{key: getattr(self, key) for key in ("name", "unit", "model", "offset", "fitted_to")},
            "weights": self.weights.tolist(),
        }
        return atomic_write(Path(path), (json.dumps(record, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "LinearProbe":
        """Read a probe that `save` wrote.

        Raises:
            MissingPathError: There is no such file.
            UsageError: The file holds no linear probe.
        """
        try:
            record = dict(read_json(Path(path)))
            if record.pop("format") != PROBE_FORMAT:
                raise ValueError("its format is another one")
            return cls(**{**record, "weights": np.array(record["weights"], np.float64)})
        except MissingPathError:
            raise
        except (UsageError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: not a linear probe ({error}): expected a file that LinearProbe.save wrote"
            ) from error
