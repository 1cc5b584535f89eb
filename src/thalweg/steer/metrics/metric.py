"""Metrics: differentiable functions from images to scores, each with a name, a direction and a unit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thalweg.errors import UsageError
from thalweg.limits import MAX_WEIGHT, check_number

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A score for each image of a batch, and the direction that is better.

    Metrics can be added (`sharpness() + 0.5 * contrast()`), subtracted and multiplied. In a sum each metric keeps its
    own direction: adding a metric to be minimised to one to be maximised subtracts its score.

    Attributes:
        name: the metric as a user writes it.
        score: a function from images (S, channels, H, W) in 0..1, float, to scores (S), float.
        maximize: whether more is better.
        unit: the score's unit; "1" for pure numbers.
        channels: channels of the images; other than 3 for generators that show a sensor's bands or a map.
    """

    name: str
    score: Callable[[Any], Any]
    maximize: bool = True
    unit: str = "1"
    channels: int = 3

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is better."""
        return 1 if self.maximize else -1

    def __call__(self, images: "Tensor") -> "Tensor":
        """Return the scores (S) of images (S, channels, H, W) in 0..1.

        Raises:
            UsageError: the images or the scores have another shape.
        """
        import torch

        if images.ndim != 4 or images.shape[1] != self.channels:
            raise UsageError(f"expected images (S, {self.channels}, H, W), got {tuple(images.shape)}")
        scores = self.score(images)
        if not isinstance(scores, torch.Tensor) or scores.shape != images.shape[:1]:
            got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise UsageError(f"metric {self.name}: expected a tensor of {len(images)} scores, one per image, got {got}")
        return scores

    def __add__(self, other: "Metric") -> "Metric":
        """Return the sum of both metrics, which has this metric's direction."""
        sign = self.sign * other.sign
        unit = self.unit if self.unit == other.unit else "mixed"
        return Metric(
            f"{self.name} + {other.name}",
            lambda images: self(images) + sign * other(images),
            self.maximize,
            unit,
            self.channels,
        )

    def __sub__(self, other: "Metric") -> "Metric":
        """Return the sum of this metric and the reverse of the other."""
        both = self + -1 * other
        return replace(both, name=f"{self.name} - {_bracketed(other.name)}")

    def __mul__(self, other: "Metric | float") -> "Metric":
        """Return a weighted metric, or the product of two metrics of the same direction.

        Raises:
            UsageError: the two metrics have opposite directions, or the weight is out of range.
        """
        if not isinstance(other, Metric):
            weight = check_number("a metric's weight", other, -MAX_WEIGHT, MAX_WEIGHT)
            name = f"{weight:g}*{_bracketed(self.name)}"
            return replace(self, name=name, score=lambda images: weight * self(images))
        if self.maximize != other.maximize:
            raise UsageError(f"expected metrics of one direction in a product, got {self.name} and {other.name}")
        units = [unit for unit in (self.unit, other.unit) if unit != "1"]
        return Metric(
            f"{_bracketed(self.name)}*{_bracketed(other.name)}",
            lambda images: self(images) * other(images),
            self.maximize,
            " ".join(units) or "1",
            self.channels,
        )

    __rmul__ = __mul__


def _bracketed(name: str) -> str:
    return f"({name})" if " + " in name or " - " in name else name


def metric(
    score: "Callable[[Tensor], Tensor]", name: str, maximize: bool = True, unit: str = "1", channels: int = 3
) -> Metric:
    """Make a metric of any function from images to scores.

    Args:
        score: images (S, channels, H, W) in 0..1, float, to scores (S), float; differentiable for optimizers that
            use gradients.
        name: the metric's name in reports.
        maximize: whether more is better.
        unit: the score's unit.
        channels: channels of the images.

    Raises:
        UsageError: when the metric is called, for images or scores of another shape.
    """
    return Metric(name, score, maximize, unit, channels)
