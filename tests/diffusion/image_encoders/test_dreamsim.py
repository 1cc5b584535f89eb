"""DreamSim: the published formula on the library's own networks, its gradient, invalid folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity
from typer.testing import CliRunner

from metric_models import DEVIATION, MEAN, SMALL, save_clip, save_dino
from thalweg.cli import app
from thalweg.diffusion.config import ModelConfig
from thalweg.diffusion.image_encoders.dreamsim import load_dreamsim
from thalweg.errors import ThalwegError, UsageError
from thalweg.steer.metrics.parsing import parse

BRANCHES = {"dino": "cls", "clip": "embedding", "open-clip": "embedding", "dinov2": "cls"}
SIDE = 32


def save(folder: Path) -> Path:
    """Save four tiny branches: DINO, the image part of CLIP, a whole CLIP, DINOv2; each without a crop."""
    import transformers

    torch.manual_seed(1)
    image = {**SMALL, "image_size": SIDE, "patch_size": 8, "num_hidden_layers": 2}
    vit = transformers.ViTModel(transformers.ViTConfig(**image), add_pooling_layer=False)
    clip = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**image, projection_dim=12))
    for name, network in (("dino", vit), ("clip", clip)):
        for parameter in network.parameters():  # norms that are not the identity, biases that are not 0
            parameter.data += 0.1 * torch.randn(parameter.shape)
        network.save_pretrained(folder / name)
    save_clip(folder / "open-clip", hidden_act="gelu")
    save_dino(folder / "dinov2")
    for name in BRANCHES:
        (folder / name / "processor_config.json").unlink(missing_ok=True)
        transformers.BitImageProcessor(
            size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=MEAN, image_std=DEVIATION
        ).save_pretrained(folder / name)
    write(folder, [{"folder": name, "feature": feature} for name, feature in BRANCHES.items()])
    return folder


def write(folder: Path, branches: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "dreamsim.json").write_text(json.dumps({"branches": branches}))


def class_token(network: Any, last: Any, pixels: Tensor) -> Tensor:
    """Return the class token that the last block gives to the final norm."""
    found: list[Any] = []
    handle = last.register_forward_hook(lambda module, inputs, output: found.append(output))
    network(pixels)
    handle.remove()
    output = found[0]
    return (output if isinstance(output, Tensor) else output[0])[:, 0]


def published(folder: Path, pictures: list[Image.Image]) -> Tensor:
    """Return the distance of two images as the published code has it, from the library's networks and processors."""
    import transformers

    pixels = {
        name: transformers.BitImageProcessor.from_pretrained(folder / name)(pictures, return_tensors="pt").pixel_values
        for name in BRANCHES
    }
    vit = transformers.ViTModel.from_pretrained(folder / "dino", add_pooling_layer=False).eval()
    clip = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "clip").eval()
    whole = transformers.CLIPModel.from_pretrained(folder / "open-clip").eval()
    dinov2 = transformers.Dinov2Model.from_pretrained(folder / "dinov2").eval()
    features = torch.cat(
        [
            class_token(vit, vit.layers[-1], pixels["dino"]),
            clip(pixels["clip"]).image_embeds,
            whole.get_image_features(pixels["open-clip"]).pooler_output,
            class_token(dinov2, dinov2.encoder.layer[-1], pixels["dinov2"]),
        ],
        dim=1,
    )
    features = features / features.norm(dim=1, keepdim=True)
    features = features - features.mean(1, keepdim=True)
    return 1 - cosine_similarity(features[0], features[1], dim=0)


def random_images(seed: int, side: int = 36) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(seed)).float() / 255


def as_picture(image: Tensor) -> Image.Image:
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def test_the_distance_is_the_published_one(tmp_path: Path) -> None:
    save(tmp_path)
    images = random_images(0, SIDE)  # at the networks' own size, where the library rounds no resized values
    with torch.no_grad():
        theirs = published(tmp_path, [as_picture(image) for image in images])
        features = load_dreamsim(str(tmp_path)).embed_images(images)
    assert features.shape == (2, 16 + 12 + 12 + 16)
    assert torch.allclose(features.norm(dim=1), torch.ones(2))
    assert float(theirs) > 0.01
    assert float(1 - features[0] @ features[1]) == pytest.approx(float(theirs), abs=1e-5)


