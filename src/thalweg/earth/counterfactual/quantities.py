"""What can be read from an embedding and has a gradient: decoded bands, spectral indices, fitted read-outs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.earth.cube.names import candidates
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.sensors import sensor_by_name
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write

INDICES = ("NDVI", "NIRv", "EVI", "kNDVI")
"""Spectral indices that are offered by name; their formulas are spyndex's."""
_COMMON_NAMES = {"B02": "B", "B04": "R", "B08": "N"}
_CONSTANTS = {"g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0}
READOUT_FORMAT = "thalweg-readout"


@dataclass(frozen=True)
class Quantity:
    """A differentiable function from embeddings to one number each.

    Attributes:
        name: what people call it.
        unit: of its values; "1" for pure numbers.
        of: embeddings (Q, K, h, w) to values (Q, h, w).
        tolerance: a difference that does not matter, in its unit.
    """

    name: str
    unit: str
    of: Callable[[Tensor], Tensor]
    tolerance: float


def decoded(model: EarthModel, sensor: str, embeddings: Tensor) -> Tensor:
    """Decode what a sensor sees on the embedding's own date.

    Args:
        model: the Earth model.
        sensor: one of its sensors.
        embeddings: (Q, K, h, w), K 7 or 32.

    Returns:
        (Q, C, h, w) in the sensor's units (reflectance as a fraction, dB), differentiable.
    """
    days = embeddings.new_zeros(len(embeddings), 1)
    low, high = model.autoencoder(sensor).sensor.value_range
    scaled = model.decode(embeddings, sensor, days, embeddings.shape[1])[:, 0]
    return scaled * (high - low) + low


def reference_sensor(model: EarthModel) -> str:
    """Name of the sensor that sets the dates."""
    return next(sensor.name for sensor in model.fusion.sensors if sensor.is_reference)


def band(model: EarthModel, name: str) -> Quantity:
    """A decoded band by any name that a cube may give it, such as `B4` or `red`.

    Raises:
        UsageError: no sensor of the model has it.
    """
    for sensor in model.fusion.sensors:
        for index, known in enumerate(sensor.bands):
            if candidates(sensor_by_name(sensor.name), name) == (known.name,):
                is_optical = sensor.units == "reflectance"

                def of(embeddings: Tensor, sensor: str = sensor.name, index: int = index) -> Tensor:
                    return decoded(model, sensor, embeddings)[:, index]

                return Quantity(known.name, "1" if is_optical else "dB", of, 0.001 if is_optical else 0.1)
    bands = " ".join(band for sensor in model.fusion.sensors for band in sensor.band_names)
    raise UsageError(f"band {name!r}: the model's sensors have {bands}")


def index(model: EarthModel, name: str) -> Quantity:
    """A spectral index of the decoded reference sensor; `name` is one of `INDICES`, in any case."""
    import spyndex

    known = next(own for own in INDICES if own.lower() == name.lower())
    sensor = reference_sensor(model)
    bands = model.autoencoder(sensor).sensor.band_names

    def of(embeddings: Tensor) -> Tensor:
        seen = decoded(model, sensor, embeddings).clamp(min=1e-4)
        named: dict[str, Any] = {common: seen[:, bands.index(own)] for own, common in _COMMON_NAMES.items()}
        if known == "kNDVI":  # with the kernel's width at half the sum of both bands, it is tanh(NDVI^2)
            return torch.tanh(((named["N"] - named["R"]) / (named["N"] + named["R"])) ** 2)
        value: Tensor = spyndex.computeIndex(known, params={**named, **_CONSTANTS})
        return value

    return Quantity(known, "1", of, 0.001)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear read-out of embeddings: what a field campaign, or a simulator, says they mean.

    Attributes:
        name: what it reads, for instance `lai`.
        unit: of its values.
        model: identifier of the Earth model whose embeddings it reads.
        weights: (K,).
        offset: its value at an embedding of zeros.
        fitted_to: what it was fitted to, in words.
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
        """Fit by ordinary least squares to embeddings (N, K) and what was measured there (N,).

        Raises:
            UsageError: fewer vectors than ten for each value of the embedding.
        """
        count, size = vectors.shape
        if count < 10 * size:
            raise UsageError(f"{count} embeddings to fit a read-out of {size} values: expected at least {10 * size}")
        design = np.column_stack([vectors, np.ones(count)]).astype(np.float64)
        found = np.linalg.lstsq(design, values.astype(np.float64), rcond=None)[0]
        return cls(name, unit, model, found[:-1], float(found[-1]), fitted_to)

    def predict(self, vectors: NDArray) -> NDArray[np.floating]:
        """(..., K) embeddings to values (...)."""
        return np.asarray(vectors @ self.weights + self.offset)

    def quantity(self, model: EarthModel) -> Quantity:
        """The read-out as a quantity; `UsageError` where it reads another model's embeddings."""
        if model.identifier != self.model:
            raise UsageError(f"read-out {self.name}: of {self.model}, the embeddings are of {model.identifier}")

        def of(embeddings: Tensor) -> Tensor:
            if embeddings.shape[1] != len(self.weights):
                raise UsageError(
                    f"read-out {self.name} reads {len(self.weights)} values, the embeddings have {embeddings.shape[1]}"
                )
            weights = torch.as_tensor(self.weights, dtype=embeddings.dtype, device=embeddings.device)
            return torch.einsum("qkhw,k->qhw", embeddings, weights) + self.offset

        return Quantity(self.name, self.unit, of, 0.01)

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, whole or not at all."""
        record = {
            "format": READOUT_FORMAT,
            **{key: getattr(self, key) for key in ("name", "unit", "model", "offset", "fitted_to")},
            "weights": self.weights.tolist(),
        }
        return atomic_write(Path(path), (json.dumps(record, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "LinearProbe":
        """Read what `save` wrote; `UsageError` where the file is no read-out."""
        try:
            record = json.loads(Path(path).read_text())
            if record.pop("format") != READOUT_FORMAT:
                raise ValueError("its format is another one")
            return cls(**{**record, "weights": np.array(record["weights"], np.float64)})
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{path}: not a read-out ({error}): expected a file of Readout.save") from error


def by_name(name: str, model: EarthModel, given: Mapping[str, Quantity]) -> Quantity:
    """A quantity by name: one of those given, a spectral index, or a band.

    Raises:
        UsageError: there is none of that name.
    """
    key = name.lower()
    for own, quantity in given.items():
        if own.lower() == key:
            return quantity
    if key in {known.lower() for known in INDICES}:
        return index(model, name)
    if key in ("lai", "gpp"):
        need = "a read-out of it (--readout FILE)" if key == "lai" else "a GPP model (--gpp MODEL)"
        raise UsageError(f"target {name!r}: give {need}; the shipped weights bring none")
    try:
        return band(model, name)
    except UsageError as error:
        raise UsageError(f"target {name!r}: expected {', '.join([*given, *INDICES])} or a band ({error})") from error
