import json
from itertools import combinations, islice

import pytest
import torch
from PIL import Image

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.navigation.candidates import MAX_RATIO
from thalweg.steer.navigation.navigate_config import NavigateConfig
from thalweg.steer.navigation.navigation import Navigation
from thalweg.steer.navigation.prompt_edits import GROUPS, PromptTemplate, WordGroup
from thalweg.steer.navigation.proposals import Origin, PromptNeighbourhood, draw_prompts, near_prompts, prompt_endpoint

PROMPT = "a red ball"
FEW = (WordGroup("colour", ("red", "green", "blue")), WordGroup("place", (" on the left", " on the right"), False))


def make_config(recipe="preference", **more):
    return NavigateConfig(PROMPT, (3, 4), recipe=recipe, **{"groups": FEW, **more})


def make_choices(navigation):
    """A few choices of every kind."""
    navigation.propose(4)
    navigation.choose(2, 1.5)
    navigation.propose(4)
    navigation.none()
    navigation.propose(3)
    navigation.choose(0)
    navigation.undo()
    navigation.fork()
    navigation.propose(4)
    navigation.choose(1, 0.5)
    return [node.embedding.hash for node in navigation.nodes.values()]


def test_candidates_have_equal_image_distances_and_differ(toy):
    candidates = Navigation(toy, make_config(groups=GROUPS, renders=5)).propose(5)
    assert len(candidates) == 5
    distances = [candidate.distance for candidate in candidates]
    assert max(distances) / min(distances) < MAX_RATIO**2
    differences = [float((one.features - other.features).norm()) for one, other in combinations(candidates, 2)]
    assert min(differences) > 0.3 * max(distances)


def test_a_given_step_is_kept(toy):
    candidates = Navigation(toy, make_config(step=0.03, renders=6)).propose(4)
    assert all(candidate.distance == pytest.approx(0.03, rel=0.3) for candidate in candidates)


def test_one_by_one_each_candidate_costs_one_render(toy):
    navigation = Navigation(toy, make_config(groups=GROUPS, one_by_one=True))
    assert navigation.images is not None  # rendered once
    before = toy.calls
    first = next(navigation.candidates(5))
    assert toy.calls - before == toy.steps * len(navigation.config.seeds)
    shown = navigation.propose(5)
    assert shown[0] is first
    assert len(shown) == 5
    assert toy.calls - before == 5 * toy.steps * len(navigation.config.seeds)
    navigation.none()
    assert all(candidate.weight == 0.5 for candidate in navigation.propose(3))


def test_a_choice_among_the_candidates_found_so_far_is_deterministic(toy, tmp_path):
    navigation = Navigation(toy, make_config(one_by_one=True), tmp_path / "run")
    list(islice(navigation.candidates(4), 2))
    navigation.choose(1)
    navigation.propose(4)
    navigation.none()
    assert len(navigation.nodes[1].round.labels) == 2
    navigation.replay()
    Navigation.open(tmp_path / "run", toy).replay()


def test_after_a_choice_its_image_is_not_rendered_again(toy):
    navigation = Navigation(toy, make_config())
    navigation.propose(3)
    navigation.choose(0)
    before = toy.calls
    assert navigation.images is not None
    assert toy.calls == before


def test_nodes_are_returned_to_and_named(toy, tmp_path):
    navigation = Navigation(toy, make_config(), tmp_path / "run")
    navigation.propose(3)
    navigation.choose(0)
    navigation.name(1, " the  good one ")
    navigation.name(0, "start")
    navigation.name(0, "")
    navigation.go(0)
    again = Navigation.open(tmp_path / "run", toy)
    assert (again.node.number, dict(again.names)) == (0, {1: "the good one"})
    for wrong in (navigation.go, lambda number: navigation.name(number, "x")):
        with pytest.raises(UsageError, match="from 0 to 1, got 7"):
            wrong(7)


def test_frozen_entries_do_not_move(toy):
    for recipe in ("preference", "paper", "random"):
        navigation = Navigation(toy, make_config(recipe))
        navigation.propose(3)
        navigation.choose(1, 1.5)
        row = navigation.current.tensors["prompt"][0]
        assert torch.equal(row, toy.embed(PROMPT).tensors["prompt"][0])
        assert not torch.equal(navigation.current.tensors["prompt"], toy.embed(PROMPT).tensors["prompt"])


