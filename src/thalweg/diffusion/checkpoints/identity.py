"""Which model an embedding belongs to: hashes of what the weights are, whatever type and device they are cast to.

A weight in float32, float16 and bfloat16 is three numbers, and no function of one number is the same for all three and
still tells models apart. So a model has two hashes, of its weights rounded to float16 and to bfloat16: rounding twice
to the same type changes nothing, so each half-precision copy shares one hash with the model it was cast from.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.embedding import ModelIdentity
from thalweg.io.hashing import content_hash

CONSTANT_BUFFERS = ("position_ids",)
"""Last parts of the names of buffers that hold no weights: 0, 1, 2, ...; old files store them, present networks do not.

Tied weights (a T5 encoder's second name of its token table) and what a class says it ignores (a T5 encoder's decoder)
are left out by transformers itself.
"""

FORMER_HASH_WEIGHTS = 2**26
"""Largest model, in weights, whose hash by thalweg 0.1.0 is computed as well, so that old embeddings keep working."""

PROBED = 16
"""Values per tensor that tell whether weights have changed in place."""


class Hashes(NamedTuple):
    """Hashes of the same weights, rounded to two types, hexadecimal."""

    float16: str
    bfloat16: str


def hash_network(network: nn.Module) -> Hashes:
    """Return the hashes of a network's weights with the adapters that are in effect, and their strengths."""
    tensors, strengths = _in_effect(network)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        hashes = dict(zip(tensors, pool.map(_hash_tensor, tensors.values()), strict=True))
    rows = [
        [f"{name} {tuple(tensors[name].shape)} {hashed[side]}" for name, hashed in hashes.items()] for side in (0, 1)
    ]
    return Hashes(*(_hash_rows([*side, *strengths]) for side in rows))


class Identifier:
    """Hashes of a model's parts, computed again where the weights or the adapters have changed."""

    def __init__(self) -> None:
        self._hashes: dict[str, tuple[Any, Hashes]] = {}
        self._former: tuple[Any, str] | None = None

    def identify(
        self, name: str, parts: Mapping[str, nn.Module | None], tokenizers: Mapping[str, Any]
    ) -> ModelIdentity:
        """Return the identity of the model `name` of these networks, and of the words added to its tokenizers."""
        present = {part: network for part, network in parts.items() if network is not None}
        for part, network in present.items():
            state = fingerprint(network)
            if part not in self._hashes or self._hashes[part][0] != state:
                self._hashes[part] = state, hash_network(network)
        words = {part: added_tokens(tokenizer) for part, tokenizer in tokenizers.items() if tokenizer is not None}
        added = [f"{part} tokens {found}" for part, found in words.items() if found]
        float16, bfloat16 = (
            _hash_rows([*(f"{part} {self._hashes[part][1][side]}" for part in present), *added]) for side in (0, 1)
        )
        return ModelIdentity(name, float16, bfloat16, self._former_hash(present))

    def remember(self, networks: Mapping[str, nn.Module], hashes: Mapping[str, Hashes]) -> None:
        """Take the hashes of parts whose files are more precise than what was loaded; valid until a part changes."""
        self._hashes |= {part: (fingerprint(networks[part]), hashed) for part, hashed in hashes.items()}

    def _former_hash(self, parts: Mapping[str, nn.Module]) -> str:
        """Return the hash that thalweg 0.1.0 gave the model, where that costs next to nothing; else nothing."""
        states = tuple(self._hashes[part][0] for part in parts)
        if self._former is None or self._former[0] != states:
            weights = {
                f"{part}.{name}": tensor
                for part, network in parts.items()
                for name, tensor in network.state_dict().items()
            }
            plain = not any(strengths for _, strengths, _ in states)  # it did not tell strengths apart
            small = sum(tensor.numel() for tensor in weights.values()) <= FORMER_HASH_WEIGHTS
            self._former = states, content_hash(weights) if plain and small else ""
        return self._former[1]


