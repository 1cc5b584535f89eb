"""Model folders on disk: their files, weights and identity."""
