"""The miniature: a small text-to-image model that ships with the package; its world and its training."""
