"""Simulated user: has a target image, chooses the nearest candidate; counts the rounds that a recipe needs."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.errors import UsageError
from thalweg.limits import MAX_STRENGTH, MIN_STRENGTH, check_number
from thalweg.steer.image_features import Features, image_features, pooled_features
from thalweg.steer.navigation.navigation import Navigation

Probabilities = Callable[[Tensor], Mapping[str, Tensor]]
"""Function from images (S, 3, H, W) to the probability of each value (S, K) of each attribute."""


@dataclass(frozen=True)
class DesiredImage:
    """Target of a simulated user.

    Attributes:
        images: the target's images (S, 3, H, W) in 0..1, of the seeds that the navigation shows.
        attributes: the attributes that matter; others may have any value.
    """

    images: Tensor
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedNavigation:
    """Course of a navigation by a simulated user.

    Attributes:
        rounds: choices made until the target was reached, including refusals; the largest number if it was not.
        reached: whether it was reached.
        distances: the user's distance from the target at the start and after each round.
    """

    rounds: int
    reached: bool
    distances: tuple[float, ...]


class SimulatedUser:
    """User who chooses by the distance from a target: attributes that differ, and image distance.

    The distance is 1 minus the probability of the target's value, averaged over the attributes that matter and the
    seeds, plus the image distance. The target is reached when every attribute that matters has the target's value on
    every seed: a rule on images alone, the same for every recipe.

    Args:
        target: the target.
        probabilities: attribute classifier of images.
        error_rate: fraction of rounds in which the user chooses a random candidate.
        strengths: strengths that the user tries on the chosen candidate.
        seed: seed of the errors.
        features: images to features in which image distance is measured; a distance of 1 is large.

    Raises:
        UsageError: an error rate or a strength out of range, no strengths, or an unknown attribute.
    """

    def __init__(
        self,
        target: DesiredImage,
        probabilities: Probabilities,
        error_rate: float = 0.1,
        strengths: Sequence[float] = (0.5, 1.0, 1.5),
        seed: int = 0,
        features: Features = pooled_features,
    ) -> None:
        if not 0 <= error_rate < 1:
            raise UsageError(f"expected an error rate from 0 to less than 1, got {error_rate}")
        if not strengths:
            raise UsageError("expected strengths that the user tries, got none")
        for strength in strengths:
            check_number("a strength", strength, MIN_STRENGTH, MAX_STRENGTH)
        self._attributes = target.attributes
        self._probabilities = probabilities
        self._features = features
        self._target_values = {name: row.argmax(dim=1) for name, row in self._classify(target.images).items()}
        self._target_features = image_features(target.images, features)
        self._error_rate = error_rate
        self._strengths = tuple(strengths)
        self._draws = random.Random(seed)

    def _classify(self, images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = self._probabilities(images)
        missing = [name for name in self._attributes if name not in found]
        if missing:
            raise UsageError(f"expected attributes out of {', '.join(found)}, got {missing[0]}")
        return {name: found[name] for name in self._attributes}

    def distance(self, images: Tensor) -> float:
        """Return the distance of images (S, 3, H, W) from the target."""
        misses = [
            1 - float(row.gather(1, self._target_values[name][:, None]).mean())
            for name, row in self._classify(images).items()
        ]
        image_distance = float((image_features(images, self._features) - self._target_features).norm())
        return sum(misses) / max(len(misses), 1) + image_distance

    def reached(self, images: Tensor) -> bool:
        """Return whether images (S, 3, H, W) have the target's values."""
        classified = self._classify(images)
        return all(bool((row.argmax(dim=1) == self._target_values[name]).all()) for name, row in classified.items())

    def take_round(self, navigation: Navigation, candidates: int) -> None:
        """Propose a round of candidates and make one choice."""
        shown = navigation.propose(candidates)
        if self._draws.random() < self._error_rate:
            navigation.choose(self._draws.randrange(len(shown)))
            return
        here = self.distance(navigation.images)
        distances = [self.distance(candidate.images) for candidate in shown]
        best = min(range(len(shown)), key=distances.__getitem__)
        if distances[best] >= here:
            navigation.none()
            return
        strength = min(self._strengths, key=lambda strength: self.distance(navigation.preview(best, strength)))
        navigation.choose(best, strength)

    def navigate(self, navigation: Navigation, candidates: int = 5, max_rounds: int = 12) -> SimulatedNavigation:
        """Make choices until the target is reached, at most `max_rounds`."""
        distances = [self.distance(navigation.images)]
        while not self.reached(navigation.images):
            if len(distances) > max_rounds:
                return SimulatedNavigation(max_rounds, False, tuple(distances))
            self.take_round(navigation, candidates)
            distances.append(self.distance(navigation.images))
        return SimulatedNavigation(len(distances) - 1, True, tuple(distances))
