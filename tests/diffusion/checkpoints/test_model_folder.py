"""Folders in other layouts and damaged ones: they load, or raise a one-line error with the next step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline_parts import clip_encoder, unet
from pipelines import build
from thalweg.diffusion import DiffusionGenerator, load
from thalweg.diffusion.checkpoints import model_folder
from thalweg.diffusion.config import ModelConfig
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import ThalwegError, UsageError

TEXT = "text_encoder/model.safetensors"
DENOISER = "unet/diffusion_pytorch_model.safetensors"
DECODER = "vae/diffusion_pytorch_model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 492265168\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the folder of a tiny model, saved once."""
    root = tmp_path_factory.mktemp("saved")

    def save(builder: str) -> Path:
        if not (root / builder).is_dir():
            build(builder).save_pretrained(root / builder)
        return root / builder

    return save


@pytest.fixture
def copy(saved: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A function that gives a copy of such a folder to change."""

    def copied(builder: str = "sd") -> Path:
        return Path(shutil.copytree(saved(builder), tmp_path / builder))

    return copied


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop(part: str) -> Callable[[dict[str, torch.Tensor]], None]:
    """Return a change that removes the tensors with `part` in their names."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if part in name]:
            del tensors[name]

    return change


def refusal(folder: Path | str, kind: type[ThalwegError] = ThalwegError, **options: Any) -> str:
    """Return the line with which a model is refused; the error's class decides the exit code."""
    with pytest.raises(ThalwegError) as caught:
        load(folder, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("builder", "file", "lost", "count"),
    [
        ("sd", TEXT, "layers.1.", 16),
        ("sd", DENOISER, "mid_block.attentions", 26),
        ("sd", DECODER, "decoder.conv_out.bias", 1),
        ("sdxl", "text_encoder_2/model.safetensors", "text_projection", 1),
        ("sd3", "text_encoder_3/model.safetensors", "layer_norm", 3),
        ("sd3", "transformer/diffusion_pytorch_model.safetensors", "pos_embed.proj.bias", 1),
    ],
)
def test_missing_weights_are_named(copy: Callable[[str], Path], builder: str, file: str, lost: str, count: int) -> None:
    folder = copy(builder)
    edit_weights(folder / file, drop(lost))
    part = file.partition("/")[0]
    assert f"{builder}: its {part}: {count} of its weights are missing: " in (line := refusal(folder))
    assert lost.removesuffix(".") in line


@pytest.mark.parametrize("file", [TEXT, DENOISER])
def test_unexpected_weights_are_named(copy: Callable[[str], Path], file: str) -> None:
    folder = copy("sd")
    edit_weights(folder / file, lambda tensors: tensors.update({"motion.weight": torch.zeros(2)}))
    assert "1 weights in its file belong to no part of it: motion.weight" in refusal(folder)


@pytest.mark.parametrize("file", [TEXT, DENOISER])
def test_weights_of_another_shape_are_named(copy: Callable[[str], Path], file: str) -> None:
    folder = copy("sd")
    name = "text_model.embeddings.token_embedding.weight" if file == TEXT else "conv_in.weight"

    def change(tensors: dict[str, torch.Tensor]) -> None:
        found = next(full for full in tensors if full.endswith(name.removeprefix("text_model.")))
        tensors[found] = tensors[found][:3].clone()

    edit_weights(folder / file, change)
    line = refusal(folder)
    assert "shape" in line and name.removeprefix("text_model.") in line and "(3, " in line


@pytest.mark.parametrize(
    ("value", "kind"), [(torch.nan, torch.float32), (torch.inf, torch.float32), (1e6, torch.float16)]
)
def test_weights_that_are_not_finite_are_named(copy: Callable[[str], Path], value: float, kind: torch.dtype) -> None:
    folder = copy("sd")
    edit_weights(folder / DENOISER, lambda tensors: tensors["conv_in.bias"].fill_(value))
    line = refusal(folder, dtype=kind)
    assert "its unet: 1 of its weights hold NaN or infinity: conv_in.bias" in line
    assert ("too large for float16" in line) == (kind == torch.float16)


def test_integers_are_no_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    edit_weights(folder / DENOISER, lambda tensors: tensors.update({"conv_in.bias": torch.ones(8, dtype=torch.int32)}))
    assert "its file holds integers in conv_in.bias" in refusal(folder)


def test_buffers_of_old_files_are_no_unexpected_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    before = load(folder).model
    name = "text_model.embeddings.position_ids"
    edit_weights(folder / TEXT, lambda tensors: tensors.update({name: torch.arange(8)[None]}))
    assert load(folder).model == before


@pytest.mark.parametrize("file", [TEXT, DENOISER])
def test_pickles_are_refused(copy: Callable[[str], Path], file: str) -> None:
    folder = copy("sd")
    (folder / file).rename((folder / file).with_name("pytorch_model.bin"))
    line = refusal(folder)
    assert "found pytorch_model.bin; pickles can run code" in line and "save_pretrained" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "it is a Git LFS pointer to the file; fetch the file itself with `git lfs pull`"),
        (b"<!DOCTYPE html><title>404</title>", "it is a web page"),
        (b"", "it is empty"),
        (b"not weights", "it is cut short or damaged"),
    ],
)
@pytest.mark.parametrize("file", [TEXT, DENOISER])
def test_files_found_instead_of_weights_are_named(
    copy: Callable[[str], Path], file: str, content: bytes, said: str
) -> None:
    folder = copy("sd")
    (folder / file).write_bytes(content)
    assert said in refusal(folder)