def test_choosing_moves_to_the_candidate_or_nearer_or_beyond(toy):
    navigation = Navigation(toy, make_config())
    candidate = navigation.propose(4)[1]
    previewed = navigation.preview(1, 0.5)
    half = navigation.choose(1, 0.5)
    assert torch.equal(previewed, navigation.images)
    navigation.undo()
    navigation.propose(4)
    whole = navigation.choose(1)
    assert whole.hash == candidate.embedding.hash
    assert half.hash != whole.hash


@pytest.mark.parametrize("recipe", ["preference", "paper", "random"])
def test_the_same_choices_give_the_same_embeddings(toy, recipe):
    assert make_choices(Navigation(toy, make_config(recipe))) == make_choices(Navigation(toy, make_config(recipe)))


def test_another_seed_gives_other_candidates(toy):
    for recipe in ("paper", "random"):
        first, second = (Navigation(toy, make_config(recipe, seed=seed)).propose(3) for seed in (0, 1))
        assert {one.embedding.hash for one in first}.isdisjoint(one.embedding.hash for one in second)


def test_after_none_there_are_other_candidates(toy):
    navigation = Navigation(toy, make_config(groups=GROUPS))
    before = {candidate.embedding.hash for candidate in navigation.propose(4)}
    navigation.none()
    assert navigation.current.hash == toy.embed(PROMPT).hash
    assert len(before & {candidate.embedding.hash for candidate in navigation.propose(4)}) <= 1


def test_after_none_candidates_are_nearer_with_fewer_edits(toy):
    navigation = Navigation(toy, make_config(groups=GROUPS))
    navigation.propose(5)
    navigation.choose(0)

    def changes(label):
        there, here = PromptTemplate.of(label).words, navigation.node.words
        return sum(there.get(group.name) != here.get(group.name) for group in GROUPS)

    distances, most = [], []
    for _ in range(3):
        shown = navigation.propose(5)
        distances.append(max(candidate.distance for candidate in shown))
        most.append(max(changes(candidate.label) for candidate in shown if candidate.label.startswith("a")))
        navigation.none()
    assert distances[2] < distances[0]
    assert most[0] <= 3
    assert most[1] <= 2
    assert most[2] == 1


def test_a_near_prompt_keeps_moves_without_words(toy):
    template = PromptTemplate.of(PROMPT, FEW)
    neighbourhood = PromptNeighbourhood(toy, template)
    prompt = toy.embed(PROMPT)
    extra = 0.3 * torch.ones_like(prompt.tensors["prompt"])
    extra[0] = 0  # the model keeps it frozen
    current = prompt.derive({"prompt": prompt.tensors["prompt"] + extra}, "mixed")
    plan = next(
        plan for plan in near_prompts(neighbourhood, template.words, 1, 0) if plan.template.text == "a blue ball"
    )
    origin = Origin(current, template.words, neighbourhood.point(template.words))
    endpoint = prompt_endpoint(neighbourhood, origin, plan)
    wanted = toy.embed("a blue ball").tensors["prompt"] + extra
    torch.testing.assert_close(endpoint.embedding.tensors["prompt"], wanted)
    assert endpoint.words == {"colour": "blue"}


def test_undone_choices_are_not_learned_from_and_the_same_choice_leads_to_the_same_node(toy):
    navigation = Navigation(toy, make_config())
    navigation.propose(4)
    navigation.choose(1)
    shown = [candidate.embedding.hash for candidate in navigation.propose(4)]
    navigation.undo()
    navigation.propose(4)
    navigation.choose(0)
    navigation.undo()
    navigation.propose(4)
    navigation.choose(1)
    assert len(navigation.nodes) == 3
    assert [candidate.embedding.hash for candidate in navigation.propose(4)] == shown


def test_a_fork_begins_a_branch_with_other_candidates(toy):
    navigation = Navigation(toy, make_config("random"))
    first = [candidate.embedding.hash for candidate in navigation.propose(3)]
    navigation.choose(0)
    navigation.fork(0)
    assert navigation.current.hash == toy.embed(PROMPT).hash
    second = [candidate.embedding.hash for candidate in navigation.propose(3)]
    assert set(first).isdisjoint(second)
    navigation.fork(0)
    assert navigation.node.number == 3


