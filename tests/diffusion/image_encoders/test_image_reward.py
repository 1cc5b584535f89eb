"""ImageReward: the published networks written by hand from the published names, the gradient, invalid folders."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from thalweg.diffusion.config import ModelConfig
from thalweg.diffusion.image_encoders.image_reward import load_image_reward
from thalweg.errors import ThalwegError, UnknownWords, UsageError
from thalweg.steer.metrics.parsing import parse

WIDTH, TEXT_WIDTH, TEXT_HEADS, PATCH, SIDE = 64, 16, 2, 8, 32
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ball", "blue", "cube"]


def make_weights() -> dict[str, Tensor]:
    """Return random weights under the published names, of two image layers and two text layers."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=random)

    patches = (SIDE // PATCH) ** 2
    weights = {
        "blip.visual_encoder.cls_token": draw(1, 1, WIDTH),
        "blip.visual_encoder.pos_embed": draw(1, patches + 1, WIDTH),
        "blip.vision_proj.weight": draw(4, WIDTH),
        "blip.text_proj.bias": draw(4),
        "blip.text_encoder.embeddings.position_ids": torch.arange(40)[None],
        "blip.text_encoder.embeddings.word_embeddings.weight": draw(len(WORDS) + 2, TEXT_WIDTH),
        "blip.text_encoder.embeddings.position_embeddings.weight": draw(40, TEXT_WIDTH),
    }

    def linear(name: str, outputs: int, *inputs: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = draw(outputs, *inputs), draw(outputs)

    linear("blip.visual_encoder.patch_embed.proj", WIDTH, 3, PATCH, PATCH)
    linear("blip.visual_encoder.norm", WIDTH)
    linear("blip.text_encoder.embeddings.LayerNorm", TEXT_WIDTH)
    for layer in range(2):
        block = f"blip.visual_encoder.blocks.{layer}"
        linear(f"{block}.norm1", WIDTH)
        linear(f"{block}.norm2", WIDTH)
        linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        linear(f"{block}.attn.proj", WIDTH, WIDTH)
        linear(f"{block}.mlp.fc1", 48, WIDTH)
        linear(f"{block}.mlp.fc2", WIDTH, 48)
        block = f"blip.text_encoder.encoder.layer.{layer}"
        for kind, width in (("attention", TEXT_WIDTH), ("crossattention", WIDTH)):
            linear(f"{block}.{kind}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            linear(f"{block}.{kind}.self.key", TEXT_WIDTH, width)
            linear(f"{block}.{kind}.self.value", TEXT_WIDTH, width)
            linear(f"{block}.{kind}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            linear(f"{block}.{kind}.output.LayerNorm", TEXT_WIDTH)
        linear(f"{block}.intermediate.dense", 24, TEXT_WIDTH)
        linear(f"{block}.output.dense", TEXT_WIDTH, 24)
        linear(f"{block}.output.LayerNorm", TEXT_WIDTH)
    for number, (inputs, outputs) in zip((0, 2, 4, 6, 7), ((16, 12), (12, 8), (8, 6), (6, 4), (4, 1)), strict=True):
        linear(f"mlp.layers.{number}", outputs, inputs)
    return weights


def save(folder: Path, change: Callable[[dict[str, Tensor]], object] | None = None) -> dict[str, Tensor]:
    """Save the folder as the loader takes it, and return the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = make_weights()
    if change is not None:
        change(weights)
    save_file(weights, folder / "ImageReward.safetensors")
    sizes = {"hidden_size": TEXT_WIDTH, "num_attention_heads": TEXT_HEADS, "num_hidden_layers": 2, "vocab_size": 12}
    config = {**sizes, "intermediate_size": 24, "max_position_embeddings": 40, "model_type": "bert", "encoder_width": 9}
    (folder / "med_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return weights


class Published:
    """The published forward pass, one image at a time."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = {name: value.double() for name, value in weights.items() if value.is_floating_point()}

    def linear(self, name: str, values: Tensor) -> Tensor:
        return values @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, values: Tensor, eps: float) -> Tensor:
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, is_read: Tensor | None = None) -> Tensor:
        size = query.shape[1] // heads
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = query[:, own] @ key[:, own].T / math.sqrt(size)
            if is_read is not None:
                scores = scores.masked_fill(~is_read, -torch.inf)
            parts.append(scores.softmax(1) @ value[:, own])
        return torch.cat(parts, 1)

    def image_tokens(self, image: Tensor) -> Tensor:
        name = "blip.visual_encoder"
        mean = image.new_tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        deviation = image.new_tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        patches = ((image - mean) / deviation).unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
        kernel = self.weights[f"{name}.patch_embed.proj.weight"]
        tokens = torch.einsum("crsij,ocij->rso", patches, kernel).flatten(0, 1)
        tokens = tokens + self.weights[f"{name}.patch_embed.proj.bias"]
        tokens = torch.cat([self.weights[f"{name}.cls_token"][0], tokens]) + self.weights[f"{name}.pos_embed"][0]
        for layer in range(2):
            block = f"{name}.blocks.{layer}"
            query, key, value = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", tokens, 1e-6)).chunk(3, 1)
            tokens = tokens + self.linear(f"{block}.attn.proj", self.attend(query, key, value, WIDTH // 64))
            inner = functional.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", tokens, 1e-6)))
            tokens = tokens + self.linear(f"{block}.mlp.fc2", inner)
        return self.norm(f"{name}.norm", tokens, 1e-6)

    def reward(self, image: Tensor, ids: list[int]) -> Tensor:
        seen = self.image_tokens(image)
        name = "blip.text_encoder"
        padded = torch.tensor(ids + [0] * (35 - len(ids)))
        is_read = torch.arange(35) < len(ids)
        values = self.weights[f"{name}.embeddings.word_embeddings.weight"][padded]
        values = values + self.weights[f"{name}.embeddings.position_embeddings.weight"][:35]
        values = self.norm(f"{name}.embeddings.LayerNorm", values, 1e-12)
        for layer in range(2):
            block = f"{name}.encoder.layer.{layer}"
            for kind, source, mask in (("attention", None, is_read), ("crossattention", seen, None)):
                other = values if source is None else source
                query, key, value = (
                    self.linear(f"{block}.{kind}.self.{part}", of)
                    for part, of in (("query", values), ("key", other), ("value", other))
                )
                dense = self.linear(f"{block}.{kind}.output.dense", self.attend(query, key, value, TEXT_HEADS, mask))
                values = self.norm(f"{block}.{kind}.output.LayerNorm", dense + values, 1e-12)
            inner = functional.gelu(self.linear(f"{block}.intermediate.dense", values))
            values = self.norm(f"{block}.output.LayerNorm", self.linear(f"{block}.output.dense", inner) + values, 1e-12)
        score = values[0]
        for number in (0, 2, 4, 6, 7):
            score = self.linear(f"mlp.layers.{number}", score)
        return (score[0] - 0.16717362830052426) / 1.0333394966054072


def pictures() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_scores_and_gradient_are_those_of_the_published_networks(tmp_path: Path) -> None:
    published = Published(save(tmp_path))
    model = load_image_reward(str(tmp_path)).double()
    ids = [2, *(WORDS.index(word) for word in ("a", "red", "ball")), 3]
    images, others = pictures().requires_grad_(), pictures().requires_grad_()
    ours = model.rewards(images, "A red ball")
    theirs = torch.stack([published.reward(image, ids) for image in others])
    assert torch.allclose(ours, theirs, rtol=1e-7) and float(ours.detach().std()) > 1e-4
    (gradient,), (expected,) = (torch.autograd.grad(each.sum(), of) for each, of in ((ours, images), (theirs, others)))
    assert torch.allclose(gradient, expected, rtol=1e-6, atol=1e-10)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        ends = [model.rewards(images + side * 1e-6 * direction, "a red ball").sum() for side in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5)
    assert not torch.allclose(model.rewards(images, "a blue cube"), ours)


def test_the_metric_is_the_score_for_a_text(tmp_path: Path) -> None:
    save(tmp_path)
    config = ModelConfig(image_reward=str(tmp_path))
    images = pictures().float()
    metric = parse("image_reward: a red ball", loaders=config.metric_loaders)
    assert metric.maximize and metric.name == "image_reward: a red ball"
    with torch.no_grad():
        assert torch.equal(metric(images), load_image_reward(str(tmp_path)).rewards(images, "a red ball"))
    with pytest.warns(UnknownWords, match="dragon"):
        parse("image_reward: a dragon", loaders=config.metric_loaders)
    with pytest.raises(UsageError, match="expected `image_reward` to score images with"):
        parse("image_reward: a ball", loaders=ModelConfig().metric_loaders)
    with pytest.raises(UsageError, match="metric 'image_reward' needs the model ImageReward, and there is none"):
        parse("image_reward: a ball")
    with pytest.raises(UsageError, match=r"metric image_reward: expected a text, got 'ball\.safetensors'"):
        parse("image_reward: ball.safetensors", loaders=config.metric_loaders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("mlp.layers.7.bias"), "1 of its weights are missing: head.7.bias"),
        (lambda weights: weights.pop("blip.visual_encoder.pos_embed"), "expected the weights of ImageReward"),
        (lambda weights: weights.update({"blip.extra": torch.zeros(1)}), "belong to no part of it: blip.extra"),
        (
            lambda weights: weights.update({"blip.visual_encoder.norm.bias": torch.zeros(3)}),
            r"another shape: vision.post_layernorm.bias \(3,\) instead of \(64,\)",
        ),
        (
            lambda weights: weights.update({"mlp.layers.7.bias": torch.full((1,), torch.nan)}),
            "hold NaN or infinity: head.7.bias",
        ),
    ],
)
def test_odd_weights_are_one_line(tmp_path: Path, change: Callable, message: str) -> None:
    save(tmp_path, change)
    with pytest.raises(ThalwegError, match=message) as caught:
        load_image_reward(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_odd_folders_are_one_line(tmp_path: Path) -> None:
    def refused(message: str, name: str = str(tmp_path / "full")) -> None:
        with pytest.raises(ThalwegError, match=message) as caught:
            load_image_reward(name)
        assert "\n" not in str(caught.value)

    refused("expected a folder with one safetensors file, found none", "owner/model")
    save(tmp_path / "full")
    (tmp_path / "full" / "vocab.txt").write_text("\n".join([*WORDS, "x", "y", "z"]))
    refused("its tokenizer has 13 tokens, its text encoder 12")
    (tmp_path / "full" / "vocab.txt").unlink()
    refused("expected vocab.txt or tokenizer.json of bert-base-uncased, found none")
    save(tmp_path / "full")
    (tmp_path / "full" / "med_config.json").write_text('{"hidden_size": "wide"}')
    refused("expected vocab_size in its med_config.json to be a number, got None")
    (tmp_path / "full" / "med_config.json").unlink()
    refused("expected med_config.json, found none")
    (tmp_path / "full" / "second.safetensors").write_bytes(b"")
    refused("expected a folder with one safetensors file, found 2")