def test_files_found_instead_of_a_config_are_named(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    config = (folder / "unet/config.json").read_bytes()
    (folder / "unet/config.json").write_bytes(POINTER)
    assert "its config.json can't be read: it is a Git LFS pointer" in refusal(folder, UsageError)
    (folder / "unet/config.json").write_bytes(config)
    (folder / "tokenizer/tokenizer_config.json").write_bytes(POINTER)
    assert "its tokenizer: its tokenizer_config.json can't be read: it is a Git LFS pointer" in refusal(folder)
    (folder / "model_index.json").write_bytes(POINTER)
    assert "its model_index.json can't be read: it is a Git LFS pointer" in refusal(folder, UsageError)


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_the_only_variant_is_loaded(tmp_path: Path, saved: Callable[[str], Path], variant: str) -> None:
    build("sd").to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant=variant)
    assert not (tmp_path / "half" / DENOISER).exists()
    model = load(tmp_path / "half", steps=2)
    assert model.adapter.network.dtype == torch.float32
    assert model.model.matches(load(saved("sd")).model)


def test_shards_are_loaded_and_a_missing_one_is_named(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    build("sd").save_pretrained(tmp_path / "parts", max_shard_size="40KB")
    shards = sorted((tmp_path / "parts/unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert load(tmp_path / "parts").model.hash == load(saved("sd")).model.hash
    shards[1].unlink()
    assert f"names {shards[1].name}, which is missing" in refusal(tmp_path / "parts")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dreamshaper.safetensors", "got a single file: make a folder of it"),
        ("v1-5.ckpt", "got one file of pickles, which can run code when opened"),
        ("flux-q4.gguf", "gguf weights are not read"),
    ],
)
def test_single_files_are_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    (tmp_path / "models").mkdir()
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "models" / name, f"models/{name}", f"./models/{name}"):
        assert said in refusal(path, UsageError)
    assert f"; {name} there: " in refusal(tmp_path / "models", UsageError)
    save_file({"unet.to_q.lora_A.weight": torch.zeros(2, 4)}, tmp_path / "style.safetensors")
    assert "got a LoRA, which belongs on top of a model" in refusal(tmp_path / "style.safetensors", UsageError)
    model = ModelIdentity("toy", "0" * 64)
    file = Embedding({"prompt": torch.zeros(2, 2)}, Lineage(model)).save(tmp_path / "mine.safetensors")
    assert "got an embedding file; give it as the prompt" in refusal(file, UsageError)
    assert "found no file 'models/other.safetensors'" in refusal("models/other.safetensors", UsageError)


