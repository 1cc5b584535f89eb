"""Latents as rows: two by two latent pixels are one image token of a transformer."""

from torch import Tensor


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