def test_the_gradient_is_that_of_finite_differences(tmp_path: Path) -> None:
    model = load_dreamsim(str(save(tmp_path))).double()
    images = random_images(1, 45).double()
    image = images[1:].requires_grad_()
    target = model.embed_images(images[:1])[0].detach()
    (gradient,) = torch.autograd.grad((model.embed_images(image) @ target).sum(), image)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        ends = [(model.embed_images(image + side * step * direction) @ target).sum() for side in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_the_metric_is_the_similarity_to_the_file(tmp_path: Path) -> None:
    config = ModelConfig(dreamsim=str(save(tmp_path / "dreamsim")))
    images = random_images(2)
    file = tmp_path / "reference.png"
    as_picture(images[0]).save(file)
    metric = parse(f"dreamsim: {file}", loaders=config.metric_loaders)
    scores = metric(images)
    assert metric.maximize and metric.name == f"dreamsim: {file}"
    assert float(scores[0]) == pytest.approx(1, abs=1e-5)
    assert float(scores[1]) < float(scores[0]) - 1e-3
    with pytest.raises(UsageError, match="expected `dreamsim` to compare images with"):
        parse(f"dreamsim: {file}", loaders=ModelConfig().metric_loaders)
    with pytest.raises(UsageError, match="metric 'dreamsim' needs the model DreamSim, and there is none"):
        parse(f"dreamsim: {file}")
    with pytest.raises(UsageError, match="metric dreamsim reads a file of this machine"):
        parse(f"dreamsim: {file}", read_files=False, loaders=config.metric_loaders)
    with pytest.raises(UsageError, match=r"expected images \(S, 3, H, W\)"):
        metric(images[0])


def test_the_command_lists_the_metric() -> None:
    result = CliRunner().invoke(app, ["steer", "metrics"])
    assert result.exit_code == 0 and "dreamsim: FILE" in result.output


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ([], r"expected a list of branches in its dreamsim\.json, got \[\]"),
        ("dino", "expected a list of branches"),
        ([{"folder": "dino"}], "expected folder and feature of each branch"),
        (["dino"], "expected folder and feature of each branch"),
        ([{"folder": "dino", "feature": "pooled"}], "expected the feature cls or embedding in its"),
        ([{"folder": "dino", "feature": ["cls"]}], "expected the feature cls or embedding in its"),
        ([{"folder": "../dino", "feature": "cls"}], "expected the name of a folder beside its"),
        ([{"folder": "..", "feature": "cls"}], "expected the name of a folder beside its"),
        ([{"folder": "/dino", "feature": "cls"}], "expected the name of a folder beside its"),
        ([{"folder": 1, "feature": "cls"}], "expected the name of a folder beside its"),
        ([{"folder": "mae", "feature": "cls"}], r"expected the folder 'mae' that its dreamsim\.json names, found none"),
    ],
)
def test_odd_indexes_are_one_line(tmp_path: Path, branches: Any, message: str) -> None:
    write(tmp_path / "own", branches)
    (tmp_path / "dino").mkdir()  # beside the model's own folder, which a branch can't leave
    with pytest.raises(UsageError, match=message) as caught:
        load_dreamsim(str(tmp_path / "own"))
    assert "\n" not in str(caught.value)


def _set(name: str, **changes: Any) -> Callable[[Path], object]:
    """Return a function that changes fields of a JSON file."""

    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _pickled(folder: Path) -> None:
    (folder / "dino" / "model.safetensors").rename(folder / "dino" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_pickled, "its branch dino: expected weights in model.safetensors, found pytorch_model.bin; pickles"),
        (lambda folder: write(folder, [{"folder": "clip", "feature": "cls"}]), "expected a DINO or DINOv2 model"),
        (lambda folder: write(folder, [{"folder": "dino", "feature": "embedding"}]), "expected a CLIP model, got one"),
        (_set("clip/preprocessor_config.json", size={"height": 40, "width": 40}), "to 32 x 32 pixels, got"),
        (_set("dino/preprocessor_config.json", size={"shortest_edge": 32}), "to 32 x 32 pixels, got None"),
        (_set("dinov2/preprocessor_config.json", size={"height": 30, "width": 32}), "to a multiple of 8 pixels"),
        (_set("dino/config.json", num_hidden_layers=3), "of its weights are missing"),
        (lambda folder: (folder / "clip" / "config.json").unlink(), r"its branch clip: .* found no config\.json in it"),
        (lambda folder: (folder / "clip" / "preprocessor_config.json").unlink(), "expected preprocessor_config.json"),
        (lambda folder: (folder / "dreamsim.json").write_text("[]"), "expected an object in its dreamsim.json"),
        (lambda folder: (folder / "dreamsim.json").write_text("{"), "its dreamsim.json"),
    ],
)
def test_odd_branches_are_one_line(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(save(tmp_path))
    with pytest.raises(ThalwegError, match=message) as caught:
        load_dreamsim(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_other_folders_are_one_line(tmp_path: Path) -> None:
    for name in (str(tmp_path), "owner/model"):
        with pytest.raises(UsageError, match=r"with dreamsim\.json and the folder of each branch, found none"):
            load_dreamsim(name)
