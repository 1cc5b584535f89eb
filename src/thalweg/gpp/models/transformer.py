"""Temporal transformer of the paper (section "GPP use"), small and dense: one pass over a site predicts every day.

Each layer attends to a limited number of past days, positions are lags, and the lags of the layers add up to 89 days.
The output head takes the last layer, the day itself and running means (means of the encoded days, and encoded means),
which carry the slow weather of a season. The prediction of a day therefore depends on its 90-day window alone, and one
pass over years equals a pass over each window without encoding every day ninety times.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from thalweg.gpp.data.climatology import SMOOTHING_DAYS
from thalweg.gpp.data.day_weights import day_weights
from thalweg.gpp.data.windows import DAYS, MEANS, Windows
from thalweg.gpp.models.learner_state import LearnerState

LAYERS = ((7, 1), (12, 7), (7, 1))
"""Band and dilation of each layer, which attends to ``band`` days in steps of ``dilation`` days up to the day itself.

A week, twelve weeks in weekly steps, and a week again reach each of the 90 days and none before them.
"""

_ENCODING_ARRAYS = ("feature", "low", "high", "mean", "scale")
_ENCODINGS = ("encoding", "means")

LOW, HIGH = 0.05, 0.95
"""Quantiles that the network predicts in addition to its best estimate."""


@dataclass(frozen=True)
class TransformerConfig:
    """Configuration of the network and its training.

    Attributes:
        width: Features per day inside the network.
        heads: Attention heads.
        pieces: Ramps per feature of the piecewise encoding, at most.
        dropout: Dropout rate.
        rate: Peak learning rate.
        decay: Weight decay.
        anomalies: Weight of the anomaly loss.
        epochs: Passes over the training days.
        sites: Sites per batch.
        crops: Crops per site in a batch, in different years.
        crop_days: Days of a crop that have a loss.
    """

    width: int = 32
    heads: int = 4
    pieces: int = 16
    dropout: float = 0.1
    rate: float = 2e-3
    decay: float = 1.0
    anomalies: float = 3.0
    epochs: int = 9
    sites: int = 3
    crops: int = 3
    crop_days: int = 365


class BandedAttention(nn.Module):
    """Causal self-attention over ``band`` days in steps of ``dilation`` days, with a learned bias per head and lag."""

    def __init__(self, width: int, heads: int, band: int, dilation: int) -> None:
        super().__init__()
        self.heads, self.band, self.dilation = heads, band, dilation
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        self.lag_bias = nn.Parameter(torch.zeros(heads, band))

    def forward(self, days: Tensor) -> Tensor:
        """Attend within (B, L, W) days; the result has the same shape."""
        batch, length, width = days.shape
        band, dilation = self.band, self.dilation
        blocks = -(-length // (band * dilation))
        joined = F.pad(self.inward(days), (0, 0, 0, blocks * band * dilation - length))
        # Blocks of `band` days of one phase of the dilation; a block attends to itself and to the previous block.
        shape = (batch, blocks, band, dilation, 3, self.heads, width // self.heads)
        query, key, value = joined.view(shape).permute(4, 0, 3, 5, 1, 2, 6)  # (B, dilation, heads, blocks, band, w)
        key, value = (torch.cat([F.pad(part, (0, 0, 0, 0, 1, 0))[..., :-1, :, :], part], -2) for part in (key, value))
        scores = query @ key.mT * query.shape[-1] ** -0.5 + self._bias(blocks)
        attended = (scores.softmax(-1) @ value).permute(0, 3, 4, 1, 2, 5).reshape(batch, -1, width)
        return cast(Tensor, self.outward(attended[:, :length]))

    def _bias(self, blocks: int) -> Tensor:
        """Return (heads, blocks, band, 2 band) biases per lag, -inf beyond the band, ahead, and before the start."""
        band = self.band
        lag = torch.arange(band)[:, None] + band - torch.arange(2 * band)
        near = (lag >= 0) & (lag < band)
        bias = self.lag_bias[:, lag.clamp(0, band - 1)].masked_fill(~near, -torch.inf)
        first = torch.cat([torch.full_like(bias[..., :band], -torch.inf), bias[..., band:]], -1)
        return torch.cat([first[:, None], bias[:, None].expand(-1, blocks - 1, -1, -1)], 1)


class TemporalTransformer(nn.Module):
    """Network from encoded days (B, L, E) and encoded means (B, L, M) to (B, L, 3) bounds and estimate.

    Args:
        inputs: Size E of an encoded day.
        means: Size M of the encoded means of a day.
        config: Configuration of the network.
    """

    def __init__(self, inputs: int, means: int, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.inward = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * len(LAYERS)))
        self.attentions = nn.ModuleList(BandedAttention(width, config.heads, *layer) for layer in LAYERS)
        self.perceptrons = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in LAYERS
        )
        self.dropout = nn.Dropout(config.dropout)
        self.slow = nn.Linear(inputs, width)
        self.summary = nn.Linear(means, width)
        joined = (3 + len(MEANS)) * width
        self.outward = nn.Sequential(
            nn.LayerNorm(joined), self.dropout, nn.Linear(joined, 2 * width), nn.GELU(), nn.Linear(2 * width, 3)
        )

    def forward(self, encoded: Tensor, means: Tensor) -> Tensor:
        """Predict every day.

        Args:
            encoded: (B, L, E) days, encoded by `PiecewiseEncoding`.
            means: (B, L, M) means of 7, 30 and 90 days up to each day, encoded in the same way.

        Returns:
            (B, L, 3) lower bound, best estimate, upper bound of the standardised GPP.
        """
        days = self.inward(encoded)
        for index, (attention, perceptron) in enumerate(zip(self.attentions, self.perceptrons, strict=True)):
            days = days + self.dropout(attention(self.norms[2 * index](days)))
            days = days + self.dropout(perceptron(self.norms[2 * index + 1](days)))
        day = self.slow(encoded)
        joined = torch.cat([days, day, self.summary(means), *(_running_mean(day, length) for length in MEANS)], -1)
        below, estimate, above = self.outward(joined).unbind(-1)
        return torch.stack([estimate - F.softplus(below), estimate, estimate + F.softplus(above)], -1)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """Call `forward`, with its types."""
        return cast(Tensor, super().__call__(*inputs, **named))


class PiecewiseEncoding:
    """Piecewise linear encoding of features by ramps between their quantiles (Gorishniy, Rubachev and Babenko 2022).

    A ramp rises from 0 to 1 between two quantiles of the training days and stays there. A value outside the range of
    the training days is therefore encoded as the most extreme training value, which keeps predictions stable at sites
    in another climate. Missing values are zero with a validity of zero; a feature that is constant in training has no
    ramp.

    Args:
        days: (D, F) training days, NaN where a value is missing.
        pieces: Ramps per feature, at most.
    """

    def __init__(self, days: NDArray[np.float32], pieces: int) -> None:
        levels = np.linspace(0, 1, pieces + 1)
        edges = [np.unique(np.nanquantile(column, levels)) for column in days.T]
        self.feature = np.repeat(np.arange(len(edges)), [len(edge) - 1 for edge in edges])
        self.low = np.concatenate([edge[:-1] for edge in edges]).astype(np.float32)
        self.high = np.concatenate([edge[1:] for edge in edges]).astype(np.float32)
        ramps = self._ramps(torch.from_numpy(days)).numpy()
        self.mean, self.scale = np.nanmean(ramps, 0), np.nanstd(ramps, 0) + np.float32(1e-6)

    @property
    def inputs(self) -> int:
        """Size of an encoded day: the ramps and their validity."""
        return 2 * len(self.feature)

    def __call__(self, days: Tensor) -> Tensor:
        """Encode (..., F) days as (..., 2 R) ramps and their validity; differentiable where a value is on a ramp."""
        ramps = (self._ramps(days) - torch.from_numpy(self.mean)) / torch.from_numpy(self.scale)
        return torch.cat([ramps.nan_to_num(0.0), ramps.isfinite().float()], -1)

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays that the encoding is made of, by name."""
        return {name: np.asarray(getattr(self, name)) for name in _ENCODING_ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Self:
        """Return the encoding of `arrays`.

        Raises:
            KeyError: An array is missing.
        """
        encoding = cls.__new__(cls)
        for name in _ENCODING_ARRAYS:
            setattr(encoding, name, arrays[name])
        return encoding

    def _ramps(self, days: Tensor) -> Tensor:
        low, high = torch.from_numpy(self.low), torch.from_numpy(self.high)
        return ((days[..., torch.from_numpy(self.feature)] - low) / (high - low)).clamp(0, 1)


class TransformerLearner:
    """Learner of a `TemporalTransformer`; its stages are epochs.

    Args:
        seed: Seed of the weights and the batches.
        config: Configuration of the network and its training.
    """

    kind = "transformer"

    def __init__(self, seed: int = 0, config: TransformerConfig | None = None) -> None:
        self.seed = seed
        self.config = config or TransformerConfig()
        self.states: list[dict[str, Tensor]] = []

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Train on crops of the sites' days; each day of a crop whose window is in ``training`` has a loss.

        Returns:
            (epochs, N, 3) lower bound, best estimate, upper bound of the held-out days, gC m-2 d-1.
        """
        config = self.config
        self.encoding = PiecewiseEncoding(training.daily[training.covered], config.pieces)
        means = training.running_means()[training.last]
        means[:, ~np.tile(training.varies, len(MEANS))] = 0.0  # the day itself holds constant features
        self.means = PiecewiseEncoding(means, config.pieces)
        self.centre, self.scale = np.float32(training.target.mean()), np.float32(training.target.std() + 1e-6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = TemporalTransformer(self.encoding.inputs, self.means.inputs, config)
            encoded = [encode(days) for encode, days in self._inputs(training)]
            target = _scatter(training, (training.target - self.centre) / self.scale)
            day_weight = day_weights(training)
            weights = None if day_weight is None else _scatter(training, day_weight)
            optimizer = torch.optim.AdamW(self.network.parameters(), config.rate, weight_decay=config.decay)
            epochs = [self._batches(training) for _ in range(config.epochs)]
            steps = sum(map(len, epochs))
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, steps, pct_start=0.2)
            path = []
            for batches in epochs:
                self.network.train()
                for rows, site in batches:
                    predicted = self.network(*(days[rows] for days in encoded))[:, DAYS - 1 :]
                    truth = target[rows[:, DAYS - 1 :]]
                    weight = None if weights is None else weights[rows[:, DAYS - 1 :]]
                    anomaly = _anomaly_loss(predicted[..., 1], truth, site, weight)
                    loss = _loss(predicted, truth, weight) + config.anomalies * anomaly
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                path.append(self.predict(held_out))
                self.states.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return np.stack(path)

    def select_stage(self, stage: int) -> None:
        """Return to an epoch and drop the others."""
        self.network.load_state_dict(self.states[stage])
        self.states = []

    @torch.no_grad()
    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Return (N, 3) lower bound, best estimate, upper bound, gC m-2 d-1."""
        if not len(windows):
            return np.empty((0, 3), np.float32)
        self.network.eval()
        inputs = self._inputs(windows)
        predicted = torch.full((len(windows.daily) + 1, 3), torch.nan)
        for rows in _crops(windows, self.config.crop_days, 0).split(64):
            encoded = [encode(days[rows]) for encode, days in inputs]
            predicted[rows[:, DAYS - 1 :]] = self.network(*encoded)[:, DAYS - 1 :]
        return predicted.numpy()[windows.last] * self.scale + self.centre

    def state(self) -> LearnerState:
        """Return the configuration, the encodings and the weights of the network."""
        arrays = {
            f"{kind}.{name}": values for kind in _ENCODINGS for name, values in getattr(self, kind).arrays().items()
        }
        network = {f"network.{name}": tensor.numpy() for name, tensor in self.network.state_dict().items()}
        target = np.array([self.centre, self.scale], np.float32)
        return LearnerState(self.kind, {"config": asdict(self.config)}, {**arrays, **network, "target": target})

    @classmethod
    def from_state(cls, state: LearnerState) -> Self:
        """Return the learner of a state.

        Raises:
            KeyError, TypeError, RuntimeError: A part of the state is missing or does not fit.
        """
        learner = cls(config=TransformerConfig(**state.settings["config"]))
        for kind in _ENCODINGS:
            arrays = {name: state.arrays[f"{kind}.{name}"] for name in _ENCODING_ARRAYS}
            setattr(learner, kind, PiecewiseEncoding.from_arrays(arrays))
        learner.centre, learner.scale = state.arrays["target"]
        learner.network = TemporalTransformer(learner.encoding.inputs, learner.means.inputs, learner.config)
        learner.network.load_state_dict(
            {
                name.removeprefix("network."): torch.from_numpy(values)
                for name, values in state.arrays.items()
                if name.startswith("network.")
            }
        )
        return learner

    def estimate(self, days: Tensor) -> Tensor:
        """Return (B,) GPP of the last day of windows (B, 90, F) without gaps, gC m-2 d-1; differentiable."""
        means = torch.cat([days[:, -length:].mean(1) for length in MEANS], -1)[:, None].expand(-1, DAYS, -1)
        standardised = self.network(self.encoding(days), self.means(means))[:, -1, 1]
        return standardised * float(self.scale) + float(self.centre)

    def _inputs(self, windows: Windows) -> list[tuple[PiecewiseEncoding, Tensor]]:
        """Return the days and their means with their encodings; one empty day at the end serves as padding."""
        return [
            (encode, F.pad(torch.from_numpy(days), (0, 0, 0, 1), value=torch.nan))
            for encode, days in ((self.encoding, windows.daily), (self.means, windows.running_means()))
        ]

    def _batches(self, windows: Windows) -> list[tuple[Tensor, Tensor]]:
        """Return the shuffled crops of one epoch and their sites; the first day of the crops varies by epoch.

        A batch holds several crops of a site, so that the loss can compare its years.
        """
        offset = int(torch.randint(self.config.crop_days, ()))
        crops = _crops(windows, self.config.crop_days, offset)
        ends = torch.from_numpy(windows.runs[:, 1]).contiguous()
        site = torch.searchsorted(ends, crops.amin(1), right=True)
        groups: list[Tensor] = []
        for one in site.unique():
            here = torch.nonzero(site == one)[:, 0]
            groups += here[torch.randperm(len(here))].split(self.config.crops)
        order = torch.randperm(len(groups)).split(self.config.sites)
        chosen = [torch.cat([groups[index] for index in part]) for part in order]
        return [(crops[part], site[part]) for part in chosen]


def _loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Huber loss of the estimate and pinball losses of the bounds, over the days that have a target.

    Args:
        predicted: (B, L, 3) lower bound, estimate, upper bound.
        target: (B, L), NaN where unknown.
        weight: (B, L) weights of the days; all are equal by default.
    """
    known = target.isfinite()
    low, estimate, high = predicted[known].unbind(-1)
    truth = target[known]
    own = None if weight is None else weight[known]
    pinball = [
        _mean(torch.maximum(level * (truth - bound), (level - 1) * (truth - bound)), own)
        for level, bound in ((LOW, low), (HIGH, high))
    ]
    return _mean(F.huber_loss(estimate, truth, reduction="none"), own) + 0.5 * (pinball[0] + pinball[1])


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of values, weighted where there are weights."""
    return values.mean() if weight is None else (weight * values).sum() / weight.sum().clamp(min=1e-6)


def _anomaly_loss(predicted: Tensor, target: Tensor, site: Tensor, weight: Tensor | None = None) -> Tensor:
    """Huber loss of the errors (B, L) less their climatology at the site, over the crops (B,) of the site.

    Other sites say little about a site's level and more about differences between its days and years, which therefore
    have an additional loss. Crops of a site begin on the same day of the year, and climatologies are smoothed as in
    the scores.
    """
    known = target.isfinite()
    error = torch.where(known, predicted - target.nan_to_num(0.0), 0.0)
    group = site.unique(return_inverse=True)[1]

    def smoothed_sum(values: Tensor) -> Tensor:
        by_site = torch.zeros(int(group.max()) + 1, values.shape[1]).index_add(0, group, values)
        return F.avg_pool1d(by_site, SMOOTHING_DAYS, 1, SMOOTHING_DAYS // 2)

    climatology = smoothed_sum(error) / smoothed_sum(known.to(error.dtype)).clamp(min=0.5 / SMOOTHING_DAYS)
    anomaly = (error - climatology[group])[known]
    own = None if weight is None else weight[known]
    return _mean(F.huber_loss(anomaly, torch.zeros_like(anomaly), reduction="none"), own)


def _running_mean(days: Tensor, length: int) -> Tensor:
    """Return (B, L, W) means of ``length`` days up to each day; days before the first count as zero."""
    return F.avg_pool1d(F.pad(days.mT, (length - 1, 0)), length, 1).mT


def _scatter(windows: Windows, values: NDArray) -> Tensor:
    """Return (D + 1,) values of windows at the rows of their last days, NaN elsewhere."""
    scattered = torch.full((len(windows.daily) + 1,), torch.nan)
    scattered[torch.from_numpy(windows.last)] = torch.from_numpy(values.astype(np.float32))
    return scattered


def _crops(windows: Windows, length: int, offset: int) -> Tensor:
    """Return (C, 89 + length) rows of crops that hold each window's last day once; row D outside of the site.

    The first 89 rows of a crop are context only. ``offset`` shifts the first day of the crops.
    """
    crops = []
    step = np.arange(1 - DAYS, length)
    for first, end in windows.runs:
        last = windows.last[(windows.last >= first) & (windows.last < end)]
        if not len(last):
            continue
        starts = np.unique((last - first + offset) // length) * length - offset + first
        rows = starts[:, None] + step
        crops.append(np.where((rows >= first) & (rows < end), rows, len(windows.daily)))
    return torch.from_numpy(np.concatenate(crops))
