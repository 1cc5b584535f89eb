"""Decoded straight path between the embeddings of two dates or two places."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.embedding import Embedding
from thalweg.errors import UsageError
from thalweg.steer.interpolation import path


@dataclass(frozen=True, eq=False)
class DecodedPath:
    """Decoded path between the embeddings of two places or dates.

    Attributes:
        start: the first place as text.
        end: the last place as text.
        embeddings: N embeddings from the first place to the last one, at equal steps.
        previews: (N, h, w, 3), RGB previews in 0..1, float32; 1 x 1 for a pixel.
        bands: (N, C), decoded bands of the reference sensor, means over the pixels of the scene, float32.
        band_names: (C).
    """

    start: str
    end: str
    embeddings: list[Embedding]
    previews: NDArray[np.float32]
    bands: NDArray[np.float32]
    band_names: tuple[str, ...]


def decode_path(generator: EarthGenerator, start: str, end: str, count: int = 7) -> DecodedPath:
    """Decode the straight path between two embeddings.

    The embeddings in between are mixtures of both ends; the land need not pass through such states. Pixels that have
    no embedding at one of the ends are left out.

    Args:
        generator: with a dataset, in which the places are looked up.
        start: `POSITION@DATE` such as `pixel:30,12@2019-07-01` for a pixel, or `DATE` for the whole scene.
        end: another place of the same kind.
        count: number of embeddings, both ends included.

    Raises:
        UsageError: There is no such place, one place is a pixel and the other a scene, no pixel of the scene has an
            embedding on both dates, or `count` is less than 2.
    """
    if count < 2:
        raise UsageError(f"expected at least 2 embeddings on a path, got {count}")
    first, last = generator.embed(start), generator.embed(end)
    shapes = [tuple(one.tensors["embedding"].shape) for one in (first, last)]
    if shapes[0] != shapes[1]:
        raise UsageError(f"expected two pixels or two dates, got {start} and {end}")
    common = torch.isfinite(first.tensors["embedding"] + last.tensors["embedding"]).all(0)
    if not bool(common.any()):
        raise UsageError(f"no pixel has an embedding both on {start} and on {end}: choose other dates")
    sensor = generator.earth.reference.name
    spectral = generator.showing(sensor)
    pixels = common if common.ndim == 2 else common[None, None]
    embeddings = path(first, last, count, method="lerp")
    previews, bands = [], []
    with torch.inference_mode():
        for embedding in embeddings:
            previews.append(generator.render(embedding, [0])[0].permute(1, 2, 0).numpy())
            bands.append(spectral.render(embedding, [0])[0][:, pixels].mean(1).numpy())
    return DecodedPath(
        start=first.lineage.prompt,
        end=last.lineage.prompt,
        embeddings=embeddings,
        previews=np.stack(previews),
        bands=np.stack(bands),
        band_names=generator.earth.autoencoder(sensor).sensor.band_names,
    )
