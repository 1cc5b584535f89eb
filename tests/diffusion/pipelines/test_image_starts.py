"""Chains that start from an image, with and without a mask: the library's own images, gradients and refusals."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from own_calls import SEEDS, leaves
from pipelines import build, generator
from thalweg.diffusion import DiffusionGenerator, SamplingConfig
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding
from thalweg.errors import UsageError

SIDE = 16
FAMILIES = {"sd": "StableDiffusion", "sdxl": "StableDiffusionXL", "sd3": "StableDiffusion3", "flux": "Flux"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image of noise, and a mask that is white on its right half."""
    folder = tmp_path_factory.mktemp("images")
    pixels = torch.randint(0, 256, (SIDE, SIDE, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(folder / "image.png")
    mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    mask[:, SIDE // 2 :] = 255
    Image.fromarray(mask.numpy()).save(folder / "mask.png")
    return {name: str(folder / f"{name}.png") for name in ("image", "mask")}


@pytest.fixture
def most_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's encoders give their most likely latents, as ours do, and leave the seeds' generators alone."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def made(builder: str, steps: int = 4, **settings: Any) -> DiffusionGenerator:
    # The library inpaints with models of the channels of the real SD3 alone.
    pipeline = build("sd3-16" if builder == "sd3" else builder)
    return DiffusionGenerator(pipeline, f"tiny-{builder}", steps=steps, height=SIDE, width=SIDE, **settings)


def own_images(model: DiffusionGenerator, kind: str, files: dict[str, str]) -> torch.Tensor:
    """The images of the library's pipeline of a kind (Img2Img, Inpaint) for the same parts and settings."""
    pipeline = model.adapter.pipeline
    family = FAMILIES[model.adapter.name.removeprefix("tiny-")]
    parts = {name: part for name, part in pipeline.components.items() if name != "image_encoder" or part is not None}
    checker = {"requires_safety_checker": False} if family == "StableDiffusion" else {}
    own = getattr(diffusers, f"{family}{kind}Pipeline")(**parts, **checker)
    own.scheduler = model.schedule.scheduler
    own.set_progress_bar_config(disable=True)
    masks = {"mask_image": Image.open(files["mask"])} if kind == "Inpaint" else {}
    image = Image.open(files["image"])
    # The library's inpainting with SD3 forgets the decoder's shift, so that its latents are decoded here.
    unshifted = (family, kind) == ("StableDiffusion3", "Inpaint")
    images = own(
        prompt="a red ball",
        # The library's SD3 takes one image per generator.
        image=[image] * len(SEEDS) if (family, kind) == ("StableDiffusion3", "Img2Img") else image,
        strength=model.settings.image_strength,
        num_inference_steps=model.settings.steps,
        guidance_scale=model.settings.guidance_scale,
        num_images_per_prompt=len(SEEDS),
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent" if unshifted else "pt",
        **({"height": SIDE, "width": SIDE} if kind == "Inpaint" or family.endswith(("3", "Flux")) else {}),
        **masks,
    ).images
    return model.decode(images) if unshifted else images


@pytest.mark.parametrize("builder", FAMILIES)
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_the_librarys_own_images_from_an_image(
    builder: str, strength: float, files: dict[str, str], most_likely: None
) -> None:
    model = made(builder, image=files["image"], strength=strength)
    images = model.render(model.embed("a red ball"), SEEDS)
    torch.testing.assert_close(images, own_images(model, "Img2Img", files), rtol=0, atol=1e-5)
    if strength < 1:
        assert (images - made(builder).render(model.embed("a red ball"), SEEDS)).abs().max() > 1e-3


@pytest.mark.parametrize("builder", FAMILIES)
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_the_librarys_own_images_in_a_mask(
    builder: str, strength: float, files: dict[str, str], most_likely: None
) -> None:
    model = made(builder, image=files["image"], strength=strength, image_mask=files["mask"])
    embedding = model.embed("a red ball")
    images = model.render(embedding, SEEDS)
    torch.testing.assert_close(images, own_images(model, "Inpaint", files), rtol=0, atol=1e-5)
    latents = model.latents(embedding, model.noise(SEEDS))
    start = model.start_image
    assert start is not None and start.mask is not None
    kept = start.mask.expand(latents.shape) == 0
    assert 0 < kept.float().mean() < 1
    assert torch.equal(latents[kept], start.latents.expand(latents.shape)[kept]), "the outside is that of the image"
    assert (latents - start.latents)[~kept].abs().max() > 1e-3


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "pndm", "dpm_multistep", "unipc", "heun", "lms", "deis", "lcm"])
@pytest.mark.parametrize("kind", ["Img2Img", "Inpaint"])
def test_other_schedulers(scheduler: str, kind: str, files: dict[str, str], most_likely: None) -> None:
    masks = {"image_mask": files["mask"]} if kind == "Inpaint" else {}
    model = made("sd", steps=6, scheduler=scheduler, image=files["image"], strength=0.7, **masks)
    images = model.render(model.embed("a red ball"), SEEDS)
    if scheduler != "lcm":  # whose noise at each step has a seed of its own
        torch.testing.assert_close(images, own_images(model, kind, files), rtol=0, atol=1e-5)
    torch.testing.assert_close(images[1:], model.render(model.embed("a red ball"), SEEDS[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("builder", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_by_finite_differences(builder: str, masked: bool, files: dict[str, str]) -> None:
    settings = {"image": files["image"], "strength": 0.8} | ({"image_mask": files["mask"]} if masked else {})
    model = DiffusionGenerator(build(builder).to(torch.float64), "double", steps=3, height=SIDE, width=SIDE, **settings)
    start = model.embed("a red ball")
    value = leaves(start).tensors["prompt"]
    moved = Embedding({**start.tensors, "prompt": value}, start.lineage)
    (slope,) = torch.autograd.grad(model.render(moved, (5,)).square().mean(), value)
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step, tolerance = (1e-3, 1e-3) if builder == "flux" else (1e-5, 1e-5)
    with torch.no_grad():
        sides = [
            model.render(start.derive({"prompt": value + sign * step * direction}, "move"), (5,)).square().mean()
            for sign in (1, -1)
        ]
    expected = (sides[0] - sides[1]) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(), expected, rtol=tolerance, atol=0)
    assert expected.abs() > 1e-9


def test_steps_and_calls_are_those_that_are_left(files: dict[str, str]) -> None:
    model = made("sd", steps=10, image=files["image"], strength=0.35)
    embedding, noise = model.embed("a red ball"), model.noise(SEEDS)
    assert model.steps == 3
    model.render(embedding, SEEDS)
    assert model.calls == 6
    assert not torch.equal(model.latents(embedding, noise, 0), noise)
    assert torch.equal(model.latents(embedding, noise, 3), model.latents(embedding, noise))
    with pytest.raises(UsageError, match=r"steps in 0\.\.3, got 4"):
        model.latents(embedding, noise, 4)
    assert model.with_gradient("one_step").start_image is model.start_image
    assert model.with_settings(image=None, strength=None).steps == 10


def test_the_encoder_is_the_inverse_of_the_decoders_units(files: dict[str, str]) -> None:
    pipeline = build("sdxl")
    pipeline.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    for name in ("sd", "sdxl", "sd3", "flux"):
        model = DiffusionGenerator(build(name) if name != "sdxl" else pipeline, name, height=SIDE, width=SIDE)
        latents = model.noise(SEEDS)
        adapter: Any = model.adapter
        torch.testing.assert_close(adapter.unscale(adapter.scale(latents)), latents)


def test_an_image_of_another_size_is_resized(files: dict[str, str], tmp_path: Path) -> None:
    large = Image.open(files["image"]).resize((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    Image.open(files["mask"]).resize((4 * SIDE, 4 * SIDE)).save(tmp_path / "mask.png")
    settings = {"image": str(tmp_path / "large.png"), "image_mask": str(tmp_path / "mask.png")}
    found, plain = (
        made("sd", **settings).start_image,
        made("sd", image=files["image"], image_mask=files["mask"]).start_image,
    )
    assert found is not None and plain is not None and found.mask is not None and plain.mask is not None
    assert found.latents.shape == plain.latents.shape
    assert torch.equal(found.mask, plain.mask)


def test_images_that_do_not_fit(files: dict[str, str], tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "wide.png")
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "black.png")
    Image.new("L", (SIDE, 2 * SIDE), 255).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("no image")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"image": str(tmp_path / "wide.png")}, r"got 48 x 32: crop it, or set `height=\d+` for a width of 16"),
        ({"image": str(tmp_path / "text.png")}, "expected an image file, such as PNG or JPEG; this is none"),
        ({"image": files["image"], "image_mask": str(tmp_path / "black.png")}, "got a black mask"),
        ({"image": files["image"], "image_mask": str(tmp_path / "other.png")}, "expected a mask of the image's size"),
        ({"image": files["image"], "strength": 0.1}, "expected a `strength` that leaves a step of 4, got 0.1"),
    ]
    for settings, message in cases:
        with pytest.raises(UsageError, match=message) as raised:
            made("sd", **settings)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "none.png"}, "expected an image file as `image`, found no 'none.png'"),
        ({"image": "a\0b"}, "expected an image file as `image`"),
        ({"image": "x" * 5000}, "expected an image file as `image`"),
        ({"image": "{image}", "image_mask": "none.png"}, "expected an image file as `image_mask`"),
        ({"strength": 0.5}, "expected an `image` with a `strength`, got none"),
        ({"image_mask": "{mask}"}, "expected an `image` with a `image_mask`, got none"),
        ({"image": "{image}", "strength": 0.0}, "expected `strength` to be a number from 1e-06 to 1, got 0"),
        ({"image": "{image}", "strength": float("nan")}, "expected `strength` to be a number"),
        ({"image": "{image}", "strength": 1.5}, "expected `strength` to be a number"),
        ({"image": "{image}", "strength": "0.5"}, "expected `strength` to be a number"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str, files: dict[str, str]) -> None:
    given = {name: value.format(**files) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(UsageError, match=message) as raised:
        SamplingConfig().changed(**given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("builder", ["sana", "lumina2", "chroma", "qwen", "zimage", "klein"])
def test_other_families_refuse(builder: str, files: dict[str, str]) -> None:
    with pytest.raises(
        UsageError, match=rf"expected no `image` for tiny-{builder}: a \w+Pipeline has none; got"
    ) as raised:
        generator(builder).with_settings(image=files["image"])
    assert "\n" not in str(raised.value)


def test_a_model_config_keeps_the_files(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in files.items():
        (tmp_path / f"{name}.png").write_bytes(Path(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(image="image.png", strength=0.5, image_mask="mask.png")
    assert config.image == str(tmp_path.resolve() / "image.png")
    record = {**vars(config), "lora": [], "inversion": []}
    assert ModelConfig.read(record, "run") == config
    Image.new("RGB", (SIDE, SIDE)).save("image.png")
    with pytest.raises(UsageError, match=r"image.png or mask.png was changed since the run began"):
        ModelConfig.read(record, "run")
    Path("image.png").unlink()
    with pytest.raises(UsageError, match="expected an image file as `image`"):
        ModelConfig.read(record, "run")
