"""Networks of the miniature: standard classes of diffusers and transformers with small configs."""

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.diffusion.miniature import captions, renderer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

WIDTH = 128
"""Width of a prompt embedding's rows, and of the features of texts and images."""


def tokenizer(folder: Path) -> "CLIPTokenizer":
    """Write the tokenizer's files to `folder` and return the tokenizer."""
    from transformers import CLIPTokenizer

    captions.write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=captions.TOKENS, pad_token="<|endoftext|>")


def text_encoder(tokenizer: "CLIPTokenizer") -> "CLIPTextModel":
    """Return the text encoder; its last hidden state is the prompt embedding, its pooled output the text's features."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=captions.TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def image_encoder() -> "CLIPVisionModelWithProjection":
    """Return the image encoder; its projection has the feature space of the text encoder's pooled output."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        image_size=renderer.SIZE,
        patch_size=8,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    return CLIPVisionModelWithProjection(config)


def autoencoder() -> "AutoencoderKL":
    """Return the autoencoder between images (N, 3, 64, 64) and latents (N, 4, 16, 16)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=renderer.SIZE,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def denoiser() -> "UNet2DConditionModel":
    """Return the denoiser of latents (N, 4, 16, 16), conditioned on prompt embeddings (N, 32, 128)."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=renderer.SIZE // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> "DDIMScheduler":
    """Return the scheduler: cosine noise levels, the last without signal, so that a background can take any colour."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
