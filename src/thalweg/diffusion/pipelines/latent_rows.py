"""Latents as rows: two by two latent pixels are one image token of a transformer."""

from torch import Tensor

from thalweg.diffusion.pipeline import PipelineAdapter


class PackedLatents(PipelineAdapter):
    """Pipeline whose transformer takes latents as rows of two by two latent pixels."""

    patch = 2

    @property
    def channels(self) -> int:
        """Number of channels of the latents, before two by two latent pixels become one row."""
        return self.network.config.in_channels // 4

    @property
    def trained_size(self) -> tuple[int, int]:
        """Rows and columns of the latents that the model was trained for."""
        return self.pipeline.default_sample_size, self.pipeline.default_sample_size


def to_rows(latents: Tensor) -> Tensor:
    """Return rows (S, h/2 * w/2, 4 C) of latents (S, C, h, w)."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(count, -1, channels * 4)


def to_latents(rows: Tensor, like: Tensor) -> Tensor:
    """Return latents of the shape (S, C, h, w) of `like` from rows (S, h/2 * w/2, 4 C)."""
    count, channels, height, width = like.shape
    patches = rows.reshape(count, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(like.shape)
