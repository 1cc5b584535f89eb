import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg.diffusion import DiffusionGenerator, miniature
from thalweg.diffusion.miniature import renderer
from thalweg.diffusion.miniature.renderer import ATTRIBUTES
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import NotFiniteError, ThalwegError, UsageError
from thalweg.seeds import check_seeds
from thalweg.steer.imprinting.aspect import VOCABULARIES, Aspect, vocabulary
from thalweg.steer.imprinting.aspect_features import choose_aspect, mask_aspect, text_aspect, whole_aspect
from thalweg.steer.imprinting.imprint import draw_seeds, imprint
from thalweg.steer.imprinting.imprint_config import ImprintConfig
from thalweg.steer.imprinting.seed_invariant import LatentObjective, RepeatedMove
from thalweg.steer.imprinting.stochastic_descent import STATE
from thalweg.steer.imprinting.textual_inversion import save_textual_inversion
from thalweg.steer.runs import Run

SIDE = 16
COLOURS = torch.tensor([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]])
NAMES = ("red", "green", "blue")
RED = 0
"""A seed whose disc is clearly red."""
FAST: dict[str, Any] = {"iterations": 16, "batch": 4, "held_out": 8, "evaluate_every": 4, "radius": 0.5}


class Discs:
    """Generator of discs: a seed gives a colour and a position, the embedding shifts both."""

    model = ModelIdentity("discs", "1" * 64)

    def embed(self, prompt: str) -> Embedding:
        return Embedding({"prompt": torch.zeros(2, 5)}, Lineage(self.model, prompt))

    def trainable_masks(self, embedding: Embedding) -> Mapping[str, Tensor]:
        return {"prompt": torch.tensor([[False], [True]])}

    def render(self, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        leanings = torch.stack(
            [torch.randn(5, generator=torch.Generator().manual_seed(seed)) for seed in check_seeds(seeds)]
        )
        leanings = leanings + embedding.tensors["prompt"][1]
        colour = (3 * leanings[:, :3]).softmax(1) @ COLOURS
        middle = torch.sigmoid(leanings[:, 3:]) * SIDE
        line = torch.arange(SIDE) + 0.5
        across, down = line[None, None] - middle[:, 0, None, None], line[None, :, None] - middle[:, 1, None, None]
        cover = torch.sigmoid(8 - across.square() - down.square())[:, None]
        return cover * colour[:, :, None, None] + (1 - cover) * 0.5


class DiscScorer:
    """Scorer of discs: colours are three dimensions of its space, the disc's position two others."""

    def embed_text(self, text: str) -> Tensor:
        vector = torch.tensor([float(name in text) for name in NAMES] + [0.3, 0.3])
        return vector / vector.norm()

    def embed_images(self, images: Tensor) -> Tensor:
        difference = images - 0.5
        weight = difference.abs().sum(1)
        total = weight.sum((1, 2))
        colour = (difference * weight[:, None]).sum((2, 3)) / total[:, None]
        line = (torch.arange(SIDE) + 0.5) / SIDE
        place = torch.stack([(weight.sum(1) @ line) / total, (weight.sum(2) @ line) / total], dim=1)
        return torch.cat([colour, place], dim=1)


@pytest.fixture
def discs() -> Discs:
    return Discs()


def colour_aspect() -> Aspect:
    return text_aspect("colour", [f"a {name} disc" for name in NAMES], DiscScorer())


def test_unseen_seeds_take_the_colour_of_one_seed_and_keep_their_place(discs: Discs) -> None:
    settings = FAST | {"iterations": 24, "radius": 3}
    result = imprint(discs, discs.embed("a disc"), ImprintConfig(RED, keep=colour_aspect(), **settings, unseen=64))
    report = result.report
    assert report["share_before"] < 0.6
    assert report["share_after"] > 0.95
    assert report["shows"] == "a red disc"
    assert report["distance_after"] < 0.5 * report["distance_before"]
    assert 0.9 < report["diversity_kept"] < 1.1
    assert report["rest_moved"] < 0.3
    assert result.embedding.lineage.operation == "imprint"
    assert torch.equal(result.embedding.tensors["prompt"][0], torch.zeros(5))
    colour, place = result.embedding.tensors["prompt"][1].split([3, 2])
    assert colour.abs().max() > 5 * place.abs().max()


def test_without_an_aspect_everything_is_copied(discs: Discs) -> None:
    settings = FAST | {"iterations": 24, "radius": 3}
    result = imprint(discs, discs.embed("a disc"), ImprintConfig(RED, **settings, unseen=64), scorer=DiscScorer())
    assert result.report["aspect"] == "everything"
    assert result.report["distance_after"] < 0.8 * result.report["distance_before"]
    assert "diversity_kept" not in result.report
    assert result.embedding.tensors["prompt"][1, 3:].abs().max() > 0.3


def test_a_mask_copies_the_inside_and_keeps_the_outside(toy: Any) -> None:
    mask = torch.zeros(16, 16)
    mask[:, :8] = 1
    start = toy.embed("a ball")
    kept, free = (
        imprint(toy, start, ImprintConfig(3, **(FAST | {"rest_weight": weight}), unseen=16), mask=mask).report
        for weight in (1.0, 0.0)
    )
    assert kept["aspect"] == "mask"
    assert kept["distance_after"] < 0.9 * kept["distance_before"]
    assert kept["rest_moved"] < 0.7 * free["rest_moved"]


def test_results_are_deterministic_and_depend_on_the_random_seed(toy: Any) -> None:
    start = toy.embed("a ball")
    first, second = (imprint(toy, start, ImprintConfig(3, **FAST, unseen=4)) for _ in range(2))
    assert first.embedding.hash == second.embedding.hash
    assert first.trace == second.trace
    other = imprint(toy, start, ImprintConfig(3, **(FAST | {"random_seed": 1}), unseen=4))
    assert other.embedding.hash != first.embedding.hash


def test_the_trust_region_binds(toy: Any) -> None:
    result = imprint(
        toy, toy.embed("a ball"), ImprintConfig(3, **(FAST | {"radius": 0.05, "step_length": 1.0}), unseen=4)
    )
    assert 0 < result.trace[-1]["drift"] <= 0.05 * 1.0001


@pytest.mark.parametrize("mode", ["image", "token", "paper"])
def test_an_interrupted_run_resumes_with_the_same_result(toy: Any, tmp_path, mode) -> None:
    start = toy.embed("a ball")
    settings = {"iterations": 12, "evaluate_every": 4} if mode == "paper" else FAST | {"iterations": 12}

    def begin(folder: str) -> Run:
        return Run.create(tmp_path / folder, "imprint", toy.model, {})

    whole = imprint(toy, start, ImprintConfig(3, mode=mode, **settings, unseen=4), run=begin("whole"))
    steps = 0

    def cut(row: Mapping[str, Any]) -> None:
        nonlocal steps
        steps += 1
        if steps == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imprint(toy, start, ImprintConfig(3, mode=mode, **settings, unseen=4), run=begin("cut"), progress=cut)
    assert not (tmp_path / "cut" / "report.json").exists()
    run = Run.open(tmp_path / "cut", "imprint", toy.model)
    calls = 0

    def count(row: Mapping[str, Any]) -> None:
        nonlocal calls
        calls += 1

    resumed = imprint(toy, start, ImprintConfig(3, mode=mode, **settings, unseen=4), run=run, progress=count)
    assert calls == 8
    assert resumed.embedding.hash == whole.embedding.hash
    assert resumed.trace == whole.trace
    assert resumed.report == whole.report


def test_a_run_folder_holds_all_files(toy: Any, tmp_path) -> None:
    from PIL import Image

    run = Run.create(tmp_path, "imprint", toy.model, {})
    result = imprint(toy, toy.embed("a ball"), ImprintConfig(3, **FAST, unseen=10), run=run)
    assert Embedding.load(tmp_path / "embedding.safetensors", toy.model).hash == result.embedding.hash
    assert json.loads((tmp_path / "report.json").read_text()) == result.report
    with (tmp_path / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, len(result.trace) + 1))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (9 * 198 - 6, 2 * 218 - 6)


