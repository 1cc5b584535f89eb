import pytest
import torch

from thalweg.errors import UsageError
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.navigation import Navigation
from thalweg.steer.navigation.prompt_edits import WordGroup
from thalweg.steer.navigation.simulated_user import DesiredImage, SimulatedUser

WORDS = (WordGroup("colour", ("red", "green", "blue", "yellow")), WordGroup("size", ("small", "large")))


def brightness(images):
    """Attribute classifier of the toy's images: whether the left half and the top half are brighter."""
    left = images[..., :8].mean(dim=(1, 2, 3)) - images[..., 8:].mean(dim=(1, 2, 3))
    top = images[..., :8, :].mean(dim=(1, 2, 3)) - images[..., 8:, :].mean(dim=(1, 2, 3))
    return {
        name: torch.stack([(20 * value).sigmoid(), (-20 * value).sigmoid()], dim=1)
        for name, value in (("left", left), ("top", top))
    }


@pytest.fixture
def target(toy):
    return DesiredImage(toy.render(toy.embed("a small blue ball"), (1,)), ("left", "top"))


def navigation(toy, recipe="preference"):
    return Navigation(toy, NavigateConfig("a red ball", (1,), recipe=recipe, groups=WORDS))


def test_the_target_is_at_no_distance_and_reached(toy, target):
    user = SimulatedUser(target, brightness)
    start = toy.render(toy.embed("a red ball"), (1,))
    assert user.reached(target.images)
    assert user.distance(target.images) < user.distance(start)


def test_the_user_chooses_the_nearest_or_none(toy, target):
    for recipe in ("preference", "random", "paper"):
        session = navigation(toy, recipe)
        user = SimulatedUser(target, brightness, error_rate=0)
        for _ in range(3):
            here = user.distance(session.images)
            shown = [user.distance(candidate.images) for candidate in session.propose(4)]
            user.take_round(session, 4)
            if min(shown) < here:
                assert session.node.choice.index == shown.index(min(shown))
                assert user.distance(session.images) <= min(shown)
            else:
                assert session.node.choice.kind == "none"


def test_without_errors_the_distance_never_grows(toy, target):
    course = SimulatedUser(target, brightness, error_rate=0).navigate(navigation(toy), 4, max_rounds=4)
    assert list(course.distances) == sorted(course.distances, reverse=True)
    assert len(course.distances) == course.rounds + 1


def test_a_target_that_is_not_reached_counts_as_max_rounds(toy):
    images = torch.zeros(1, 3, 16, 16)
    images[..., :8, 8:] = 1
    user = SimulatedUser(
        DesiredImage(images, ("left", "top")),
        lambda seen: {
            "left": torch.tensor([[0.4, 0.6]]),
            "top": torch.tensor([[0.0, 1.0] if float(seen.mean()) == 0.25 else [1.0, 0.0]]),
        },
    )
    course = user.navigate(navigation(toy, "random"), 3, max_rounds=2)
    assert (course.rounds, course.reached) == (2, False)


def test_a_target_that_is_there_takes_no_round(toy):
    target = DesiredImage(toy.render(toy.embed("a red ball"), (1,)), ("left", "top"))
    course = SimulatedUser(target, brightness).navigate(navigation(toy))
    assert (course.rounds, course.reached) == (0, True)


def test_errors_follow_their_rate_and_seed(toy, target):
    def indices(seed):
        session = navigation(toy, "random")
        user = SimulatedUser(target, brightness, error_rate=0.99, seed=seed)
        for _ in range(6):
            user.take_round(session, 4)
        return [node.choice.index for node in session.nodes.values()]

    assert indices(0) == indices(0)
    assert indices(0) != indices(1)


def test_invalid_arguments_are_refused(target):
    with pytest.raises(UsageError, match="error rate"):
        SimulatedUser(target, brightness, error_rate=1.0)
    with pytest.raises(UsageError, match="strengths"):
        SimulatedUser(target, brightness, strengths=())
    with pytest.raises(UsageError, match=r"a strength to be a number from .*, got nan"):
        SimulatedUser(target, brightness, strengths=(1.0, float("nan")))
    with pytest.raises(UsageError, match="left, top, got colour"):
        SimulatedUser(DesiredImage(target.images, ("colour",)), brightness)