@pytest.mark.parametrize("name", ["/no/where", "./none", "a/b/c", "~/none", "none", "a\0b", "x" * 5000, ""])
def test_names_of_neither_a_folder_nor_a_hub_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(name, UsageError)
    assert "expected a " in line and "hub" in line


def test_folders_near_the_model(saved: Callable[[str], Path], tmp_path: Path) -> None:
    assert "it is a part of the model sd, give that folder" in refusal(saved("sd") / "unet", UsageError)
    shutil.copytree(saved("sd"), tmp_path / "models--me--sd" / "snapshots" / "abc")
    line = refusal(tmp_path / "models--me--sd", UsageError)
    assert "there is one in snapshots/abc, give that folder" in line


def test_a_models_path_is_kept_whole(saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved("sd").parent)
    choice = ModelConfig("sd", clip="sd/text_encoder")
    assert (choice.model, choice.clip) == (str(saved("sd").resolve()), str(saved("sd").resolve() / "text_encoder"))
    assert ModelConfig("owner/model").model == "owner/model"
    monkeypatch.chdir("/")
    assert ModelConfig.read(vars(choice), "run").load().model.name == "sd"


def test_sd3_without_t5(copy: Callable[[str], Path]) -> None:
    folder = copy("sd3")
    shutil.rmtree(folder / "text_encoder_3")
    assert "its text_encoder_3: expected a folder text_encoder_3, found none" in (line := refusal(folder))
    assert "write [null, null] for text_encoder_3 and tokenizer_3 in model_index.json" in line
    edit_json(folder / "model_index.json", text_encoder_3=[None, None])
    assert "expected text_encoder_3 and tokenizer_3, or neither" in refusal(folder, UsageError)
    edit_json(folder / "model_index.json", tokenizer_3=[None, None])
    model = load(folder, steps=2, height=16, width=16)
    assert not bool(model.embed("red").tensors["prompt"][-256:].any())
    assert model.render(model.embed("red"), [0]).isfinite().all()


def test_a_pipeline_without_its_first_encoder(copy: Callable[[str], Path]) -> None:
    folder = copy("sdxl")
    edit_json(folder / "model_index.json", text_encoder=[None, None], tokenizer=[None, None])
    assert "names no text_encoder; a refiner alone makes no images" in refusal(folder, UsageError)
    pipeline = diffusers.StableDiffusionXLPipeline(**{**build("sdxl").components, "text_encoder": None})
    with pytest.raises(UsageError, match="it has no text_encoder; a refiner alone"):
        DiffusionGenerator(pipeline, "refiner")


@pytest.mark.parametrize(
    ("part", "config", "package"),
    [
        ("unet", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ("text_encoder", {"load_in_8bit": True}, "bitsandbytes"),
        ("vae", {"quant_method": "torchao", "quant_type": "int8wo"}, "torchao"),
        ("text_encoder", {"quant_method": "quanto", "weights": "int8"}, "optimum-quanto"),
        ("unet", {"quant_method": "gguf"}, "gguf"),
    ],
)
def test_quantized_parts_name_their_library(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, part: str, config: dict[str, Any], package: str
) -> None:
    monkeypatch.setattr(model_folder, "find_spec", lambda name: None)
    folder = copy("sd")
    edit_json(folder / part / "config.json", quantization_config=config)
    line = refusal(folder)
    assert line.startswith(f"sd: its {part}: ") and f"pip install {package}, or take the model that is not" in line


@pytest.mark.parametrize("config", [{"quant_method": "mystery"}, {"quant_method": ["a"]}, "nf4"])
def test_unknown_quantization(copy: Callable[[str], Path], config: Any) -> None:
    folder = copy("sd")
    edit_json(folder / "unet/config.json", quantization_config=config)
    assert "its unet: " in refusal(folder, UsageError)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"_class_name": ["my_pipeline", "MyPipeline"]},
            "got a custom pipeline, ['my_pipeline', 'MyPipeline'], whose own",
        ),
        ({"_class_name": 7}, "got a 7"),
        ({"_class_name": None}, "names no pipeline class"),
        ({"unet": ["my_unet", "MyUNet"]}, "a model's own code is never run"),
        ({"unet": ["diffusers", "NoSuchUNet"]}, "expected a class of diffusers "),
        ({"unet": ["transformers", "AutoModel"]}, "expected a class of transformers "),
        ({"unet": "UNet2DConditionModel"}, "expected [library, class]"),
        ({"unet": [None, None]}, "names no unet"),
        ({"tokenizer": [None, None]}, "names no tokenizer"),
    ],
)
def test_odd_indexes(copy: Callable[[str], Path], changes: dict[str, Any], said: str) -> None:
    folder = copy("sd")
    (folder / "my_pipeline.py").write_text("raise SystemExit('this was run')")
    edit_json(folder / "model_index.json", **changes)
    assert said in refusal(folder, UsageError)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"_class_name": ' + "[" * 100_000])
