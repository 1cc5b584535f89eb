"""Training of the `paper` baseline: stage 1 per sensor, then stage 2, as arXiv 2511.11706 describes them.

Known and kept: the losses and their weights, the weights of rings and dates, the samples and the rule on their gaps,
AdamW with a linear warm-up and a reduction on plateaus, selection by the error of the centre pixel, frozen autoencoders
in stage 2. The published schedule is scaled to a budget of steps or processor seconds, which other work on the
machine does not use up: the warm-up is a share of it, and validations are spread evenly over it.

Left open, and chosen as plainly as possible: batches of 32; half the learning rate after 4 validations without
improvement; structural similarity per frame over validity, with the weights of dates and not of rings; samples at
random places and not on a grid of strides; half of the budget for Sentinel-2, a fifth for Sentinel-1, the rest for the
fusion.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from thalweg.earth.declarations import Declaration
from thalweg.earth.model.context import RECEPTIVE_FIELD
from thalweg.earth.model.paper_baseline import PaperModel
from thalweg.earth.model.paper_samples import CENTRE_DATE, CENTRE_PIXEL, NUM_DATES, PaperSamples
from thalweg.earth.training.losses import absolute_error, spectral_angle, structural_dissimilarity
from thalweg.earth.training.paper_sampling import REFERENCE, PaperSampler
from thalweg.earth.training.tiles import TrainingSite
from thalweg.errors import UsageError
from thalweg.io.atomic import refuse_existing
from thalweg.io.state import check_request, read_state, write_state

RING_WEIGHT, WEIGHT_RATIO = 0.01, 0.1
"""Weight of the first ring around the centre pixel, and the factor from each ring or date to the next."""

LOSS_WEIGHTS = {"sentinel-2": (0.665, 0.315, 0.02), "sentinel-1": (1.0, 0.0, 0.0)}
"""Weights of absolute error, spectral angle and structural dissimilarity."""

FUSION_WEIGHTS = {"sentinel-2": 0.5, "sentinel-1": 0.5}
FUSION = "fusion"
SHARES = {"sentinel-2": 0.5, "sentinel-1": 0.2, FUSION: 0.3}
"""Share of the budget of each stage."""

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.5, 4
HELD_OUT_SEED = 10**6
MEAN_STRIDE = 7
"""Every so many values contribute to the mean of a band."""


class PaperTrainingConfig(Declaration):
    """Settings of a training, without its data; stored in the model's card."""

    seed: int = Field(default=0, description="seed of initialisation and samples")
    steps: int | None = Field(default=None, ge=1, description="budget of optimizer steps, all stages together")
    seconds: float | None = Field(default=None, gt=0, description="budget of processor seconds, all stages together")
    batch: int = Field(default=32, ge=1, description="samples per step")
    learning_rate: float = Field(default=1e-4, gt=0, description="peak of the AdamW learning rate")
    weight_decay: float = Field(default=1.5e-4, ge=0, description="AdamW weight decay")
    warm_up: float = Field(default=0.1, gt=0, le=1, description="share of a stage's budget with a rising rate")
    validations: int = Field(default=25, ge=1, description="validations per stage")
    validation_samples: int = Field(default=128, ge=1, description="held-out samples per validation")

    @model_validator(mode="after")
    def _has_a_budget(self) -> "PaperTrainingConfig":
        if self.steps is None and self.seconds is None:
            raise ValueError("steps or seconds: give at least one, training stops at the first that is used up")
        return self


def centre_weights() -> Tensor:
    """Return the weights (11, 1, 15, 15) of a sample's pixels.

    They are 1 at the centre, 0.01, 0.001, ... in the rings around it, and a tenth for each date away from its date.
    """
    steps = (torch.arange(RECEPTIVE_FIELD) - CENTRE_PIXEL).abs()
    rings = torch.maximum(steps[:, None], steps[None])
    space = torch.where(rings == 0, 1.0, RING_WEIGHT * WEIGHT_RATIO ** (rings - 1.0))
    return date_weights() * space


def date_weights() -> Tensor:
    """Return the weights (11, 1, 1, 1) of a sample's dates: 1 at the centre, a tenth for each date away from it."""
    dates = (torch.arange(NUM_DATES) - CENTRE_DATE).abs()
    return (WEIGHT_RATIO**dates)[:, None, None, None]


