"""The paper's temporal transformer (section "GPP use"), small and dense: one pass over a site predicts every day.

Attention looks back over a limited number of days in each layer, positions are lags, and the layers' reaches add up
to 89 days. The read-out sees, beside the last layer, the day itself and its running means, which carry the slow
weather of a season: means of the encoded days, and the encoded means. So the prediction of a day depends on its
90-day window alone, and a pass over years gives what a pass over each window would give, without encoding a day
ninety times.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from thalweg.gpp.data.climatology import SMOOTHING
from thalweg.gpp.data.windows import DAYS, MEANS, Windows

LAYERS = ((7, 1), (12, 7), (7, 1))
"""Each layer's band and dilation: it looks at ``band`` days, every ``dilation``-th, the day itself the last.

A week, twelve weeks week by week, and a week again: every one of the 90 days is reached, and none before them.
"""

LOW, HIGH = 0.05, 0.95
"""Quantiles that the network predicts beside its best estimate."""


@dataclass(frozen=True)
class TransformerConfig:
    """How the network is built and trained; a batch is ``sites`` times ``crops`` of one site, in different years."""

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
    """Causal self-attention over ``band`` days, every ``dilation``-th, with a learned bias per head and lag."""

    def __init__(self, width: int, heads: int, band: int, dilation: int) -> None:
        super().__init__()
        self.heads, self.band, self.dilation = heads, band, dilation
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        self.lag_bias = nn.Parameter(torch.zeros(heads, band))

    def forward(self, days: Tensor) -> Tensor:
        """(B, L, W) -> (B, L, W)."""
        batch, length, width = days.shape
        band, dilation = self.band, self.dilation
        blocks = -(-length // (band * dilation))
        joined = F.pad(self.inward(days), (0, 0, 0, blocks * band * dilation - length))
        # Blocks of `band` days of one phase of the dilation; a block looks at itself and at the block before.
        shape = (batch, blocks, band, dilation, 3, self.heads, width // self.heads)
        query, key, value = joined.view(shape).permute(4, 0, 3, 5, 1, 2, 6)  # (B, dilation, heads, blocks, band, w)
        key, value = (torch.cat([F.pad(part, (0, 0, 0, 0, 1, 0))[..., :-1, :, :], part], -2) for part in (key, value))
        scores = query @ key.mT * query.shape[-1] ** -0.5 + self._bias(blocks)
        attended = (scores.softmax(-1) @ value).permute(0, 3, 4, 1, 2, 5).reshape(batch, -1, width)
        return cast(Tensor, self.outward(attended[:, :length]))

    def _bias(self, blocks: int) -> Tensor:
        """(heads, blocks, band, 2 band): the bias of each lag, -inf beyond the band, ahead, and before the start."""
        band = self.band
        lag = torch.arange(band)[:, None] + band - torch.arange(2 * band)
        near = (lag >= 0) & (lag < band)
        bias = self.lag_bias[:, lag.clamp(0, band - 1)].masked_fill(~near, -torch.inf)
        first = torch.cat([torch.full_like(bias[..., :band], -torch.inf), bias[..., band:]], -1)
        return torch.cat([first[:, None], bias[:, None].expand(-1, blocks - 1, -1, -1)], 1)


class TemporalTransformer(nn.Module):
    """Encoded days (B, L, E) and their encoded means (B, L, M) -> lower bound, estimate, upper bound (B, L, 3)."""

    def __init__(self, inputs: int, means: int, settings: TransformerConfig) -> None:
        super().__init__()
        width = settings.width
        self.inward = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * len(LAYERS)))
        self.attentions = nn.ModuleList(BandedAttention(width, settings.heads, *layer) for layer in LAYERS)
        self.perceptrons = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in LAYERS
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.slow = nn.Linear(inputs, width)
        self.summary = nn.Linear(means, width)
        seen = (3 + len(MEANS)) * width
        self.outward = nn.Sequential(
            nn.LayerNorm(seen), self.dropout, nn.Linear(seen, 2 * width), nn.GELU(), nn.Linear(2 * width, 3)
        )

    def forward(self, encoded: Tensor, means: Tensor) -> Tensor:
        """Days, and their means of 7, 30 and 90 days, as `PiecewiseEncoding` gives them."""
        days = self.inward(encoded)
        for index, (attention, perceptron) in enumerate(zip(self.attentions, self.perceptrons, strict=True)):
            days = days + self.dropout(attention(self.norms[2 * index](days)))
            days = days + self.dropout(perceptron(self.norms[2 * index + 1](days)))
        day = self.slow(encoded)
        seen = torch.cat([days, day, self.summary(means), *(_running_mean(day, length) for length in MEANS)], -1)
        below, estimate, above = self.outward(seen).unbind(-1)
        return torch.stack([estimate - F.softplus(below), estimate, estimate + F.softplus(above)], -1)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """See `forward`."""
        return cast(Tensor, super().__call__(*inputs, **named))


class PiecewiseEncoding:
    """Each feature as a few ramps between its quantiles (Gorishniy, Rubachev and Babenko 2022).

    A ramp rises from 0 to 1 between two quantiles of the training days and stays there, so that a value beyond what
    training has seen is taken for the most extreme it has seen: a site in another climate does not throw the network
    off. Missing is zero with a validity of zero; a feature that does not vary in training has no ramp.
    """

    def __init__(self, days: NDArray[np.float32], pieces: int) -> None:
        """Quantiles of (D, F) training days."""
        levels = np.linspace(0, 1, pieces + 1)
        edges = [np.unique(np.nanquantile(column, levels)) for column in days.T]
        self.feature = np.repeat(np.arange(len(edges)), [len(edge) - 1 for edge in edges])
        self.low = np.concatenate([edge[:-1] for edge in edges]).astype(np.float32)
        self.high = np.concatenate([edge[1:] for edge in edges]).astype(np.float32)
        ramps = self._ramps(torch.from_numpy(days)).numpy()
        self.mean, self.scale = np.nanmean(ramps, 0), np.nanstd(ramps, 0) + np.float32(1e-6)

    @property
    def inputs(self) -> int:
        """Values of an encoded day: the ramps and their validity."""
        return 2 * len(self.feature)

    def __call__(self, days: Tensor) -> Tensor:
        """(..., F) -> (..., 2 R) ramps and their validity; differentiable wherever a value is on a ramp."""
        ramps = (self._ramps(days) - torch.from_numpy(self.mean)) / torch.from_numpy(self.scale)
        return torch.cat([ramps.nan_to_num(0.0), ramps.isfinite().float()], -1)

    def _ramps(self, days: Tensor) -> Tensor:
        low, high = torch.from_numpy(self.low), torch.from_numpy(self.high)
        return ((days[..., torch.from_numpy(self.feature)] - low) / (high - low)).clamp(0, 1)


class TransformerLearner:
    """Trains a `TemporalTransformer`; its stages are epochs."""

    def __init__(self, seed: int = 0, settings: TransformerConfig | None = None) -> None:
        self.seed = seed
        self.settings = settings or TransformerConfig()
        self.states: list[dict[str, Tensor]] = []

    def fit(self, training: Windows, held_out: Windows) -> NDArray[np.float32]:
        """Train on crops of the sites' days; every day of a crop whose window is in ``training`` counts.

        Returns:
            (epochs, N, 3) lower bound, best estimate, upper bound of the held-out days, gC m-2 d-1.
        """
        settings = self.settings
        self.encoding = PiecewiseEncoding(training.daily[training.covered], settings.pieces)
        means = training.running_means()[training.last]
        means[:, ~np.tile(training.varies, len(MEANS))] = 0.0  # what never changes is known from the day
        self.means = PiecewiseEncoding(means, settings.pieces)
        self.centre, self.scale = np.float32(training.target.mean()), np.float32(training.target.std() + 1e-6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = TemporalTransformer(self.encoding.inputs, self.means.inputs, settings)
            encoded = [encode(days) for encode, days in self._inputs(training)]
            target = _spread_out(training, (training.target - self.centre) / self.scale)
            optimizer = torch.optim.AdamW(self.network.parameters(), settings.rate, weight_decay=settings.decay)
            epochs = [self._batches(training) for _ in range(settings.epochs)]
            steps = sum(map(len, epochs))
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, steps, pct_start=0.2)
            path = []
            for batches in epochs:
                self.network.train()
                for rows, site in batches:
                    found = self.network(*(days[rows] for days in encoded))[:, DAYS - 1 :]
                    truth = target[rows[:, DAYS - 1 :]]
                    loss = _loss(found, truth) + settings.anomalies * _anomaly_loss(found[..., 1], truth, site)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                path.append(self.predict(held_out))
                self.states.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return np.stack(path)

    def keep(self, stage: int) -> None:
        """Go back to an epoch."""
        self.network.load_state_dict(self.states[stage])
        self.states = []

    @torch.no_grad()
    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """(N, 3) lower bound, best estimate, upper bound, gC m-2 d-1."""
        self.network.eval()
        inputs = self._inputs(windows)
        found = torch.full((len(windows.daily) + 1, 3), torch.nan)
        for rows in _crops(windows, self.settings.crop_days, 0).split(64):
            encoded = [encode(days[rows]) for encode, days in inputs]
            found[rows[:, DAYS - 1 :]] = self.network(*encoded)[:, DAYS - 1 :]
        return found.numpy()[windows.last] * self.scale + self.centre

    def estimate(self, days: Tensor) -> Tensor:
        """(B,) GPP of the last day of windows (B, 90, F) without gaps, gC m-2 d-1; differentiable."""
        means = torch.cat([days[:, -length:].mean(1) for length in MEANS], -1)[:, None].expand(-1, DAYS, -1)
        found = self.network(self.encoding(days), self.means(means))[:, -1, 1]
        return found * float(self.scale) + float(self.centre)

    def _inputs(self, windows: Windows) -> list[tuple[PiecewiseEncoding, Tensor]]:
        """The days and their means, each with its encoding; one empty day at the end, to pad with."""
        return [
            (encode, F.pad(torch.from_numpy(days), (0, 0, 0, 1), value=torch.nan))
            for encode, days in ((self.encoding, windows.daily), (self.means, windows.running_means()))
        ]

    def _batches(self, windows: Windows) -> list[tuple[Tensor, Tensor]]:
        """Crops for one epoch and the site of each, begun at another day each time and shuffled.

        A few crops of one site come in one batch, so that its years can be told apart.
        """
        offset = int(torch.randint(self.settings.crop_days, ()))
        crops = _crops(windows, self.settings.crop_days, offset)
        ends = torch.from_numpy(windows.runs[:, 1]).contiguous()
        site = torch.searchsorted(ends, crops.amin(1), right=True)
        groups: list[Tensor] = []
        for one in site.unique():
            here = torch.nonzero(site == one)[:, 0]
            groups += here[torch.randperm(len(here))].split(self.settings.crops)
        order = torch.randperm(len(groups)).split(self.settings.sites)
        chosen = [torch.cat([groups[index] for index in part]) for part in order]
        return [(crops[part], site[part]) for part in chosen]


def _loss(found: Tensor, target: Tensor) -> Tensor:
    """Huber loss of the estimate and pinball losses of the bounds, over the days that have a target."""
    known = target.isfinite()
    low, estimate, high = found[known].unbind(-1)
    truth = target[known]
    pinball = [
        torch.maximum(level * (truth - bound), (level - 1) * (truth - bound)).mean()
        for level, bound in ((LOW, low), (HIGH, high))
    ]
    return F.huber_loss(estimate, truth) + 0.5 * (pinball[0] + pinball[1])


def _anomaly_loss(found: Tensor, target: Tensor, site: Tensor) -> Tensor:
    """Huber loss of how the errors (B, L) depart from their site's mean cycle, over the crops (B,) of the site.

    A site's level is what other sites tell least about; how its days and years differ carries over better, so it
    counts again. Crops of a site begin on the same day of the year, and cycles are smoothed as the score's are.
    """
    known = target.isfinite()
    error = torch.where(known, found - target.nan_to_num(0.0), 0.0)
    group = site.unique(return_inverse=True)[1]

    def around(values: Tensor) -> Tensor:
        by_site = torch.zeros(int(group.max()) + 1, values.shape[1]).index_add(0, group, values)
        return F.avg_pool1d(by_site, SMOOTHING, 1, SMOOTHING // 2)

    cycle = around(error) / around(known.to(error.dtype)).clamp(min=0.5 / SMOOTHING)
    departure = (error - cycle[group])[known]
    return F.huber_loss(departure, torch.zeros_like(departure))


def _running_mean(days: Tensor, length: int) -> Tensor:
    """(B, L, W) -> (B, L, W) means of ``length`` days up to each; days before the first count as zero."""
    return F.avg_pool1d(F.pad(days.mT, (length - 1, 0)), length, 1).mT


def _spread_out(windows: Windows, values: NDArray) -> Tensor:
    """Values of windows at the rows of their last days, (D + 1,), NaN elsewhere."""
    placed = torch.full((len(windows.daily) + 1,), torch.nan)
    placed[torch.from_numpy(windows.last)] = torch.from_numpy(values.astype(np.float32))
    return placed


def _crops(windows: Windows, length: int, offset: int) -> Tensor:
    """(C, 89 + length) rows of crops that hold every window's last day once; row D where a crop leaves its site.

    The first 89 rows of a crop are there to be looked back at. ``offset`` shifts where the crops begin.
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
