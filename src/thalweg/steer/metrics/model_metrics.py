"""Metrics of learned models: LPIPS distance from an image, and ImageReward's score for a text."""

from torch import Tensor

from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.scorer import ImageDistance, RewardModel


def lpips(distance: ImageDistance, image: Tensor, name: str = "lpips") -> Metric:
    """Return the metric lpips: the distance from a reference image (3, H, W) in 0..1; less is better."""
    return Metric(name, lambda images: distance.distances(images, image), maximize=False)


def image_reward(model: RewardModel, text: str) -> Metric:
    """Return the metric image_reward: the score of an image for a text, which the model may read in part."""
    model.warn_of_text(text)
    return Metric(f"image_reward: {text}", lambda images: model.rewards(images, text))