def paper_loss(reconstruction: Tensor, samples: PaperSamples, weights: Sequence[float]) -> Tensor:
    """Return the loss of stage 1 (scalar).

    Args:
        reconstruction: (B, 11, C, 15, 15), in 0..1.
        samples: the B samples; missing pixels and bands do not count.
        weights: of absolute error, spectral angle and structural dissimilarity; those of weight 0 are not computed.
    """
    target, valid = samples.values, samples.valid
    loss = weights[0] * absolute_error(reconstruction, target, valid * centre_weights())
    present = valid.amax((1, 3, 4), keepdim=True)
    if weights[1]:
        pixels = valid.amax(2, keepdim=True) * centre_weights()
        loss = loss + weights[1] * spectral_angle(reconstruction * present, target * present, pixels)
    if weights[2]:
        own, other, weight = (
            maps.flatten(0, 2)[:, None] for maps in (reconstruction, target, (valid * date_weights()))
        )
        loss = loss + weights[2] * structural_dissimilarity(own, other, weight)
    return loss


def centre_error(reconstruction: Tensor, samples: PaperSamples) -> Tensor:
    """Return the mean absolute error (scalar) of reconstructions (B, 11, C, 15, 15) at the centres, in 0..1."""
    centre = (slice(None), CENTRE_DATE, slice(None), CENTRE_PIXEL, CENTRE_PIXEL)
    own, target, valid = (maps[centre][..., None, None] for maps in (reconstruction, samples.values, samples.valid))
    return absolute_error(own, target, valid)


@dataclass(frozen=True)
class PaperStage:
    """Trained part of the model in one stage, with its loss.

    Attributes:
        name: name of the sensor, or `fusion`.
        module: the part that is trained.
        reconstruct: function of samples of all sensors that returns reconstructions by sensor.
        weights: weight of each sensor's loss.
        training: sampler of training samples.
        held_out: sampler of validation samples.
    """

    name: str
    module: nn.Module
    reconstruct: Callable[[Mapping[str, PaperSamples]], dict[str, Tensor]]
    weights: Mapping[str, float]
    training: PaperSampler
    held_out: PaperSampler

    def loss(self, samples: Mapping[str, PaperSamples]) -> Tensor:
        """Return the loss (scalar) of samples."""
        decoded = self.reconstruct(samples).items()
        terms = [self.weights[name] * paper_loss(own, samples[name], LOSS_WEIGHTS[name]) for name, own in decoded]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def validate(self, samples: Mapping[str, PaperSamples], batch: int) -> float:
        """Return the weighted centre error over samples, the number by which a state is selected."""
        count = len(samples[REFERENCE].values)
        total = 0.0
        for first in range(0, count, batch):
            part = {name: own.part(slice(first, first + batch)) for name, own in samples.items()}
            share = len(part[REFERENCE].values) / count
            for name, own in self.reconstruct(part).items():
                total += share * self.weights[name] * float(centre_error(own, part[name]))
        return total


@dataclass
class StageProgress:
    """Numbers from which a stage resumes, next to its tensors."""

    step: int = 0
    elapsed: float = 0.0
    validations: int = 0
    best: float = float("inf")
    stale: int = 0
    factor: float = 1.0
    errors: list[float] = field(default_factory=list)


