"""Training of the miniature: attribute classifier, two encoders, autoencoder, then the denoiser on its latents.

Every stage writes its component in the standard layout, resumes from its last checkpoint and is skipped when done.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, mse_loss, normalize

from thalweg.devices import read_device
from thalweg.diffusion.checkpoints.weight_files import load_network
from thalweg.diffusion.miniature import captions, networks, renderer
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier
from thalweg.diffusion.miniature.fitting import Progress, Stage, fit
from thalweg.errors import UsageError
from thalweg.io.atomic import atomic_write
from thalweg.io.safetensors_files import read_tensors


@dataclass(frozen=True)
class TrainingRecipe:
    """Seed, sizes and step counts of a training; the defaults are the CPU recipe of the shipped weights.

    Attributes:
        seed: seed of the dataset, the networks and the batches.
        images: number of renderings to train on.
        reader_steps: training steps of the attribute classifier.
        encoder_steps: training steps of the text and image encoders.
        autoencoder_steps: training steps of the autoencoder.
        denoiser_steps: training steps of the denoiser.
        batch: batch size.
        checkpoint_every: steps between two checkpoints.
    """

    seed: int = 0
    images: int = 40_000
    reader_steps: int = 2_500
    encoder_steps: int = 3_000
    autoencoder_steps: int = 2_000
    denoiser_steps: int = 6_600
    batch: int = 64
    checkpoint_every: int = 250


class SyntheticDataset:
    """Random objects and their renderings, stored on disk.

    Attributes:
        images: uint8 (N, 3, 64, 64).
        labels: int64 (N, 8), index of each attribute's value.
    """

    def __init__(self, folder: Path, count: int, seed: int, progress: Progress) -> None:
        from safetensors.torch import save

        path = folder / "world.safetensors"
        if not path.is_file():
            random = torch.Generator().manual_seed(seed)
            images, labels = [], []
            for done in range(0, count, 250):
                objects = renderer.draw_attributes(min(250, count - done), random)
                images.append((renderer.render(objects, random) * 255).round().byte())
                labels.append(_labels(objects))
                progress("dataset", done, count, 0.0)
            atomic_write(path, save({"images": torch.cat(images), "labels": torch.cat(labels)}))
        stored = read_tensors(path, f"{path} (remove it to draw the images again)")
        self.images, self.labels = stored["images"], stored["labels"]

    def pick(self, index: Tensor) -> Tensor:
        """Return the images (B, 3, 64, 64) at an index (B), float32 in 0..1."""
        return self.images[index].float() / 255

    def attributes(self, index: int) -> dict[str, str]:
        """Return the attributes of image `index`, by name."""
        values = self.labels[index].tolist()
        return {name: renderer.ATTRIBUTES[name][value] for name, value in zip(renderer.ATTRIBUTES, values, strict=True)}


def train(folder: Path, recipe: TrainingRecipe, progress: Progress, device: str = "cpu") -> None:
    """Train all components into `folder`; finished stages are skipped, an interrupted one is resumed.

    Args:
        folder: folder of the model, in the layout of a diffusers pipeline, and of the training's state.
        recipe: seed, sizes and step counts.
        progress: called with the stage, the step, the number of steps and the loss.
        device: device to train on.

    Raises:
        UsageError: the folder has a training with another recipe, or no such device.
    """
    device = str(read_device(device))
    _check_recipe(folder, recipe)
    dataset = SyntheticDataset(folder / "training", recipe.images, recipe.seed, progress)
    train_attribute_classifier(folder, dataset, recipe, progress, device)
    train_encoders(folder, dataset, recipe, progress, device)
    train_autoencoder(folder, dataset, recipe, progress, device)
    train_denoiser(folder, dataset, recipe, progress, device)


def train_attribute_classifier(
    folder: Path, dataset: SyntheticDataset, recipe: TrainingRecipe, progress: Progress, device: str = "cpu"
) -> None:
    """Train the attribute classifier on renderings with noise of standard deviation 0.02; write its weights."""
    from safetensors.torch import save

    if (folder / "reader.safetensors").is_file():
        return
    torch.manual_seed(recipe.seed)
    classifier = AttributeClassifier()

    def loss(index: Tensor, random: torch.Generator) -> Tensor:
        images = dataset.pick(index)
        noisy = images + 0.02 * torch.randn(images.shape, generator=random)
        logits = classifier(noisy.to(device))
        labels = dataset.labels[index].to(device)
        return torch.stack([cross_entropy(logits[name], labels[:, i]) for i, name in enumerate(logits)]).sum()

    stage = _stage("reader", recipe.reader_steps, 2e-3, recipe)
    fit(stage, classifier, loss, len(dataset.images), folder, progress, device)
    atomic_write(
        folder / "reader.safetensors", save({name: value.half() for name, value in classifier.state_dict().items()})
    )


class Encoders(nn.Module):
    """Text and image encoder in training: a shared feature space, and heads that predict every attribute from it."""

    def __init__(self, text: nn.Module, image: nn.Module) -> None:
        super().__init__()
        self.text, self.image = text, image
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.offset = nn.Parameter(torch.tensor(-8.0))
        counts = [len(values) for values in renderer.ATTRIBUTES.values()]
        # `said` and `seen` are the names of these weights in checkpoints.
        self.said = nn.ModuleList(nn.Linear(networks.WIDTH, count + 1) for count in counts)
        self.seen = nn.ModuleList(nn.Linear(networks.WIDTH, count) for count in counts)

    def forward(self, ids: Tensor, images: Tensor, named: Tensor, labels: Tensor) -> Tensor:
        """Return the sigmoid loss over pairs of captions and images, plus the cross entropy of the heads.

        Args:
            ids: token ids of the captions.
            images: images (B, 3, 64, 64) in 0..1.
            named: index (B, 8) of the value that each caption names, -1 where it names none.
            labels: index (B, 8) of the value that each image shows.
        """
        texts = self.text(ids).pooler_output
        features = self.image(2 * images - 1).image_embeds
        fits = ((named[:, None] == labels[None]) | (named[:, None] < 0)).all(-1).float()
        logits = self.scale.exp() * normalize(texts, dim=-1) @ normalize(features, dim=-1).T + self.offset
        contrast = binary_cross_entropy_with_logits(logits.float(), fits, reduction="sum") / len(ids)
        heads = [cross_entropy(head(texts), named[:, i] + 1) for i, head in enumerate(self.said)]
        heads += [cross_entropy(head(features), labels[:, i]) for i, head in enumerate(self.seen)]
        return contrast + 0.5 * torch.stack(heads).sum()


def train_encoders(
    folder: Path, dataset: SyntheticDataset, recipe: TrainingRecipe, progress: Progress, device: str = "cpu"
) -> None:
    """Train text and image encoder contrastively; write tokenizer, text_encoder and image_encoder."""
    if (folder / "text_encoder").is_dir():
        return
    torch.manual_seed(recipe.seed)
    tokenizer = networks.tokenizer(folder / "training" / "tokenizer")
    text: Any = networks.text_encoder(tokenizer)
    image: Any = networks.image_encoder()
    pair = Encoders(text, image)

    def loss(index: Tensor, random: torch.Generator) -> Tensor:
        texts, named = _captions(dataset, index, random)
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        labels = dataset.labels[index]
        return pair(ids.to(device), dataset.pick(index).to(device), named.to(device), labels.to(device))

    stage = _stage("encoders", recipe.encoder_steps, 1e-3, recipe)
    fit(stage, pair, loss, len(dataset.images), folder, progress, device)
    tokenizer.save_pretrained(folder / "tokenizer")
    image.half().save_pretrained(folder / "image_encoder")
    text.half().save_pretrained(folder / "text_encoder")


def train_autoencoder(
    folder: Path, dataset: SyntheticDataset, recipe: TrainingRecipe, progress: Progress, device: str = "cpu"
) -> None:
    """Train the autoencoder on pixels, edges and a small KL divergence of its latents; write vae."""
    if (folder / "vae").is_dir():
        return
    torch.manual_seed(recipe.seed)
    vae: Any = networks.autoencoder()

    def loss(index: Tensor, random: torch.Generator) -> Tensor:
        images = 2 * dataset.pick(index[: recipe.batch // 2]).to(device) - 1
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(device)
        reconstructed = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        edges = sum(l1_loss(reconstructed.diff(dim=dim), images.diff(dim=dim)) for dim in (-1, -2))
        divergence = (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean() / 2
        return l1_loss(reconstructed, images) + mse_loss(reconstructed, images) + edges + 1e-3 * divergence

    stage = _stage("autoencoder", recipe.autoencoder_steps, 2e-3, recipe)
    fit(stage, vae, loss, len(dataset.images), folder, progress, device)
    with torch.no_grad():
        latents = vae.encode(
            2 * dataset.pick(torch.arange(min(512, len(dataset.images)))).to(device) - 1
        ).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.half().save_pretrained(folder / "vae")


def train_denoiser(
    folder: Path, dataset: SyntheticDataset, recipe: TrainingRecipe, progress: Progress, device: str = "cpu"
) -> None:
    """Train the denoiser on the latents of all images, with a new caption at every draw; write the whole pipeline."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

    if (folder / "unet").is_dir():
        return
    torch.manual_seed(recipe.seed)
    vae = load_network(AutoencoderKL, folder / "vae", f"{folder.name}: its vae", torch.float32)
    text = load_network(CLIPTextModel, folder / "text_encoder", f"{folder.name}: its text_encoder", torch.float32)
    text = text.to(device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    noising: Any = networks.scheduler()
    latents = _latents(folder, vae, dataset, progress, device)
    unet: Any = networks.denoiser()

    def loss(index: Tensor, random: torch.Generator) -> Tensor:
        clean = latents[index]
        noise = torch.randn(clean.shape, generator=random)
        steps = torch.randint(noising.config["num_train_timesteps"], (len(index),), generator=random)
        texts, _ = _captions(dataset, index, random)
        empty = torch.rand(len(index), generator=random) < 0.1  # for classifier-free guidance
        texts = ["" if drop else caption for caption, drop in zip(texts, empty.tolist(), strict=True)]
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            prompt = text(ids.to(device)).last_hidden_state
        noisy, target = noising.add_noise(clean, noise, steps), noising.get_velocity(clean, noise, steps)
        return mse_loss(unet(noisy.to(device), steps.to(device), prompt).sample.float(), target.to(device))

    stage = _stage("denoiser", recipe.denoiser_steps, 1e-3, recipe, average=0.999)
    fit(stage, unet, loss, len(dataset.images), folder, progress, device)
    pipeline: Any = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half().cpu(),
        tokenizer=tokenizer,
        unet=unet.half().cpu(),
        scheduler=noising,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=load_network(
            CLIPVisionModelWithProjection, folder / "image_encoder", f"{folder.name}: its image_encoder", None
        ),
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for part in ("text_encoder", "image_encoder"):  # stored in half precision, loaded in float32 like the other parts
        config = folder / part / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": "float32"}, indent=2) + "\n")


def _check_recipe(folder: Path, recipe: TrainingRecipe) -> None:
    """Write the recipe into the folder; refuse to resume a training with another one."""
    path, ours = folder / "recipe.json", asdict(recipe)
    if path.is_file():
        theirs = json.loads(path.read_text())
        if changed := [name for name in ours if theirs.get(name) != ours[name]]:
            name = changed[0]
            raise UsageError(
                f"{folder}: expected the recipe of its unfinished training, {name} {theirs.get(name)}, got "
                f"{ours[name]}; choose another folder, or the same recipe to resume"
            )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ours, indent=2) + "\n")