def test_a_run_of_other_settings_is_refused(toy: Any, tmp_path) -> None:
    start = toy.embed("a ball")
    run = Run.create(tmp_path, "imprint", toy.model, {})
    imprint(toy, start, ImprintConfig(3, **FAST, unseen=4), run=run)
    with pytest.raises(UsageError, match="began with target_seed 3, asked for is 4"):
        imprint(toy, start, ImprintConfig(4, **FAST, unseen=4), run=run)
    (tmp_path / STATE).write_bytes(b"broken")
    with pytest.raises(UsageError, match="can't be read"):
        imprint(toy, start, ImprintConfig(3, **FAST, unseen=4), run=run)


def break_after(toy: Any, count: int) -> None:
    """Let all but the first `count` renderings with a gradient be NaN."""
    decode, left = toy.decode, iter([True] * count)

    def broken(latents: Tensor) -> Tensor:
        images = decode(latents)
        return images * torch.nan if images.requires_grad and not next(left, False) else images

    toy.decode = broken


@pytest.mark.parametrize(("count", "kept"), [(6, "the best, of step 4,"), (0, "the start")])
def test_nan_stops_and_keeps_the_best(toy: Any, count: int, kept: str) -> None:
    start = toy.embed("a ball")
    break_after(toy, count)
    result = imprint(toy, start, ImprintConfig(3, **FAST, unseen=4))
    assert result.report["stopped"] == f"NaN or infinity: loss at step {count + 1}; {kept} is kept"
    assert len(result.trace) == count + 1
    result.embedding.check_finite()
    assert torch.equal(result.embedding.tensors["prompt"], start.tensors["prompt"]) == (count == 0)