def fingerprint(network: nn.Module) -> tuple[Any, ...]:
    """Return a value that changes, as good as surely, with a network's weights or adapters; it takes milliseconds."""
    tensors, strengths = _in_effect(network)
    probes: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        flat = tensor.flatten()
        probes.setdefault(tensor.device, []).append(flat[:: max(1, len(flat) // PROBED)][:PROBED].float())
    digest = hashlib.sha256()
    for values in probes.values():
        digest.update(torch.cat(values).cpu().numpy().tobytes())
    shapes = [(name, tensor.shape, tensor.dtype, _version(tensor)) for name, tensor in tensors.items()]
    return tuple(shapes), tuple(strengths), digest.digest()


def added_tokens(tokenizer: Any) -> list[str]:
    """Return the words that a tokenizer was given after its training, as textual inversions do, in order."""
    special = set(tokenizer.all_special_tokens)
    return sorted(word for word in tokenizer.get_added_vocab() if word not in special)


def _in_effect(network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that make a network's output, by name, and the strengths of its adapters in words.

    Weights keep the names they have without adapters; those of an adapter that is switched off are left out, so that a
    model whose adapters are all off is the model without them.
    """
    modules = dict(network.named_modules())
    layers = {name: module for name, module in modules.items() if _is_adapted(module)}
    active = {name: _active(layer) for name, layer in layers.items()}
    strengths = [f"{name} {_strengths(layer, active[name])}" for name, layer in layers.items() if _has_effect(layer)]
    image_prompts = {name: module for name, module in modules.items() if "to_k_ip" in module._modules}
    strengths += [f"{name} image prompt {module.scale}" for name, module in image_prompts.items()]
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.rpartition(".")[2] in CONSTANT_BUFFERS:
            continue
        owner = next((prefix for prefix in _prefixes(name) if prefix in layers), None) if layers else None
        if owner is None:
            tensors[name] = tensor
            continue
        inner = name[len(owner) + 1 :]
        if inner.startswith("base_layer."):
            tensors[f"{owner}.{inner.removeprefix('base_layer.')}"] = tensor
        elif set(inner.split(".")) & set(active[owner]):
            tensors[name] = tensor
    return dict(sorted(tensors.items())), sorted(strengths)


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, as far as torch counts that."""
    return 0 if tensor.is_inference() else tensor._version


def _prefixes(name: str) -> list[str]:
    """Return the names of the modules that a tensor lies in, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _is_adapted(layer: Any) -> bool:
    """Whether a layer is one that peft wraps around another: LoRA and its kin."""
    return "base_layer" in layer._modules and hasattr(layer, "active_adapters") and hasattr(layer, "disable_adapters")


def _active(layer: Any) -> list[str]:
    """Return the adapters that add to the layer's output: switched on, of a strength other than 0, not fused."""
    if layer.disable_adapters:
        return []
    names = [layer.active_adapters] if isinstance(layer.active_adapters, str) else list(layer.active_adapters)
    fused = getattr(layer, "merged_adapters", [])
    return [name for name in names if name not in fused and getattr(layer, "scaling", {}).get(name, 1.0) != 0]


def _has_effect(layer: Any) -> bool:
    """Whether a layer's output may be another than its base layer's."""
    return bool(_active(layer)) or bool(layer.disable_adapters and getattr(layer, "merged_adapters", []))


def _strengths(layer: Any, active: list[str]) -> str:
    """Return the strengths of a layer's adapters; a fused one that is switched off is taken out when the layer runs."""
    scaling = getattr(layer, "scaling", {})
    taken_out = list(getattr(layer, "merged_adapters", [])) if layer.disable_adapters else []
    return f"{[(name, float(scaling.get(name, 1.0))) for name in active]} without {taken_out}"


def _hash_tensor(tensor: Tensor) -> Hashes:
    """Return the hashes of one tensor's values; other than floating ones are taken as they are."""
    values = tensor.detach().cpu()
    kinds = (torch.float16, torch.bfloat16) if values.is_floating_point() else (values.dtype,) * 2
    hashed = (values.to(kind).contiguous().reshape(-1).view(torch.uint8).numpy() for kind in kinds)
    return Hashes(*(hashlib.sha256(content.data).hexdigest() for content in hashed))


def _hash_rows(rows: list[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
