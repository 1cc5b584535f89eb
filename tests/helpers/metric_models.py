"""Tiny random models with the files that the libraries save, for tests without a network."""

from pathlib import Path

import torch

from thalweg.diffusion.miniature import captions

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def save_clip(folder: Path, **layout: object) -> Path:
    """Save a CLIP model with images of 32 pixels; `layout` are further fields of its config, such as CLIP-H's."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    captions.write_tokenizer(folder)
    words = CLIPTokenizer.from_pretrained(folder, model_max_length=32, pad_token="<|endoftext|>")
    text = {**SMALL, "vocab_size": len(words), "max_position_embeddings": 32, "eos_token_id": words.eos_token_id}
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    CLIPModel(
        CLIPConfig(text_config={**text, **layout}, vision_config={**vision, **layout}, projection_dim=12)
    ).save_pretrained(folder)
    images = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=MEAN, image_std=DEVIATION
    )
    CLIPProcessor(image_processor=images, tokenizer=words).save_pretrained(folder)
    return folder


def save_dino(folder: Path, kind: str = "Dinov2") -> Path:
    """Save a DINOv2 model that crops 32 of 36 pixels; `kind` is the beginning of its classes' names."""
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 48, "patch_size": 8}
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, image_mean=MEAN, image_std=DEVIATION
    ).save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """Save a SigLIP model with images of 32 pixels and texts of 16 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel

    known = {word: index for index, word in enumerate(["</s>", "<unk>", "a", "red", "blue", "ball", "cube"])}
    own = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=16
    )
    words.save_pretrained(folder)
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(known), "max_position_embeddings": 16}
    SiglipModel(
        SiglipConfig(text_config=text, vision_config={**SMALL, "image_size": 32, "patch_size": 8})
    ).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}, image_mean=MEAN, image_std=DEVIATION).save_pretrained(folder)
    return folder