def test_damaged_indexes(copy: Callable[[str], Path], text: str) -> None:
    folder = copy("sd")
    (folder / "model_index.json").write_text(text)
    assert "model_index.json" in refusal(folder, UsageError)


def test_a_part_of_another_class(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    edit_json(folder / "unet/config.json", _class_name="UNetMotionModel")
    assert "expected a UNet2DConditionModel, its config.json is of a UNetMotionModel" in refusal(folder, UsageError)


@pytest.mark.parametrize("files", [("tokenizer.json", "vocab.json"), ("tokenizer_config.json",)])
def test_tokenizers_without_their_files(copy: Callable[[str], Path], files: tuple[str, ...]) -> None:
    folder = copy("sd")
    for file in files:
        (folder / "tokenizer" / file).unlink(missing_ok=True)
    assert "its tokenizer: expected " in refusal(folder)


def test_a_tokenizer_of_another_model(copy: Callable[[str], Path]) -> None:
    folder = copy("sd")
    build("sd").tokenizer.add_tokens([])
    tokenizer = build("sd").tokenizer
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder / "tokenizer")
    assert "tokens, its encoder" in refusal(folder)


def test_denoisers_of_more_inputs_than_a_prompt() -> None:
    for config, said in (
        ({"in_channels": 9}, "got one with 9; models for inpainting"),
        ({"num_class_embeds": 3}, "labels"),
    ):
        pipeline = build("sd")
        pipeline.register_modules(unet=unet(16, **config))
        with pytest.raises(UsageError, match=said):
            DiffusionGenerator(pipeline, "other")


def test_parts_of_two_models() -> None:
    for builder in ("sd", "sdxl", "sd3", "flux"):
        pipeline = build(builder)
        part = "text_encoder_2" if builder in ("sdxl", "sd3") else "text_encoder"
        pipeline.register_modules(**{part: clip_encoder(24, projected=builder in ("sdxl", "sd3"))})
        with pytest.raises(
            UsageError, match=r"expected parts of one model, its \w+ takes [\w ]+ of width \d+, .* give"
        ):
            DiffusionGenerator(pipeline, "mixed")


def test_weights_that_are_not_in_memory() -> None:
    pipeline = build("sd")
    pipeline.unet.to("meta")
    with pytest.raises(UsageError, match=r"the weights of unet are not in memory \(meta tensors"):
        DiffusionGenerator(pipeline, "offloaded")


def test_sd3_has_a_largest_size(saved: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=r"expected height and width of at most \d+ for sd3, got 2048 x 2048"):
        load(saved("sd3"), height=2048, width=2048)


def test_devices_and_types_are_checked_first(saved: Callable[[str], Path]) -> None:
    assert "expected a device of this machine" in refusal(saved("sd"), UsageError, device="gpu")
    assert "expected dtype float16" in refusal(saved("sd"), UsageError, dtype="int4")
    assert load(saved("sd"), dtype="bfloat16", device="CPU").adapter.network.dtype == torch.bfloat16
