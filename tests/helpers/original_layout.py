"""Tiny pipelines written as single-file checkpoints in the original layout of Stable Diffusion."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTSIDE_BLOCKS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "encoder.layers": "transformer.resblocks",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def replaced(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def unet_layout(unet: Any) -> Tensors:
    layers, found = unet.config.layers_per_block + 1, {}
    with_attention = [bool(getattr(block, "attentions", None)) for block in unet.up_blocks]
    for name, tensor in unet.state_dict().items():
        block = re.match(
            r"(down_blocks|up_blocks|mid_block)\.?(\d*)\.?(resnets|attentions|\w+samplers)\.(\d+)\.(.*)", name
        )
        if block is None:
            found[replaced(name, OUTSIDE_BLOCKS)] = tensor
            continue
        side, number, kind, layer, rest = block[1], int(block[2] or 0), block[3], int(block[4]), block[5]
        rest = replaced(rest, RESNET) if kind == "resnets" else rest
        place = {"resnets": "0", "attentions": "1"}.get(kind)
        if side == "mid_block":
            found[f"middle_block.{2 * layer + (kind == 'attentions')}.{rest}"] = tensor
        elif side == "down_blocks":
            index = 1 + number * layers + (layer if place else layers - 1)
            found[f"input_blocks.{index}.{place or '0'}.{rest if place else rest.replace('conv', 'op')}"] = tensor
        else:
            index = number * layers + (layer if place else layers - 1)
            found[f"output_blocks.{index}.{place or 1 + with_attention[number]}.{rest}"] = tensor
    return found


def vae_layout(vae: Any) -> Tensors:
    most, found = len(vae.config.block_out_channels) - 1, {}
    for name, tensor in vae.state_dict().items():
        if ".attentions.0." in name:
            name = replaced(name.replace("mid_block.attentions.0", "mid.attn_1"), ATTENTION)
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{most - int(match[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{most - int(match[1])}.upsample", name)
        found[name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")] = tensor
    return found


def clip_layout(encoder: Any) -> Tensors:
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in encoder.state_dict().items()}


def open_clip_layout(encoder: Any) -> Tensors:
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}
    found = {}
    for name, tensor in tensors.items():
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif match := re.fullmatch(r"(.*)\.self_attn\.q_proj\.(weight|bias)", name):
            parts = [tensors[f"{match[1]}.self_attn.{side}_proj.{match[2]}"] for side in "qkv"]
            found[replaced(f"{match[1]}.attn.in_proj_{match[2]}", OPEN_CLIP)] = torch.cat(parts)
        elif not re.search(r"self_attn\.[kv]_proj", name):
            found[replaced(name, OPEN_CLIP)] = tensor
    return found


def original_layout(pipeline: Any) -> Tensors:
    """Return all weights of a pipeline under their original names, and some that belong to training."""
    parts = {"model.diffusion_model.": unet_layout(pipeline.unet), "first_stage_model.": vae_layout(pipeline.vae)}
    if hasattr(pipeline, "text_encoder_2"):
        parts["conditioner.embedders.0.transformer."] = clip_layout(pipeline.text_encoder)
        parts["conditioner.embedders.1.model."] = open_clip_layout(pipeline.text_encoder_2)
    else:
        parts["cond_stage_model.transformer."] = clip_layout(pipeline.text_encoder)
    tensors = {prefix + name: tensor.contiguous() for prefix, part in parts.items() for name, tensor in part.items()}
    return tensors | {"alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.ones(())}


def write_checkpoint(pipeline: Any, path: Path, **changed: torch.Tensor) -> Path:
    save_file(original_layout(pipeline) | changed, path)
    return path