def test_choices_change_the_words_of_the_prompt(toy):
    navigation = Navigation(toy, make_config())
    labels = [candidate.label for candidate in navigation.propose(4)]
    index = next(index for index, label in enumerate(labels) if label.startswith("a "))
    navigation.choose(index, 2.0)
    assert PromptTemplate("a ball", navigation.node.words, FEW).text == labels[index]


def test_a_navigation_is_one_folder_and_resumes_from_it(toy, tmp_path):
    folder = tmp_path / "run"
    navigation = Navigation(toy, make_config(), folder)
    hashes = make_choices(navigation)
    shown = [candidate.embedding.hash for candidate in navigation.propose(4)]
    record = json.loads((folder / "tree.json").read_text())
    assert [node["hash"] for node in record["nodes"]] == hashes
    assert Embedding.load(folder / record["nodes"][1]["embedding"], toy.model).hash == hashes[1]
    for name in ("current", "candidate-4"):
        assert Image.open(folder / f"rounds/000/{name}.png").size == (2 * 18 - 2, 16)  # one image per seed
    assert Image.open(folder / "rounds/000/sheet.png").size == (5 * 198 - 6, 2 * 218 - 6)
    opened = Navigation.open(folder, toy)
    assert opened.config == navigation.config
    assert opened.node.number == navigation.node.number
    assert [candidate.embedding.hash for candidate in opened.propose(4)] == shown
    opened.replay()


def test_images_of_many_seeds_are_in_rows(toy, tmp_path):
    navigation = Navigation(toy, NavigateConfig("a ball", (0, 1, 2, 3, 4), one_by_one=True), tmp_path / "run")
    next(iter(navigation.candidates(1)))
    for name in ("current", "candidate-1"):
        assert Image.open(tmp_path / f"run/rounds/000/{name}.png").size == (3 * 18 - 2, 2 * 18 - 2)


def test_replay_notices_a_change(toy):
    navigation = Navigation(toy, make_config("random"))
    make_choices(navigation)
    toy.paint = toy.paint.flip(0)
    with pytest.raises(ThalwegError, match=r"node \d came out differently"):
        navigation.replay()


def test_it_starts_from_an_embedding(toy):
    start = toy.embed("a green cube")
    navigation = Navigation(toy, make_config(), start=start)
    assert navigation.current.hash == start.hash
    assert len(navigation.propose(3)) == 3


def test_other_features_measure_other_distances(toy):
    colours = Navigation(toy, make_config(step=0.05, renders=6), features=lambda images: images.mean(dim=(2, 3)))
    start = colours.images.mean(dim=(2, 3))
    for candidate in colours.propose(3):
        moved = (candidate.images.mean(dim=(2, 3)) - start).square().sum(dim=1).mean().sqrt()
        assert float(moved) == pytest.approx(candidate.distance, rel=1e-5)


def test_the_paper_policy_chooses_diverse_prompts_of_its_500(toy):
    navigation = Navigation(toy, make_config("paper"))
    first = [candidate.label for candidate in navigation.propose(5)]
    assert len(draw_prompts(0)) == 500
    assert set(first) <= set(draw_prompts(0))
    navigation.none()
    assert set(first).isdisjoint(candidate.label for candidate in navigation.propose(5))


def test_a_model_that_ignores_the_embedding_is_refused(toy):
    toy.paint = toy.paint * 0
    with pytest.raises(ThalwegError, match="no direction changes the images"):
        Navigation(toy, make_config()).propose(3)


