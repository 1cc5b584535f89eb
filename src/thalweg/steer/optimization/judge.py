"""Judge of an optimization: a metric that no gradient sees, and that must not fall."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from thalweg.steer.metrics.metric import Metric


def half_resolution(metric: Metric) -> Metric:
    """Return the metric on images at half their resolution, resampled to their size.

    What raises a score by the pattern of single pixels alone, as adversarial images do, does not raise this one.
    """

    def score(images: Tensor) -> Tensor:
        small = functional.avg_pool2d(images, 2, ceil_mode=True)
        return metric(functional.interpolate(small, size=images.shape[2:], mode="bilinear"))

    return replace(metric, name=f"{metric.name} at half resolution", score=score)
