"""Identity of a model: hashes of its weights that do not depend on floating type and device.

A weight in float32, float16 and bfloat16 is three numbers, and no function of one number is the same for all three and
still distinguishes models. So a model has two hashes, of its weights rounded to float16 and to bfloat16. Rounding twice
to the same type changes nothing, so that each half-precision copy shares one hash with the model it was cast from.
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
"""Last parts of the names of buffers without weights (0, 1, 2, ...); old files store them, current networks do not.

Transformers itself leaves out tied weights (a T5 encoder's second name of its token table) and weights that a class
declares as ignored (a T5 encoder's decoder).
"""

FORMER_HASH_WEIGHTS = 2**26
"""Largest model, in weights, whose hash in the form of thalweg 0.1.0 is computed too, so that old embeddings load."""

NUM_PROBES = 16
"""Values per tensor that are compared to find weights changed in place."""


class Hashes(NamedTuple):
    """Hashes of the same weights rounded to two floating types, hexadecimal."""

    float16: str
    bfloat16: str


def hash_network(network: nn.Module) -> Hashes:
    """Return the hashes of a network's weights, with the active adapters and their strengths."""
    tensors, strengths = _active_weights(network)
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
        """Return the identity of the model `name`: hashes of its networks and of the words added to its tokenizers.

        Args:
            name: name of the model.
            parts: networks by the name of their part; None for an optional part that the model lacks.
            tokenizers: tokenizers by the part of their encoder.
        """
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
        """Store hashes of parts that were loaded less precise than their files; valid until a part changes."""
        self._hashes |= {part: (fingerprint(networks[part]), hashed) for part, hashed in hashes.items()}

    def _former_hash(self, parts: Mapping[str, nn.Module]) -> str:
        """Return the hash that thalweg 0.1.0 gave a small model without adapters; empty for others."""
        states = tuple(self._hashes[part][0] for part in parts)
        if self._former is None or self._former[0] != states:
            weights = {
                f"{part}.{name}": tensor
                for part, network in parts.items()
                for name, tensor in network.state_dict().items()
            }
            plain = not any(strengths for _, strengths, _ in states)  # that hash did not depend on strengths
            small = sum(tensor.numel() for tensor in weights.values()) <= FORMER_HASH_WEIGHTS
            self._former = states, content_hash(weights) if plain and small else ""
        return self._former[1]


def fingerprint(network: nn.Module) -> tuple[Any, ...]:
    """Return a value that almost certainly changes with a network's weights or adapters; takes milliseconds."""
    tensors, strengths = _active_weights(network)
    probes: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        flat = tensor.flatten()
        probes.setdefault(tensor.device, []).append(flat[:: max(1, len(flat) // NUM_PROBES)][:NUM_PROBES].float())
    digest = hashlib.sha256()
    for values in probes.values():
        digest.update(torch.cat(values).cpu().numpy().tobytes())
    shapes = [(name, tensor.shape, tensor.dtype, _version(tensor)) for name, tensor in tensors.items()]
    return tuple(shapes), tuple(strengths), digest.digest()


def added_tokens(tokenizer: Any) -> list[str]:
    """Return the sorted words added to a tokenizer after its training, for instance by a textual inversion."""
    special = set(tokenizer.all_special_tokens)
    return sorted(word for word in tokenizer.get_added_vocab() if word not in special)


def _active_weights(network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that affect a network's output, by name, and one line per adapter with its strength.

    Weights have the names that they have without adapters. Weights of disabled adapters are left out, so that a model
    whose adapters are all disabled has the hash of the model without them.
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
    """Return the number of in-place changes of a tensor; torch does not count those of inference tensors."""
    return 0 if tensor.is_inference() else tensor._version


def _prefixes(name: str) -> list[str]:
    """Return the names of the modules that contain a tensor, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _is_adapted(layer: Any) -> bool:
    """Return whether a layer is a peft adapter around another layer, such as a LoRA."""
    return "base_layer" in layer._modules and hasattr(layer, "active_adapters") and hasattr(layer, "disable_adapters")


def _active(layer: Any) -> list[str]:
    """Return the adapters that add to the layer's output: enabled, of a strength other than 0, not fused."""
    if layer.disable_adapters:
        return []
    names = [layer.active_adapters] if isinstance(layer.active_adapters, str) else list(layer.active_adapters)
    fused = getattr(layer, "merged_adapters", [])
    return [name for name in names if name not in fused and getattr(layer, "scaling", {}).get(name, 1.0) != 0]


def _has_effect(layer: Any) -> bool:
    """Return whether a layer's output may differ from its base layer's."""
    return bool(_active(layer)) or bool(layer.disable_adapters and getattr(layer, "merged_adapters", []))


def _strengths(layer: Any, active: list[str]) -> str:
    """Return a line with the strengths of a layer's adapters and the fused ones that are disabled.

    The layer subtracts a fused adapter that is disabled when it runs.
    """
    scaling = getattr(layer, "scaling", {})
    taken_out = list(getattr(layer, "merged_adapters", [])) if layer.disable_adapters else []
    return f"{[(name, float(scaling.get(name, 1.0))) for name in active]} without {taken_out}"


def _hash_tensor(tensor: Tensor) -> Hashes:
    """Return the hashes of one tensor's values; values of other than floating types are not rounded."""
    values = tensor.detach().cpu()
    dtypes = (torch.float16, torch.bfloat16) if values.is_floating_point() else (values.dtype,) * 2
    contents = (values.to(dtype).contiguous().reshape(-1).view(torch.uint8).numpy() for dtype in dtypes)
    return Hashes(*(hashlib.sha256(content.data).hexdigest() for content in contents))


def _hash_rows(rows: list[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
