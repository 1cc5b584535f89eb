"""The decoded landscape between two dates or two places: `thalweg.steer.interpolation` on Earth embeddings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.earth.counterfactual.quantities import reference_sensor
from thalweg.earth.plots import new_figure
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.steer.interpolation import path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Between:
    """A path between two places or dates, decoded.

    Attributes:
        start: the first place in words.
        end: the last one.
        embeddings: from the first to the last, at equal steps.
        pictures: (N, H, W, 3) in 0..1; 1 x 1 for a pixel.
        bands: (N, C), the reference sensor's decoded bands, means over the scene's pixels.
        band_names: (C).
    """

    start: str
    end: str
    embeddings: list[Embedding]
    pictures: NDArray[np.float32]
    bands: NDArray[np.float32]
    band_names: tuple[str, ...]


def between(generator: EarthGenerator, start: str, end: str, count: int = 7) -> Between:
    """Decode the straight path between two embeddings; pixels unseen at one end are left out.

    In between lies what the decoder makes of mixtures of the two states, which need not be states that the land passes
    through.

    Args:
        generator: with a dataset, in which the places are looked up.
        start: `COLUMN,ROW@DATE` for a pixel, or `DATE` for the whole scene.
        end: another place of the same kind.
        count: number of embeddings, both ends included.

    Raises:
        UsageError: no such places, a pixel and a scene, or scenes that were not seen anywhere on both dates.
    """
    if count < 2:
        raise UsageError(f"expected at least 2 embeddings on a path, got {count}")
    first, last = generator.embed(start), generator.embed(end)
    shapes = [tuple(one.tensors["embedding"].shape) for one in (first, last)]
    if shapes[0] != shapes[1]:
        raise UsageError(f"expected two pixels or two dates, got {start} and {end}")
    seen = torch.isfinite(first.tensors["embedding"] + last.tensors["embedding"]).all(0)
    if not bool(seen.any()):
        raise UsageError(f"no pixel was seen both on {start} and on {end}: choose other dates")
    sensor = reference_sensor(generator.earth)
    spectral = generator.showing(sensor)
    shown = seen if seen.ndim == 2 else seen[None, None]
    embeddings = path(first, last, count, method="lerp")
    pictures, bands = [], []
    with torch.inference_mode():
        for embedding in embeddings:
            pictures.append(generator.render(embedding, [0])[0].permute(1, 2, 0).numpy())
            bands.append(spectral.render(embedding, [0])[0][:, shown].mean(1).numpy())
    band_names = generator.earth.autoencoder(sensor).sensor.band_names
    names = (first.lineage.prompt, last.lineage.prompt)
    return Between(*names, embeddings, np.stack(pictures), np.stack(bands), band_names)


def draw(found: Between) -> "Figure":
    """Draw the pictures in a row, and the decoded bands along the path below them."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    count = len(found.embeddings)
    figure = new_figure(10, 5.2)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 2])[:, 0]
    shades = ScalarMappable(Normalize(-0.2 * count, 1.2 * count), "viridis")
    for step, (axis, shown) in enumerate(zip(above.subplots(1, count, squeeze=False)[0], found.pictures, strict=True)):
        axis.imshow(shown, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"{step / (count - 1):.0%} of the way", fontsize=8)
    axis = below.subplots()
    for step, values in enumerate(found.bands):
        ends = {0: found.start, count - 1: found.end}
        colour = shades.to_rgba(np.array(step))
        axis.plot(found.band_names, values, marker="o", markersize=3, color=colour, label=ends.get(step))
    axis.set_ylabel("reflectance")
    axis.legend(fontsize=8)
    return figure
