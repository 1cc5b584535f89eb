"""CLIP scorers from a folder: unit features, any image size, gradients, one-line errors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from thalweg.diffusion.clip import ClipScorer, load_scorer
from thalweg.diffusion.miniature import captions
from thalweg.errors import ThalwegError, UsageError


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return folder


@pytest.fixture(scope="module")
def scorer(clip_folder: Path) -> ClipScorer:
    return load_scorer(str(clip_folder))


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


def test_a_missing_model_raises_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(ThalwegError, match="expected the folder of a CLIP or SigLIP model") as caught:
        load_scorer(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", ["visual_projection.weight", "text_projection.weight", "vision_model.post_layernorm"])
def test_missing_weights_are_named(clip_folder: Path, tmp_path: Path, lost: str) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(lost)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ThalwegError, match=rf"clip: the CLIP model: \d of its weights are missing: {lost}"):
        load_scorer(str(folder))


def test_pickles_and_other_models_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ThalwegError, match=r"found pytorch_model\.bin; pickles can run code"):
        load_scorer(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "blip"}))
    with pytest.raises(UsageError, match="expected a CLIP or SigLIP model, got one of the type 'blip'"):
        load_scorer(str(folder))
    with pytest.raises(UsageError, match="expected a device of this machine"):
        load_scorer(str(folder), "gpu")
