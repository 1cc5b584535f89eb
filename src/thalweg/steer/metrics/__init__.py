"""Image metrics: differentiable functions from images to scores."""
