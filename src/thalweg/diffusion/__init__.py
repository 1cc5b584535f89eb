"""Text-to-image models as generators, with exact gradients through the whole denoising chain."""