def test_invalid_arguments_raise_a_one_line_error(toy, tmp_path):
    navigation = Navigation(toy, make_config(), tmp_path / "run")
    for call, message in (
        (lambda: navigation.choose(0), "none were proposed"),
        (navigation.none, "none were proposed"),
        (navigation.undo, "this is the start"),
        (lambda: navigation.fork(7), "a node from 0 to 0"),
        (lambda: navigation.propose(0), "a whole number from 1 to 64, got 0"),
        (lambda: NavigateConfig(PROMPT, (-1,)), "0 or more"),
        (lambda: NavigateConfig(PROMPT, recipe="magic"), "'preference', 'paper', 'random'"),
        (lambda: NavigateConfig(PROMPT, method="spline"), "'lerp', 'slerp', 'transport'"),
        (lambda: NavigateConfig(PROMPT, step=0.0), "above 0"),
        (lambda: NavigateConfig(PROMPT, groups=(FEW[0], FEW[0])), "distinct names"),
        (lambda: Navigation(toy, make_config(), tmp_path / "run"), "new or empty"),
        (lambda: Navigation.open(tmp_path / "none", toy), "found no run.json"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    navigation.propose(3)
    for call in (lambda: navigation.choose(3), lambda: navigation.choose(-1), lambda: navigation.choose(0, 0.0)):
        with pytest.raises(UsageError, match=r"expected (a|the) "):
            call()


def test_a_changed_or_foreign_folder_is_refused(toy, tmp_path):
    folder = tmp_path / "run"
    make_choices(Navigation(toy, make_config("random"), folder))
    toy.embed("a green cube").save(folder / "nodes/001.safetensors")
    with pytest.raises(UsageError, match="the run was changed"):
        Navigation.open(folder, toy)
    (folder / "tree.json").write_text("{}")
    with pytest.raises(UsageError, match="can't be read"):
        Navigation.open(folder, toy)
    toy.model = ModelIdentity("other", "1" * 64)
    with pytest.raises(UsageError, match="load that model"):
        Navigation.open(folder, toy)


def test_nan_in_the_embedding_is_refused(toy):
    start = toy.embed(PROMPT)
    broken = start.derive({"prompt": start.tensors["prompt"] * float("nan")}, "broken")
    with pytest.raises(ThalwegError, match="NaN"):
        Navigation(toy, make_config(), start=broken).propose(3)


@pytest.mark.parametrize(
    ("prompt", "words", "text"),
    [
        ("a ball", {"colour": "orange"}, "an orange ball"),
        ("an orange ball", {"colour": "red", "size": "small"}, "a small red ball"),
        ("a photo of a ball", {"backdrop": " on a teal background"}, "a photo of a ball on a teal background"),
        ("red cube on a white background", {"colour": "blue"}, "blue cube on a white background"),
        ("a glossy ball", {"surface": None}, "a ball"),
        ("two cats", {"style": ", pastel"}, "two cats, pastel"),
    ],
)
def test_prompts_are_edited(prompt, words, text):
    assert PromptTemplate.of(prompt).edited(words).text == text


def test_the_text_of_a_template_is_its_prompt():
    for prompt in ("a ball", "a small red ball on a white background", "an image of the cat at night, pastel", ""):
        assert PromptTemplate.of(prompt).text == prompt
    assert len({near.text for near in PromptTemplate.of("a red ball").variations()}) == len(
        PromptTemplate.of("a red ball").variations()
    )


class Directed:
    """The toy with named directions and without text: prompts are names that it knows."""

    def __init__(self, toy):
        self.toy = toy
        self.model = toy.model

    def embed(self, prompt):
        if prompt != "home":
            raise UsageError(f"no place {prompt}")
        return self.toy.embed("a red ball")

    def render(self, embedding, seeds):
        return self.toy.render(embedding, seeds)

    def trainable_masks(self, embedding):
        return self.toy.trainable_masks(embedding)

    def directions(self, embedding):
        shape = embedding.tensors["prompt"].shape
        moves = {"east": torch.ones(shape), "up": torch.eye(*shape), "north": torch.eye(*shape).flip(1)}
        moves |= {f"against {name}": -move for name, move in moves.items()}
        return {name: {"prompt": move} for name, move in moves.items()}


def test_a_generator_without_words_is_navigated_along_its_directions(toy, tmp_path):
    navigation = Navigation(Directed(toy), NavigateConfig("home", (3, 4)), tmp_path / "run")
    labels = {candidate.label.removeprefix("against ") for candidate in navigation.propose(3)}
    assert labels <= {"east", "up", "north"}
    visited = make_choices(navigation)
    navigation.replay()
    again = Navigation.open(tmp_path / "run", Directed(toy))
    assert [node.embedding.hash for node in again.nodes.values()] == visited
    assert torch.equal(navigation.current.tensors["negative"][0], toy.embed("a").tensors["negative"][0])
