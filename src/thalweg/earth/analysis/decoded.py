"""Maps decoded from embeddings: a spectral index of the reference sensor, or a trait."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thalweg.earth.indices import INDICES, index_band_numbers, spectral_index
from thalweg.errors import unknown_name

if TYPE_CHECKING:
    from thalweg.earth.model.earth_model import EarthModel

MIN_REFLECTANCE = 1e-4
"""Lower bound of decoded reflectance in spectral indices, whose denominators must not vanish."""


def decoded_names() -> list[str]:
    """Return the names of the spectral indices and the traits."""
    from thalweg.earth.model.fusion import TRAITS

    return [*INDICES, *TRAITS]


def decoded_quantity(name: str) -> str:
    """Return the name of a spectral index or a trait in its usual spelling; case does not matter.

    Raises:
        UsageError: There is neither an index nor a trait of that name.
    """
    known = next((known for known in decoded_names() if known.lower() == name.lower()), None)
    if known is None:
        raise unknown_name("quantity", name, decoded_names())
    return known


def decoded_map(model: "EarthModel", vectors: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    """Decode embeddings to a spectral index of the reference sensor or to a trait.

    Args:
        model: the model that made the embeddings.
        vectors: (K, h, w), K 7 or 32, float32; NaN where there is none.
        name: as `decoded_quantity` takes it.

    Returns:
        (h, w), NaN where there is no embedding; in the units of `decoded_units`.

    Raises:
        UsageError: There is no such quantity, or the model was trained without it.
    """
    import torch

    name = decoded_quantity(name)
    with torch.inference_mode():
        embeddings = torch.from_numpy(np.array(vectors, np.float32))[None]
        if name not in INDICES:
            return np.asarray(model.decode_trait(embeddings, name)[0][0].numpy())
        bands = model.decode(embeddings, model.reference.name).clamp(min=MIN_REFLECTANCE)
        numbers = index_band_numbers(model.reference)
        values = spectral_index(name, {common: bands[:, number] for common, number in numbers.items()})
        return np.asarray(values[0].numpy())


def decoded_units(name: str) -> str:
    """Return the units of a spectral index or a trait; "1" for pure numbers."""
    from thalweg.earth.model.fusion import TRAITS

    name = decoded_quantity(name)
    return TRAITS[name].units if name in TRAITS else "1"


def has_quantity(model: "EarthModel", name: str, dimensions: int) -> bool:
    """Return whether a model decodes embeddings of so many dimensions to a quantity."""
    name = decoded_quantity(name)
    return name in INDICES or model.fusion.trait_head(name, dimensions).is_trained
