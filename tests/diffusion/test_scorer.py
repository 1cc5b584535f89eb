"""A CLIP model from a folder as a scorer: unit features, any image size, a gradient, one line where there is none."""

from pathlib import Path

import pytest
import torch

from thalweg.diffusion.miniature import captions
from thalweg.diffusion.scorer import ClipScorer, load_scorer
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ClipScorer:
    """A tiny random CLIP, saved as the library saves it."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    captions.write_tokenizer(folder)
    words = CLIPTokenizer.from_pretrained(folder, model_max_length=32, pad_token="<|endoftext|>")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 32, "eos_token_id": words.eos_token_id}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=words).save_pretrained(folder)
    return load_scorer(str(folder))


def test_features_have_unit_length(scorer: ClipScorer) -> None:
    text = scorer.embed_text("a red ball")
    images = scorer.embed_images(torch.rand(3, 3, 32, 32))
    assert text.shape == (12,) and images.shape == (3, 12)
    assert torch.allclose(text.norm(), torch.tensor(1.0))
    assert torch.allclose(images.norm(dim=1), torch.ones(3))


def test_features_are_those_of_the_model(scorer: ClipScorer) -> None:
    assert not torch.allclose(scorer.embed_text("a red ball"), scorer.embed_text("a blue cube"))
    black, white = scorer.embed_images(torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)]))
    assert not torch.allclose(black, white)


def test_images_of_another_size_are_resized_and_differentiable(scorer: ClipScorer) -> None:
    images = torch.rand(1, 3, 80, 50, requires_grad=True)
    scorer.embed_images(images)[0, 0].backward()
    assert images.grad is not None and bool(images.grad.any())


def test_other_shapes_are_refused(scorer: ClipScorer) -> None:
    with pytest.raises(UsageError, match=r"expected images \(S, 3, H, W\), got \(3, 32, 32\)"):
        scorer.embed_images(torch.rand(3, 32, 32))


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ThalwegError, match="expected a CLIP model") as caught:
        load_scorer(str(tmp_path))
    assert "\n" not in str(caught.value)
