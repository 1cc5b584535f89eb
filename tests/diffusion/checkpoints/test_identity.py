"""A model's identity: its weights and adapters, not its precision."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from pipelines import build
from thalweg.diffusion import DiffusionGenerator, load
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import UsageError
from thalweg.io.hashing import content_hash

TYPES = (torch.float16, torch.bfloat16, torch.float32)


class Adapted(nn.Module):
    """A linear layer as peft wraps it: a base layer, low-rank parts by adapter, and the state that peft keeps."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"style": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"style": nn.Linear(2, base.out_features, bias=False)})
        self.scaling = {"style": 1.0}
        self.active_adapters = ["style"]
        self.merged_adapters: list[str] = []
        self.disable_adapters = False

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.base_layer(inputs)
        if self.disable_adapters or self.merged_adapters:
            return output
        return output + self.scaling["style"] * self.lora_B["style"](self.lora_A["style"](inputs))


def adapt(generator: DiffusionGenerator) -> Adapted:
    """Put an adapter around one layer of a generator's denoiser, as `load_lora_weights` does."""
    attention = generator.adapter.network.mid_block.attentions[0].transformer_blocks[0].attn2
    attention.to_q = Adapted(attention.to_q)
    return attention.to_q


@pytest.fixture
def model() -> DiffusionGenerator:
    return DiffusionGenerator(build("sd"), "tiny", steps=2, height=16, width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    build("sd").save_pretrained(path)
    return path


@pytest.mark.parametrize(("here", "there"), itertools.combinations(TYPES, 2))
def test_the_hash_does_not_depend_on_precision(
    folder: Path, here: torch.dtype, there: torch.dtype, tmp_path: Path
) -> None:
    made, used = load(folder, dtype=here, steps=2), load(folder, dtype=there, steps=2)
    assert made.model.matches(used.model) and used.model.matches(made.model)
    for one, other in ((made, used), (used, made)):
        file = one.embed("a red ball").save(tmp_path / "e.safetensors")
        image = other.render(Embedding.load(file, other.model), [0])
        torch.testing.assert_close(image, other.render(other.embed("a red ball"), [0]), rtol=0, atol=0.1)


@pytest.mark.parametrize("kind", TYPES[:2])
def test_a_copy_in_half_precision_is_the_same_model(folder: Path, kind: torch.dtype, tmp_path: Path) -> None:
    build("sd").to(dtype=kind).save_pretrained(tmp_path / "half")
    copy = load(tmp_path / "half", dtype=torch.float32)
    assert copy.model.matches(load(folder).model)
    assert DiffusionGenerator(build("sd").to(dtype=kind), "tiny").model.matches(copy.model)


def test_the_hash_changes_with_the_weights(model: DiffusionGenerator) -> None:
    before = model.model
    assert model.model == before
    embedding = model.embed("a red ball")
    with torch.no_grad():
        model.adapter.network.conv_out.bias[0] += 0.5
    assert not model.model.matches(before)
    with pytest.raises(UsageError, match="the weights, the adapters or their strengths differ"):
        model.render(embedding, [0])


def test_the_hash_changes_with_adapters_and_their_strengths(model: DiffusionGenerator) -> None:
    base = model.model
    layer = adapt(model)
    full = model.model
    assert not full.matches(base)
    layer.scaling["style"] = 0.2
    assert not model.model.matches(full) and not model.model.matches(base)
    layer.scaling["style"] = 1.0
    assert model.model == full
    with torch.no_grad():
        layer.lora_B["style"].weight.mul_(2)
    assert not model.model.matches(full)


def test_disabled_adapters_do_not_change_the_hash(model: DiffusionGenerator) -> None:
    base = model.model
    layer = adapt(model)
    for name, value in (("disable_adapters", True), ("active_adapters", []), ("scaling", {"style": 0.0})):
        before = getattr(layer, name)
        setattr(layer, name, value)
        assert model.model == base, name
        setattr(layer, name, before)


def test_a_fused_adapter_changes_the_hash_by_its_weights(model: DiffusionGenerator) -> None:
    base = model.model
    layer = adapt(model)
    with torch.no_grad():  # as peft fuses: without a trace in the version counter
        layer.base_layer.weight.data += layer.lora_B["style"].weight @ layer.lora_A["style"].weight
    layer.merged_adapters = ["style"]
    fused = model.model
    assert not fused.matches(base)
    model.adapter.network.mid_block.attentions[0].transformer_blocks[0].attn2.to_q = layer.base_layer
    assert model.model == fused


def test_words_of_textual_inversions_change_the_hash(model: DiffusionGenerator) -> None:
    before = model.model
    pipeline: Any = model.adapter.pipeline
    pipeline.tokenizer.add_tokens(["<mine>"])
    assert not model.model.matches(before)


def test_an_image_adapter_is_refused_whenever_it_is_added(model: DiffusionGenerator) -> None:
    embedding = model.embed("a red ball")
    model.adapter.network.encoder_hid_proj = nn.Linear(4, 4)
    with pytest.raises(UsageError, match=r"guided by prompts alone, .* \(an IP-Adapter\)"):
        model.render(embedding, [0])
    with pytest.raises(UsageError, match="IP-Adapter"):
        DiffusionGenerator(model.adapter.pipeline, "tiny")


def test_files_of_the_former_hash_keep_working(model: DiffusionGenerator, tmp_path: Path) -> None:
    parts = {"text_encoder": model.adapter.pipeline.text_encoder, "unet": model.adapter.network}
    weights = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    old = Embedding(
        model.embed("a red ball").tensors, Lineage(ModelIdentity("tiny", content_hash(weights)), "a red ball")
    )
    again = Embedding.load(old.save(tmp_path / "old.safetensors"), model.model)
    assert torch.equal(model.render(again, [0]), model.render(model.embed("a red ball"), [0]))
    other = Embedding(old.tensors, Lineage(ModelIdentity("tiny", "0" * 64), "a red ball"))
    with pytest.raises(UsageError, match=r"as those of thalweg 0\.1\.0: make it again"):
        other.check_model(model.model)


def test_real_adapters() -> None:
    pipeline = build("sd")
    generator = DiffusionGenerator(pipeline, "tiny", steps=2)
    base = generator.model
    low_rank = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipeline.unet.add_adapter(low_rank, "style")
    seen = [base, generator.model]
    for strength in (0.2, 0.7):
        pipeline.set_adapters(["style"], [strength])
        seen.append(generator.model)
    pipeline.fuse_lora()
    seen.append(generator.model)
    assert not any(one.matches(other) for one, other in itertools.combinations(seen, 2))
    pipeline.unfuse_lora()
    pipeline.unet.disable_lora()
    assert generator.model.matches(base)


def test_embeddings_belong_to_the_model_with_its_adapters(model: DiffusionGenerator) -> None:
    vector = model.token_vector("red")
    before = model.embed_with("a * ball", "*", vector)
    with torch.no_grad():
        model.adapter.pipeline.text_encoder.get_input_embeddings().weight.mul_(1.5)
    after = model.embed_with("a * ball", "*", vector)
    assert not torch.equal(after.tensors["negative"], before.tensors["negative"])
    assert torch.equal(after.tensors["negative"], model.embed("").tensors["negative"])