def test_a_model_that_raises_not_finite_stops_and_keeps_the_best(toy: Any, tmp_path: Path) -> None:
    decode, left = toy.decode, iter([True] * 6)

    def refusing(latents: Tensor) -> Tensor:
        images = decode(latents)
        if images.requires_grad and not next(left, False):
            raise NotFiniteError("seed 3: NaN")
        return images

    toy.decode = refusing
    run = Run.create(tmp_path / "run", "imprint", toy.model, {})
    result = imprint(toy, toy.embed("a ball"), ImprintConfig(3, **FAST, unseen=4), run=run)
    assert result.report["stopped"] == "step 7: seed 3: NaN; the best, of step 4, is kept"
    assert len(result.trace) == 6
    result.embedding.check_finite()
    assert (run.folder / "report.json").is_file()


def test_a_feature_that_ignores_the_embedding_is_refused(toy: Any) -> None:
    noise = torch.rand(100, 2)
    blind = Aspect("blind", lambda images: noise[: len(images)] + 0 * images.sum((1, 2, 3))[:, None])
    with pytest.raises(ThalwegError, match="gradient is zero"):
        imprint(toy, toy.embed("a ball"), ImprintConfig(3, keep=blind, **FAST))
    detached = Aspect("detached", lambda images: images.detach().flatten(1))
    with pytest.raises(UsageError, match="without gradient"):
        imprint(toy, toy.embed("a ball"), ImprintConfig(3, keep=detached, **FAST))
    constant = Aspect("constant", lambda images: 0 * images.flatten(1))
    with pytest.raises(UsageError, match="nothing to imprint"):
        imprint(toy, toy.embed("a ball"), ImprintConfig(3, keep=constant, **FAST))


def test_invalid_seeds(toy: Any) -> None:
    start = toy.embed("a ball")
    with pytest.raises(UsageError, match=r"seed 3 is the target.*training"):
        imprint(
            toy,
            start,
            ImprintConfig(
                3,
                seeds=(
                    1,
                    2,
                    3,
                ),
                **FAST,
            ),
        )
    with pytest.raises(UsageError, match=r"seed 3 is the target.*unseen"):
        imprint(
            toy,
            start,
            ImprintConfig(
                3,
                unseen=(
                    3,
                    4,
                ),
                **FAST,
            ),
        )
    with pytest.raises(UsageError, match="got 4 among both"):
        imprint(
            toy,
            start,
            ImprintConfig(
                3,
                seeds=(
                    4,
                    5,
                ),
                unseen=(4,),
                **FAST,
            ),
        )
    with pytest.raises(UsageError, match="seeds of 0 or more"):
        imprint(toy, start, ImprintConfig(-1, **FAST))
    with pytest.raises(UsageError, match="distinct"):
        imprint(
            toy,
            start,
            ImprintConfig(
                3,
                seeds=(
                    4,
                    4,
                ),
                **FAST,
            ),
        )


def test_only_the_given_training_seeds_are_used(toy: Any) -> None:
    rendered: set[int] = set()
    render = toy.render

    def watched(embedding: Embedding, seeds: Sequence[int]) -> Tensor:
        images = render(embedding, seeds)
        if images.requires_grad:
            rendered.update(seeds)
        return images

    toy.render = watched
    imprint(toy, toy.embed("a ball"), ImprintConfig(3, seeds=tuple(range(10, 20)), **FAST, unseen=4))
    assert rendered <= set(range(10, 20))
    assert len(rendered) > 5


