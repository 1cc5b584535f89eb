"""A simulated user: wants one image, sees candidates, chooses the nearest; measures how many rounds a recipe takes."""

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
"""Images (S, 3, H, W) to the probability of each value (S, K) of each attribute."""


@dataclass(frozen=True)
class DesiredImage:
    """What a user wants to see.

    Attributes:
        images: the images wanted (S, 3, H, W), of the seeds that the navigation shows.
        attributes: the attributes that matter; what the others show is left open.
    """

    images: Tensor
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Walk:
    """How a navigation with a simulated user went.

    Attributes:
        rounds: choices made until the target was reached, "none" among them; the cap where it was not.
        reached: whether it was reached.
        distances: the user's distance from the target at the start and after each round.
    """

    rounds: int
    reached: bool
    distances: tuple[float, ...]


class SimulatedUser:
    """Chooses by distance to a target: attributes that differ, and image distance.

    The distance is 1 minus the probability of the target's value, mean over the attributes that matter and the seeds,
    plus the image distance. The target is reached when every attribute that matters reads as in the target, on every
    seed: a rule on images alone, the same whatever made them.

    Args:
        target: what the user wants.
        probabilities: reads attributes off images.
        error_rate: share of rounds in which the user takes any candidate at all, without looking.
        strengths: positions of the slider that the user tries on the candidate chosen.
        seed: of the user's errors.
        features: in which image distance is measured; 1 is far.
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
        self._wanted = {name: row.argmax(dim=1) for name, row in self._read(target.images).items()}
        self._look = image_features(target.images, features)
        self._error_rate = error_rate
        self._strengths = tuple(strengths)
        self._draws = random.Random(seed)

    def _read(self, images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = self._probabilities(images)
        missing = [name for name in self._attributes if name not in found]
        if missing:
            raise UsageError(f"expected attributes out of {', '.join(found)}, got {missing[0]}")
        return {name: found[name] for name in self._attributes}

    def distance(self, images: Tensor) -> float:
        """Return how far images (S, 3, H, W) are from the target."""
        misses = [
            1 - float(row.gather(1, self._wanted[name][:, None]).mean()) for name, row in self._read(images).items()
        ]
        apart = float((image_features(images, self._features) - self._look).norm())
        return sum(misses) / max(len(misses), 1) + apart

    def reached(self, images: Tensor) -> bool:
        """Return whether images (S, 3, H, W) show what the target shows."""
        read = self._read(images)
        return all(bool((row.argmax(dim=1) == self._wanted[name]).all()) for name, row in read.items())

    def take_round(self, navigation: Navigation, candidates: int) -> None:
        """Look at a round of candidates and make one choice."""
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

    def walk(self, navigation: Navigation, candidates: int = 5, cap: int = 12) -> Walk:
        """Make choices until the target is reached, at most `cap`."""
        distances = [self.distance(navigation.images)]
        while not self.reached(navigation.images):
            if len(distances) > cap:
                return Walk(cap, False, tuple(distances))
            self.take_round(navigation, candidates)
            distances.append(self.distance(navigation.images))
        return Walk(len(distances) - 1, True, tuple(distances))
