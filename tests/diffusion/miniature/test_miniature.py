"""The miniature: renderer, captions, training, and the quality of the shipped weights."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from thalweg.diffusion import miniature
from thalweg.diffusion.miniature import captions, renderer
from thalweg.diffusion.miniature.attribute_classifier import spread
from thalweg.diffusion.miniature.evaluation import accuracy, evaluate
from thalweg.diffusion.miniature.training import TrainingRecipe, train
from thalweg.errors import ThalwegError, UsageError


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestRenderer:
    def test_images_have_the_size_and_range(self) -> None:
        images = renderer.render(renderer.draw_attributes(20, draws()), draws())
        assert images.shape == (20, 3, 64, 64)
        assert images.min() >= 0 and images.max() <= 1

    def test_rendering_is_deterministic(self) -> None:
        objects = renderer.draw_attributes(5, draws(1))
        assert torch.equal(renderer.render(objects, draws(2)), renderer.render(objects, draws(2)))
        assert not torch.equal(renderer.render(objects, draws(2)), renderer.render(objects, draws(3)))

    @pytest.mark.parametrize("attribute", list(renderer.ATTRIBUTES))
    def test_every_value_of_an_attribute_looks_different(self, attribute: str) -> None:
        shown = {"shape": "cube", "colour": "red", "material": "matte", "size": "large", "position": "centre"}
        shown |= {"background": "grey", "light": "left", "focus": "sharp"}
        values = renderer.ATTRIBUTES[attribute]
        images = torch.cat([renderer.render([{**shown, attribute: value}], draws()) for value in values])
        distances = torch.cdist(images.flatten(1), images.flatten(1)) + 1e3 * torch.eye(len(values))
        assert distances.min() > 1.5

    def test_named_attributes_stay_and_others_are_drawn(self) -> None:
        objects = renderer.draw_attributes(200, draws(), {"shape": "ball", "colour": "red"})
        assert {(item["shape"], item["colour"]) for item in objects} == {("ball", "red")}
        assert spread([item["background"] for item in objects], "background") > 0.9

    def test_colours_match_their_names(self) -> None:
        shown = {"shape": "ball", "material": "matte", "size": "large", "position": "centre", "background": "black"}
        shown |= {"light": "front", "focus": "sharp"}
        for colour, (red, green, blue) in renderer.COLOURS.items():
            centre = renderer.render([{**shown, "colour": colour}], draws())[0, :, 32, 32]
            assert torch.allclose(centre, 1.05 * torch.tensor([red, green, blue]), atol=0.12), colour

    def test_unknown_attributes_and_values_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"expected colour out of red, .* got mauve"):
            renderer.draw_attributes(1, draws(), {"colour": "mauve"})
        with pytest.raises(UsageError, match=r"expected an attribute out of shape, .* got weight"):
            renderer.draw_attributes(1, draws(), {"weight": "heavy"})


class TestCaptions:
    def test_a_caption_names_exactly_the_given_attributes(self) -> None:
        for seed in range(50):
            text = captions.caption({"colour": "red", "shape": "cone"}, draws(seed))
            assert "red" in text and "cone" in text
            assert not any(f" {word}" in f" {text}" for word in ("blue", "glossy", "left", "background", "focus"))

    def test_an_attribute_that_is_not_named_is_not_in_the_caption(self) -> None:
        for seed in range(30):
            text = captions.caption({}, draws(seed))
            assert any(noun in text for noun in captions.NOUNS)
            assert not any(colour in text.split() for colour in renderer.COLOURS)

    def test_every_word_is_one_token_and_the_longest_caption_fits(self, tmp_path: Path) -> None:
        from transformers import CLIPTokenizer

        captions.write_tokenizer(tmp_path)
        tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
        longest = 0
        for seed, item in enumerate(renderer.draw_attributes(200, draws())):
            ids = tokenizer(captions.caption(item, draws(seed))).input_ids
            longest = max(longest, len(ids))
            assert all(token.endswith(("</w>", "|>")) for token in tokenizer.convert_ids_to_tokens(ids))
        assert longest <= captions.TOKENS

    def test_the_tokenizer_is_reproducible(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            captions.write_tokenizer(tmp_path / name)
        for file in ("vocab.json", "merges.txt"):
            assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


TINY = TrainingRecipe(
    images=64, batch=4, reader_steps=2, encoder_steps=2, autoencoder_steps=2, denoiser_steps=4, checkpoint_every=2
)


class TestTraining:
    def test_an_interrupted_training_resumes_to_the_same_weights(self, tmp_path: Path) -> None:
        train(tmp_path / "whole", TINY, lambda *_: None)

        class CutOffError(Exception):
            pass

        def cut(stage: str, done: int, total: int, loss: float) -> None:
            if stage == "denoiser" and done == 3:
                raise CutOffError

        with pytest.raises(CutOffError):
            train(tmp_path / "broken", TINY, cut)
        assert not (tmp_path / "broken" / "model_index.json").exists()
        train(tmp_path / "broken", TINY, lambda *_: None)
        whole, broken = (miniature.load(tmp_path / name).model.hash for name in ("whole", "broken"))
        assert whole == broken

    def test_a_finished_training_is_not_done_again(self, tmp_path: Path) -> None:
        train(tmp_path, TINY, lambda *_: None)
        stages: list[str] = []
        train(tmp_path, TINY, lambda stage, *_: stages.append(stage))
        assert stages == []

    def test_another_recipe_in_the_same_folder_is_refused(self, tmp_path: Path) -> None:
        train(tmp_path, TINY, lambda *_: None)
        with pytest.raises(UsageError, match="denoiser_steps"):
            train(tmp_path, replace(TINY, denoiser_steps=6), lambda *_: None)


class TestShipped:
    def test_the_standard_pipeline_loads_it(self) -> None:
        from diffusers import DiffusionPipeline

        pipeline = DiffusionPipeline.from_pretrained(miniature.SHIPPED)
        assert type(pipeline).__name__ == "StableDiffusionPipeline"
        pipeline.set_progress_bar_config(disable=True)
        image = pipeline("a red ball", num_inference_steps=2, guidance_scale=3.0, output_type="np").images
        assert image.shape == (1, 64, 64, 3)

    def test_it_is_small(self) -> None:
        assert sum(file.stat().st_size for file in miniature.SHIPPED.rglob("*")) < 13e6

    def test_the_attribute_classifier_recognises_renderings(self) -> None:
        objects = renderer.draw_attributes(400, draws(5))
        right = accuracy(miniature.load_attribute_classifier(), renderer.render(objects, draws(6)), objects)
        assert sum(right.values()) / len(right) >= 0.97

    @pytest.mark.release  # 120 images of the shipped weights
    def test_images_adhere_to_captions_and_seeds_vary_the_rest(self) -> None:
        figures = evaluate(miniature.SHIPPED, images=40, renderings=300, seeds=16, progress=lambda *_: None)
        assert figures["adherence"]["colour"] >= 0.85
        assert figures["adherence"]["shape"] >= 0.8
        assert figures["adherence"]["background"] >= 0.8
        assert figures["spread"]["colour"] >= 0.6  # 16 seeds can show 10 colours at 0.9 at most, more or less

    def test_the_scorer_knows_a_red_ball_from_a_blue_cube(self) -> None:
        scorer = miniature.load_scorer()
        images = torch.cat(
            [
                renderer.render(renderer.draw_attributes(20, draws(1), {"shape": shape, "colour": colour}), draws(2))
                for shape, colour in (("ball", "red"), ("cube", "blue"))
            ]
        )
        texts = torch.stack([scorer.embed_text("a red ball"), scorer.embed_text("a blue cube")])
        nearer = (scorer.embed_images(images) @ texts.T).argmax(dim=1)
        assert (nearer == torch.tensor([0] * 20 + [1] * 20)).float().mean() > 0.95

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="expected a trained miniature"):
            miniature.load(tmp_path)

    @pytest.mark.parametrize("part", ["text_encoder", "image_encoder"])
    def test_a_scorer_without_all_its_weights_is_refused(self, tmp_path: Path, part: str) -> None:
        folder = shutil.copytree(miniature.SHIPPED, tmp_path / "small")
        lost = without_last(folder / part / "model.safetensors")
        with pytest.raises(ThalwegError, match=f"small: its {part}: 1 of its weights are missing: .*{lost[-20:]}"):
            miniature.load_scorer(folder)

    def test_an_attribute_classifier_without_all_its_weights_is_refused(self, tmp_path: Path) -> None:
        path = Path(shutil.copy(miniature.ATTRIBUTE_CLASSIFIER, tmp_path / "classifier.safetensors"))
        lost = without_last(path)
        with pytest.raises(ThalwegError, match=f"the attribute classifier: 1 of its weights are missing: {lost}"):
            miniature.load_attribute_classifier(path)
        save_file({**load_file(miniature.ATTRIBUTE_CLASSIFIER), "extra": torch.zeros(1)}, path)
        with pytest.raises(ThalwegError, match="1 weights in its file belong to no part of it: extra"):
            miniature.load_attribute_classifier(path)


def without_last(path: Path) -> str:
    """Remove the last tensor of a file and return its name."""
    tensors = load_file(path)
    lost = max(tensors)
    del tensors[lost]
    save_file(tensors, path, {"format": "pt"})
    return lost