def test_drawn_seeds_are_never_excluded_ones() -> None:
    first = draw_seeds(8, 0, "step 1", ())
    assert draw_seeds(8, 0, "step 1", ()) == first
    assert draw_seeds(8, 0, "step 2", ()) != first
    again = draw_seeds(8, 0, "step 1", first[:3])
    assert again[:5] == first[3:]
    assert len(set(again)) == 8


def test_invalid_aspects() -> None:
    with pytest.raises(UsageError, match="needs a scorer"):
        choose_aspect("the colour", None, None)
    with pytest.raises(UsageError, match="one of `keep` and `mask`"):
        choose_aspect("the colour", torch.ones(4, 4), DiscScorer())
    with pytest.raises(UsageError, match=r"no known aspect.*colour, background"):
        vocabulary("the mood")
    with pytest.raises(UsageError, match="colour and shape"):
        vocabulary("shape and color")
    with pytest.raises(UsageError, match="two or more texts"):
        text_aspect("red", ["red", "red"], DiscScorer())
    with pytest.raises(UsageError, match=r"mask \(H, W\)"):
        mask_aspect(torch.ones(1, 4, 4))
    with pytest.raises(UsageError, match=r"values in 0..1"):
        mask_aspect(torch.zeros(4, 4))
    with pytest.raises(UsageError, match="images' size"):
        mask_aspect(torch.ones(4, 4)).kept(torch.rand(1, 3, 8, 8))


def test_a_text_aspect_splits_the_scorers_space() -> None:
    aspect = colour_aspect()
    images = Discs().render(Discs().embed(""), range(6))
    seen = DiscScorer().embed_images(images)
    assert aspect.rest is not None
    assert aspect.kept(images).shape == (6, 2)
    whole = aspect.kept(images).square().sum(1) + aspect.rest(images).square().sum(1)
    torch.testing.assert_close(whole, seen.square().sum(1))
    assert aspect.read is not None
    assert [text.split()[1] for text in aspect.read(images)] == [NAMES[best] for best in seen[:, :3].argmax(1)]
    assert vocabulary("keep the color").texts[0] == "a red object"
    assert whole_aspect(DiscScorer()).kept(images).shape == (6, 5)


def test_the_published_mode_repeats_one_vector_and_grows_the_noise(toy: Any) -> None:
    start = toy.embed("a ball")
    result = imprint(toy, start, ImprintConfig(3, mode="paper", unseen=4, **{"iterations": 12, "evaluate_every": 4}))
    rows = result.embedding.tensors["prompt"]
    assert torch.equal(rows[0], start.tensors["prompt"][0])
    assert (rows[1:] == rows[1]).all()
    assert torch.equal(result.embedding.tensors["negative"], start.tensors["negative"])
    objective = LatentObjective(toy, start, 3, [1], 12)
    first = objective.loss(start, [7], 0)
    torch.testing.assert_close(first, torch.tensor(-1e4), rtol=2e-3, atol=0)  # nearly the target's own noise
    last = objective.loss(start, [7], 3)
    own = toy.latents(start, toy.noise([7]), 1).flatten(1)
    target = toy.latents(start, toy.noise([3]), 1).flatten(1)
    torch.testing.assert_close(last, -1e4 * torch.cosine_similarity(own, target).sum())


def test_the_published_mode_needs_rows_and_a_chain(discs: Discs, toy: Any) -> None:
    with pytest.raises(UsageError, match="latents between steps"):
        imprint(discs, discs.embed("a disc"), ImprintConfig(5, mode="paper"))
    pooled = Embedding({"pooled": torch.zeros(4)}, Lineage(toy.model))
    with pytest.raises(UsageError, match=r"tensor prompt \(tokens, width\)"):
        RepeatedMove(toy, pooled)


def test_other_invalid_arguments(discs: Discs, toy: Any) -> None:
    with pytest.raises(UsageError, match="expected `mode` to be one of 'image', 'token', 'paper'"):
        imprint(toy, toy.embed("a ball"), ImprintConfig(3, mode="other"))
    with pytest.raises(UsageError, match="expected an embedding of toy"):
        imprint(toy, discs.embed("a disc"), ImprintConfig(3))
    with pytest.raises(UsageError, match="takes token vectors"):
        imprint(discs, discs.embed("a disc"), ImprintConfig(5, mode="token"))
    with pytest.raises(UsageError, match="`iterations` to be a whole number from 1 to 100,000, got 0"):
        ImprintConfig(3, iterations=0)