def _labels(objects: list[dict[str, str]]) -> Tensor:
    return torch.tensor(
        [[values.index(item[name]) for name, values in renderer.ATTRIBUTES.items()] for item in objects]
    )


def _captions(dataset: SyntheticDataset, index: Tensor, random: torch.Generator) -> tuple[list[str], Tensor]:
    """Return a new caption per image, and the index (B, 8) of the values that it names, -1 where it names none."""
    texts, values_named = [], torch.full((len(index), len(renderer.ATTRIBUTES)), -1)
    for row, image in enumerate(index.tolist()):
        named = captions.draw_named(dataset.attributes(image), random)
        texts.append(captions.caption(named, random))
        for column, (name, values) in enumerate(renderer.ATTRIBUTES.items()):
            if name in named:
                values_named[row, column] = values.index(named[name])
    return texts, values_named


@torch.no_grad()
def _latents(folder: Path, vae: Any, dataset: SyntheticDataset, progress: Progress, device: str) -> Tensor:
    """Return the latents (N, 4, 16, 16) of all images, of unit variance; stored on disk."""
    from safetensors.torch import save

    path = folder / "training" / "latents.safetensors"
    if not path.is_file():
        vae.to(device)
        parts = []
        for index in torch.arange(len(dataset.images)).split(250):
            parts.append(vae.encode(2 * dataset.pick(index).to(device) - 1).latent_dist.mean.cpu())
            progress("latents", int(index[0]), len(dataset.images), 0.0)
        atomic_write(path, save({"latents": torch.cat(parts) * vae.config.scaling_factor}))
    return read_tensors(path, f"{path} (remove it to encode the images again)")["latents"]


def _stage(name: str, steps: int, rate: float, recipe: TrainingRecipe, average: float | None = None) -> Stage:
    return Stage(name, steps, rate, recipe.batch, recipe.seed, recipe.checkpoint_every, average)
