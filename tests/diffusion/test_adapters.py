"""LoRA and textual inversions from files: the library's own images, identities, layouts and refusals."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from own_calls import leaves, reference
from pipelines import build, size
from thalweg.diffusion import DiffusionGenerator, add_inversions, add_loras
from thalweg.diffusion.adapter_files import LoraFile
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError

SEEDS = (3, 11)
WIDTH = 16


def fresh(builder: str = "sd") -> DiffusionGenerator:
    return DiffusionGenerator(build(builder), f"tiny-{builder}", steps=3, height=16, width=16)


def library_images(pipeline: Any, prompt: str) -> torch.Tensor:
    return pipeline(
        prompt,
        num_inference_steps=3,
        guidance_scale=7.5,
        height=16,
        width=16,
        num_images_per_prompt=len(SEEDS),
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="pt",
    ).images


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the denoiser and the text encoder of the tiny Stable Diffusion, as diffusers saves it."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    pipeline = build("sd")
    torch.manual_seed(1)
    pipeline.unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"]))
    folder = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(pipeline.text_encoder),
        weight_name="style.safetensors",
    )
    return folder / "style.safetensors"


def kohya(path: Path) -> dict[str, torch.Tensor]:
    """The denoiser's part of a LoRA in the layout of kohya's scripts."""
    from safetensors.torch import load_file

    found = {}
    for name, tensor in load_file(path).items():
        if name.startswith("unet."):
            layer, _, side = name.removeprefix("unet.").removesuffix(".weight").rpartition(".")
            direction = {"lora_A": "lora_down", "lora_B": "lora_up"}[side]
            found[f"lora_unet_{layer.replace('.', '_')}.{direction}.weight"] = tensor
            found[f"lora_unet_{layer.replace('.', '_')}.alpha"] = torch.tensor(2.0)
    return found


def test_a_lora_gives_the_librarys_own_images(lora: Path) -> None:
    generator = fresh()
    before = generator.model
    add_loras(generator, [f"{lora}:0.7"])
    own = build("sd")
    own.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="style")
    own.set_adapters(["style"], [0.7])
    images = generator.render(generator.embed("a red ball"), SEEDS)
    torch.testing.assert_close(images, library_images(own, "a red ball"), rtol=0, atol=1e-5)
    assert (images - fresh().render(fresh().embed("a red ball"), SEEDS)).abs().max() > 1e-3
    assert generator.model != before
    weaker = fresh()
    add_loras(weaker, [f"{lora}:0.6"])
    assert weaker.model != generator.model, "the strength is a part of the identity"
    with pytest.raises(UsageError, match="the adapters or their strengths differ"):
        generator.render(fresh().embed("a red ball"), SEEDS)


def test_a_lora_has_an_exact_gradient(lora: Path) -> None:
    generator = fresh()
    add_loras(generator, [str(lora)])
    assert not any(weight.requires_grad for weight in generator.adapter.network.parameters())
    embedding = generator.embed("a red ball")
    moved = embedding.tensors["prompt"].double().clone().requires_grad_()
    with_leaf = Embedding({**embedding.tensors, "prompt": moved}, embedding.lineage)
    generator.adapter.pipeline.to(torch.float64)
    generator.render(with_leaf, (3,)).mean().backward()
    direction = torch.randn(moved.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-5

    def value(sign: int) -> torch.Tensor:
        shifted = Embedding(
            {**embedding.tensors, "prompt": moved.detach() + sign * step * direction}, embedding.lineage
        )
        return generator.render(shifted, (3,)).mean()

    slope = (value(1) - value(-1)) / (2 * step)
    assert moved.grad is not None
    torch.testing.assert_close((moved.grad * direction).sum(), slope, rtol=1e-5, atol=1e-12)


def test_two_loras_add_up_and_kohyas_layout_is_read(lora: Path, tmp_path: Path) -> None:
    other = tmp_path / "other style.safetensors"
    save_file(kohya(lora), other)
    generator, own = fresh(), build("sd")
    add_loras(generator, [str(lora), f"{other}:0.5"])
    own.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="a")
    own.load_lora_weights(str(other.parent), weight_name=other.name, adapter_name="b")
    own.set_adapters(["a", "b"], [1.0, 0.5])
    images = generator.render(generator.embed("a red ball"), SEEDS)
    torch.testing.assert_close(images, library_images(own, "a red ball"), rtol=0, atol=1e-5)


def test_bad_loras(lora: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(lora)
    wide = {name: torch.cat([tensor] * 2, -1) if "lora_A" in name else tensor for name, tensor in tensors.items()}
    stranger = dict(tensors) | {"unet.mid_block.resnets.7.conv1.lora_A.weight": torch.zeros(2, 16)}
    broken = {name: tensor * torch.nan for name, tensor in tensors.items()}
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        (wide, "for tiny-sd: it can't be loaded, take a LoRA in safetensors that was trained on this kind of model"),
        (stranger, "1 of its .* weights do not fit tiny-sd"),
        (broken, "hold NaN or infinity"),
        ({"weights": torch.zeros(3)}, "LoRA bad.safetensors"),
        ({}, "LoRA bad.safetensors: expected the weights of a LoRA, found none in it"),
    ]
    for content, message in cases:
        path = tmp_path / "bad.safetensors"
        save_file(content, path)
        with pytest.raises(ThalwegError, match=message) as raised:
            add_loras(fresh(), [str(path)])
        assert "\n" not in str(raised.value)
    text = tmp_path / "text.safetensors"
    text.write_text("<html>")
    with pytest.raises(ThalwegError, match=r"LoRA text\.safetensors is not a whole safetensors file"):
        add_loras(fresh(), [str(text)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.safetensors", "expected the file of a LoRA, found no none.safetensors"),
        ("none.safetensors:0.5", "expected the file of a LoRA"),
        ("none.pt", r"expected a LoRA named \*\.safetensors"),
        ("{lora}:strong", "expected a LoRA as FILE or FILE:STRENGTH"),
        ("{lora}:0,5", "expected a LoRA as FILE or FILE:STRENGTH"),
        ("{lora}:1_0", "expected a LoRA as FILE or FILE:STRENGTH"),
        ("{lora}:\u0663", "expected a LoRA as FILE or FILE:STRENGTH"),
        ("{lora}:", "expected a LoRA as FILE or FILE:STRENGTH"),
        ("{lora}:nan", "strength of LoRA"),
        ("{lora}:-inf", "strength of LoRA"),
        ("{lora}:1e9", "strength of LoRA"),
    ],
)
def test_bad_names_of_loras(lora: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LoraFile.parse(text.format(lora=lora))


@pytest.mark.parametrize("strength", ["0.123456789", "1e-7", " .5", "-10", "0"])
def test_a_loras_strength_is_kept_as_it_is(lora: Path, strength: str) -> None:
    text = LoraFile.parse(f"{lora}:{strength}").absolute()
    assert LoraFile.parse(text).strength == float(strength)
    assert LoraFile.parse(f"{lora}:1").absolute() == f"{lora.resolve()}:1"


def rows(count: int, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(4))


LAYOUTS: dict[str, Callable[[Path, torch.Tensor], None]] = {
    "diffusers.safetensors": lambda path, value: save_file({"zorb": value}, path),
    "diffusers.bin": lambda path, value: torch.save({"zorb": value}, path),
    "zorb.pt": lambda path, value: torch.save({"string_to_param": {"*": value}, "name": "x", "step": 5}, path),
    "zorb.safetensors": lambda path, value: save_file({"emb_params": value}, path),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3])
def test_every_layout_of_a_textual_inversion(name: str, count: int, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / name, rows(count))
    generator = fresh()
    before = generator.model
    assert add_inversions(generator, [tmp_path / name]) == ["zorb"]
    assert generator.model != before
    own = build("sd")
    own.load_textual_inversion({"zorb": rows(count)}, token="zorb")
    images = generator.render(generator.embed("a zorb"), SEEDS)
    torch.testing.assert_close(images, library_images(own, "a zorb"), rtol=0, atol=1e-5)


def test_one_vector_without_a_row(tmp_path: Path) -> None:
    save_file({"zorb": rows(1)[0]}, tmp_path / "a.safetensors")
    generator = fresh()
    add_inversions(generator, [tmp_path / "a.safetensors"])
    table = generator.adapter.pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[-1], rows(1)[0])


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_two_encoders(names: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "zorb.safetensors"
    save_file({names[0]: rows(2), names[1]: 2 * rows(2)}, path)
    generator = fresh("sdxl")
    assert add_inversions(generator, [path]) == ["zorb"]
    pipeline = generator.adapter.pipeline
    for encoder, factor in ((pipeline.text_encoder, 1), (pipeline.text_encoder_2, 2)):
        assert torch.equal(encoder.get_input_embeddings().weight[-2:], factor * rows(2))
    other = fresh("sdxl").embed("a zorb").tensors["prompt"]
    assert not torch.equal(generator.embed("a zorb").tensors["prompt"], other)


def test_types_of_one_byte_are_read(lora: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(lora).items()}
    save_file(small, tmp_path / "small.safetensors")
    save_file({name: tensor.float() for name, tensor in small.items()}, tmp_path / "wide.safetensors")
    save_file({"zorb": rows(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    found = []
    for name in ("small", "wide"):
        generator = fresh()
        add_inversions(generator, [tmp_path / "a.safetensors"])
        add_loras(generator, [str(tmp_path / f"{name}.safetensors")])
        found.append(generator.render(generator.embed("a zorb"), SEEDS))
    assert torch.equal(*found)
    assert not torch.allclose(found[0], fresh().render(fresh().embed("a zorb"), SEEDS), atol=1e-4)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_bad_inversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases: list[tuple[str, Callable[[Path], Any], str]] = [
        (
            "wide.safetensors",
            lambda path: save_file({"zorb": rows(1, 24)}, path),
            "of width 24; tiny-sd has 1, of width 16",
        ),
        (
            "two.safetensors",
            lambda path: save_file({"a": rows(1), "b": rows(1)}, path),
            "expected the vectors of one word",
        ),
        ("clip.safetensors", lambda path: save_file({"clip_l": rows(1), "clip_g": rows(1)}, path), "for 2 encoder"),
        ("evil.pt", lambda path: torch.save(Evil(), path), "it is no file of tensors alone"),
        ("list.pt", lambda path: torch.save([rows(1)], path), "expected the vectors of one word, got a list"),
        ("nan.safetensors", lambda path: save_file({"zorb": rows(1) * torch.nan}, path), "NaN or infinity"),
        ("whole.safetensors", lambda path: save_file({"zorb": torch.ones(1, 16).long()}, path), "vectors of numbers"),
        ("red.safetensors", lambda path: save_file({"red</w>": rows(1)}, path), "expected a new word"),
        ("my style.safetensors", lambda path: save_file({"emb_params": rows(1)}, path), "word without spaces"),
    ]
    for name, write, message in cases:
        write(tmp_path / name)
        generator = fresh()
        before = generator.model
        with pytest.raises(ThalwegError, match=message) as raised:
            add_inversions(generator, [tmp_path / name])
        assert "\n" not in str(raised.value)
        assert generator.model == before, "nothing half-loaded is left"
    assert not Path("ran").exists()
    with pytest.raises(UsageError, match="expected a textual inversion named"):
        add_inversions(fresh(), ["a.png"])
    save_file({"zorb": rows(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="expected a model that takes learned words"):
        add_inversions(fresh("sd3"), [tmp_path / "a.safetensors"])


def test_a_model_config_names_adapters_by_absolute_paths(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"zorb": rows(1)}, tmp_path / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(lora=(f"{lora}:0.5",), inversion=("a.safetensors",))
    assert config.lora == (f"{lora.resolve()}:0.5",)
    assert config.inversion == (str(tmp_path.resolve() / "a.safetensors"),)
    assert (
        ModelConfig.read({**vars(config), "lora": list(config.lora), "inversion": list(config.inversion)}, "x")
        == config
    )


FAMILIES = ("sdxl", "sd3", "flux", "sana", "lumina2", "chroma", "qwen", "zimage", "klein")


@pytest.fixture(scope="module")
def denoiser_loras() -> dict[str, dict[str, torch.Tensor]]:
    """LoRA of the denoisers of all families, as diffusers saves them."""
    from peft import LoraConfig, get_peft_model_state_dict

    found = {}
    for builder in FAMILIES:
        adapter = fresh_family(builder).adapter
        torch.manual_seed(1)
        adapter.network.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
        weights = get_peft_model_state_dict(adapter.network)
        found[builder] = {f"{adapter.denoiser}.{name}": value.contiguous() for name, value in weights.items()}
    return found


def fresh_family(builder: str) -> DiffusionGenerator:
    return DiffusionGenerator(build(builder), f"tiny-{builder}", steps=2, **size(builder))


@pytest.mark.parametrize("builder", FAMILIES)
def test_a_lora_of_every_family_gives_the_librarys_own_images(
    builder: str, denoiser_loras: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path = tmp_path / "style.safetensors"
    save_file(denoiser_loras[builder], path)
    generator = fresh_family(builder)
    plain, before = generator.render(generator.embed("a red ball"), SEEDS), generator.model
    add_loras(generator, [f"{path}:0.7"])
    assert generator.model != before
    images = generator.render(generator.embed("a red ball"), SEEDS)
    own = fresh_family(builder)
    own.adapter.pipeline.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="style")
    own.adapter.pipeline.set_adapters(["style"], [0.7])
    torch.testing.assert_close(images, reference(own, "a red ball"), rtol=0, atol=1e-5)
    assert (images - plain).abs().max() > 1e-3
    embedding = leaves(generator.embed("a red ball"))
    generator.render(embedding, (3,)).mean().backward()
    slope = embedding.tensors["prompt"].grad
    assert slope is not None and slope.isfinite().all() and slope.norm() > 0


@pytest.mark.parametrize("builder", ["qwen", "zimage", "klein"])
def test_loras_under_the_names_of_other_programs(
    builder: str, denoiser_loras: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    images = []
    for prefix in ("transformer.", "diffusion_model."):
        renamed = {name.replace("transformer.", prefix, 1): value for name, value in denoiser_loras[builder].items()}
        save_file(renamed, tmp_path / "style.safetensors")
        generator = fresh_family(builder)
        add_loras(generator, [str(tmp_path / "style.safetensors")])
        images.append(generator.render(generator.embed("a red ball"), SEEDS))
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("builder", "other"),
    [("sana", "qwen"), ("lumina2", "zimage"), ("chroma", "sd3"), ("qwen", "sana"), ("klein", "flux")],
)
def test_a_lora_of_another_family_is_one_line(
    builder: str,
    other: str,
    denoiser_loras: dict[str, dict[str, torch.Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_file(denoiser_loras[other], tmp_path / "style.safetensors")
    generator = fresh_family(builder)
    before = generator.model
    said: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("diffusers.loaders.peft"), "handle", said.append)
    with pytest.raises(ThalwegError, match=r"LoRA style\.safetensors: .*trained on this kind of model") as raised:
        add_loras(generator, [str(tmp_path / "style.safetensors")])
    assert "\n" not in str(raised.value)
    assert said == []
    assert generator.model == before