def train_paper_baseline(
    sites: Sequence[TrainingSite],
    out: str | Path,
    run: str | Path,
    config: PaperTrainingConfig,
    weights: Sequence[float] | None = None,
    report: Callable[[str], None] | None = None,
) -> PaperModel:
    """Train the `paper` baseline and write its model folder; a killed run resumes at its last validation.

    Args:
        sites: training sites; one without Sentinel-1 trains the rest.
        out: model folder to write; must not exist.
        run: folder of the states from which a killed run resumes.
        config: settings and budget.
        weights: relative frequency of each site; equal by default.
        report: called with a line per validation.

    Returns:
        The model as loaded from `out`.

    Raises:
        UsageError: `out` exists, no site gives samples, or `run` belongs to a training with other settings or data.
        ThalwegError: the model cannot be written.
    """
    out, run = Path(out), Path(run)
    refuse_existing(out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PaperModel()
    set_band_means(model, sites)
    record: dict[str, Any] = {"settings": config.model_dump(), "data": [site.name for site in sites]}
    record["weights"] = None if weights is None else [float(weight) for weight in weights]
    results = {}
    for stage in _stages(model, sites, weights):
        progress = _fit(stage, config, run / f"{stage.name}.safetensors", record, report or (lambda line: None))
        stage.module.eval().requires_grad_(False)
        results[stage.name] = {
            **{"steps": progress.step, "seconds": round(progress.elapsed), "centre_error": progress.best},
            "sites": len(stage.training.sites),
        }
    model.save(out, {**record, "stages": results})
    return PaperModel.load(out)


@torch.no_grad()
def set_band_means(model: PaperModel, sites: Sequence[TrainingSite]) -> None:
    """Set the means of all bands to those over the valid pixels of the sites that have them."""
    for name in model.sensors:
        autoencoder = model.autoencoder(name)
        total, count = torch.zeros(autoencoder.bands), torch.zeros(autoencoder.bands)
        for context in (site.contexts[name] for site in sites if name in site.contexts):
            valid = context.valid.flatten(2)[..., ::MEAN_STRIDE] * context.present[:, None].float()
            total += (context.values.flatten(2)[..., ::MEAN_STRIDE] * valid).sum((0, 2))
            count += valid.sum((0, 2))
        autoencoder.set_band_mean(torch.where(count > 0, total / count.clamp(min=1), autoencoder.band_mean))


def _stages(model: PaperModel, sites: Sequence[TrainingSite], weights: Sequence[float] | None) -> Iterator[PaperStage]:
    """Yield the stages in order; the modules of earlier ones must be frozen by then."""

    def samplers(*needed: str) -> tuple[PaperSampler, PaperSampler]:
        return PaperSampler(sites, needed, weights), PaperSampler(sites, needed, weights, held_out=True)

    def autoencoding(name: str) -> Callable[[Mapping[str, PaperSamples]], dict[str, Tensor]]:
        autoencoder = model.autoencoder(name)
        return lambda samples: {name: autoencoder.decode(autoencoder.encode(samples[name]), samples[name].days)}

    def fusing(samples: Mapping[str, PaperSamples]) -> dict[str, Tensor]:
        with torch.no_grad():
            encodings, gaps = model.encode(samples)
        values = model.fuse(encodings, gaps)
        return {name: model.reconstruct(values, name, samples[name].days) for name in model.sensors}

    for name in model.sensors:
        yield PaperStage(name, model.autoencoder(name), autoencoding(name), {name: 1.0}, *samplers(name))
    yield PaperStage(FUSION, model.fusion, fusing, FUSION_WEIGHTS, *samplers(REFERENCE))


def _fit(
    stage: PaperStage,
    config: PaperTrainingConfig,
    path: Path,
    record: Mapping[str, object],
    report: Callable[[str], None],
) -> StageProgress:
    """Train a stage until its share of the budget is used up, and leave its best state in the module."""
    optimizer = torch.optim.AdamW(stage.module.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    progress, best = StageProgress(), _copy(stage.module)
    if path.exists():
        progress, best = _resume(stage.module, optimizer, path, record)
    held_out = stage.held_out.draw(config.validation_samples, torch.Generator().manual_seed(HELD_OUT_SEED))
    resumed, started = progress.elapsed, time.process_time()
    share = SHARES[stage.name]
    used = _used(progress, config, share)
    while used < 1:
        rate = config.learning_rate * progress.factor * min(1.0, max(used, 1e-3) / config.warm_up)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # The samples of a step depend on its number alone, so that a resumed run draws the same.
        generator = torch.Generator().manual_seed(config.seed + progress.step)
        stage.module.train()
        loss = stage.loss(stage.training.draw(config.batch, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.step += 1
        progress.elapsed = resumed + time.process_time() - started
        used = _used(progress, config, share)
        if used >= 1 or used * config.validations >= progress.validations + 1:
            stage.module.eval()
            error = stage.validate(held_out, config.batch)
            progress.validations = int(used * config.validations)
            progress.errors.append(error)
            if error < progress.best:
                progress.best, progress.stale, best = error, 0, _copy(stage.module)
            elif used > config.warm_up:
                progress.stale += 1
                if progress.stale % PLATEAU_PATIENCE == 0:
                    progress.factor *= PLATEAU_FACTOR
            _save(stage.module, optimizer, best, progress, path, record)
            report(
                f"{stage.name}: {used:.0%}, step {progress.step}, {progress.elapsed:.0f} s, "
                f"loss {float(loss.detach()):.4f}, centre error {error:.5f}, best {progress.best:.5f}, rate {rate:.1e}"
            )
    stage.module.load_state_dict(best)
    return progress


def _used(progress: StageProgress, config: PaperTrainingConfig, share: float) -> float:
    """Return the fraction of a stage's budget that is used up."""
    steps = progress.step / max(round(config.steps * share), 1) if config.steps else 0.0
    seconds = progress.elapsed / (config.seconds * share) if config.seconds else 0.0
    return max(steps, seconds)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _save(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    progress: StageProgress,
    path: Path,
    record: Mapping[str, object],
) -> None:
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in moments.items()}
    write_state(path, tensors, {"record": record, "progress": vars(progress)})


def _resume(
    module: nn.Module, optimizer: torch.optim.Optimizer, path: Path, record: Mapping[str, object]
) -> tuple[StageProgress, dict[str, Tensor]]:
    tensors, values = read_state(path)
    check_request(path.parent, values["record"], record)
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, name = key.split("/", 1)
        if part == "optimizer":
            index, name = name.split("/")
            moments.setdefault(int(index), {})[name] = tensor
        elif part in parts:
            parts[part][name] = tensor
    try:
        module.load_state_dict(parts["module"])
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{path}: does not fit this version's network: choose another folder") from error
    return StageProgress(**values["progress"]), parts["best"]