def test_token_mode_learns_one_vector(toy: Any, tmp_path) -> None:
    from safetensors.torch import load_file

    start = toy.embed("a ball")
    run = Run.create(tmp_path, "imprint", toy.model, {})
    result = imprint(
        toy,
        start,
        ImprintConfig(3, mode="token", template="a <it> ball", placeholder="<it>", word="red", **FAST, unseen=4),
        run=run,
    )
    assert result.vector is not None
    stored = load_file(tmp_path / "learned_embeds.safetensors")
    assert list(stored) == ["<it>"]
    assert torch.equal(stored["<it>"], result.vector[None])
    expected = toy.embed_with("a <it> ball", "<it>", result.vector)
    torch.testing.assert_close(result.embedding.tensors["prompt"], expected.tensors["prompt"])
    assert result.report["score_best"] < result.report["score_start"]


def tiny_pipeline() -> Any:
    """A Stable Diffusion pipeline with random weights and a tokenizer of letters."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz<>"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=12
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    torch.manual_seed(0)
    encoder = CLIPTextModel(
        CLIPTextConfig(vocab_size=len(pieces), max_position_embeddings=12, projection_dim=16, **sizes, **special)
    )
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **blocks
        ),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            **blocks,
        ),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def test_a_learned_token_means_the_same_to_diffusers(tmp_path) -> None:
    pipeline = tiny_pipeline()
    generator = DiffusionGenerator(pipeline, "tiny", steps=2, guidance_scale=2.0)
    start = generator.embed("a ball")
    run = Run.create(tmp_path, "imprint", generator.model, {})
    settings = {"iterations": 2, "batch": 2, "held_out": 2, "evaluate_every": 1, "radius": 20}
    words = {"template": "a <it> ball", "placeholder": "<it>", "word": "red"}
    result = imprint(generator, start, ImprintConfig(3, mode="token", **words, **settings, unseen=2), run=run)

    pipeline.load_textual_inversion(str(tmp_path), weight_name="learned_embeds.safetensors")
    theirs, _ = pipeline.encode_prompt("a <it> ball", torch.device("cpu"), 1, False)
    torch.testing.assert_close(theirs[0], result.embedding.tensors["prompt"])
    without, _ = pipeline.encode_prompt("a ball", torch.device("cpu"), 1, False)
    assert not torch.allclose(without[0], theirs[0], atol=1e-3)


def test_invalid_textual_inversion_files(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"named \*.safetensors"):
        save_textual_inversion(tmp_path / "token.bin", "<it>", torch.zeros(4))
    with pytest.raises(UsageError, match="token without spaces"):
        save_textual_inversion(tmp_path / "token.safetensors", "two words", torch.zeros(4))
    with pytest.raises(UsageError, match="finite vector"):
        save_textual_inversion(tmp_path / "token.safetensors", "<it>", torch.full((4,), torch.nan))
    assert not list(tmp_path.iterdir())


def explained(features: Tensor, values: Sequence[str]) -> float:
    """Return the fraction of the features' variance between the values' means."""
    within = torch.zeros(())
    for value in set(values):
        group = features[[place for place, other in enumerate(values) if other == value]]
        within += (group - group.mean(0)).square().sum()
    return float(1 - within / (features - features.mean(0)).square().sum())


@pytest.mark.skipif(not miniature.SHIPPED.is_dir(), reason="no weights are shipped yet")
@pytest.mark.parametrize("name", ["colour", "background", "shape"])
def test_an_aspect_of_the_miniature_separates_one_attribute_from_the_others(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    objects = renderer.draw_attributes(160, random)
    images = renderer.render(objects, random)
    aspect = choose_aspect(name, None, miniature.load_scorer())
    values = {attribute: [item[attribute] for item in objects] for attribute in ATTRIBUTES}
    texts = VOCABULARIES[name].texts
    assert aspect.read is not None and aspect.rest is not None
    right = [value in text.split() for text, value in zip(aspect.read(images), values[name], strict=True)]
    assert sum(right) / len(right) > 0.85
    assert len(texts) == len(ATTRIBUTES[name])
    with torch.no_grad():
        kept, rest = aspect.kept(images), aspect.rest(images)
    assert explained(kept, values[name]) > 0.6
    assert explained(rest, values[name]) < 0.5 * explained(rest, values["position"])
