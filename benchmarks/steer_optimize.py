"""Does tool 1 gain more than the published optimiser, on seeds it never saw too, and does the prompt still hold?

Prompts of the miniature's world name shape, colour and background. Three metrics are optimised from each: sharpness,
blur, and similarity to a text (the prompt with one attribute more, its material). The published optimiser
(`recipe="paper"`) starts from the same embedding, over the same seeds, and may use at least as many denoiser calls.

gain_ratio_*: gain in the metric over the start, mean of the prompts, ours over the published optimiser's.
gain_ratio_unseen_*: the same on seeds that neither used.
gain_ratio_tuned_*, gain_ratio_tuned_unseen_*: against the published optimiser at the learning rate that gains it most
    (`--tune` finds it, on other prompts; the published one is 0.01).
gain_*, gain_paper_*, gain_tuned_*: these gains, in the metric's unit; *_unseen_* on unseen seeds.
adherence_before, adherence_after: share of the named attributes that the attribute reader reads right in the unseen
    seeds' images, all metrics; adherence_kept: the latter over the former; *_paper, *_tuned: the baseline's.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common import report
from thalweg.diffusion import miniature
from thalweg.diffusion.generator import DiffusionGenerator
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.miniature.world import draw_attributes
from thalweg.embedding import Embedding
from thalweg.steer import metrics
from thalweg.steer.metrics import Metric, Scorer
from thalweg.steer.optimize import Result, optimize

NAMED = ("shape", "colour", "background")
ADDED = "material"
SEEDS = range(4)
UNSEEN_SEEDS = range(1000, 1016)
CHAIN_STEPS = 10
STEPS = 6
TUNED_LEARNING_RATES = {"sharpness": 0.01, "blur": 0.01, "clip": 0.01}
"""What `--tune` found."""
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Case:
    """A prompt, what it names, and the text that its images are to resemble."""

    named: dict[str, str]
    prompt: str
    target: str


@dataclass
class Tally:
    """What one optimiser reached over the prompts."""

    gains: list[float] = field(default_factory=list)
    unseen_gains: list[float] = field(default_factory=list)
    adherence: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)


def draw_cases(count: int, seed: int) -> list[Case]:
    random = torch.Generator().manual_seed(seed)
    cases = []
    for attributes in draw_attributes(count, random):
        named = {name: attributes[name] for name in NAMED}
        target = captions.caption({**named, ADDED: attributes[ADDED]}, random)
        cases.append(Case(named, captions.caption(named, random), target))
    return cases


def metric_makers(scorer: Scorer) -> dict[str, Callable[[Case], Metric]]:
    return {
        "sharpness": lambda case: metrics.sharpness(),
        "blur": lambda case: metrics.blur(),
        "clip": lambda case: metrics.text_similarity(scorer, case.target),
    }


class Bench:
    """The miniature, its scorer and its judge, and the optimisers as they are compared."""

    def __init__(self, model: Path | None, steps: int) -> None:
        folder = model or miniature.SHIPPED
        self.generator: DiffusionGenerator = miniature.load(folder, steps=CHAIN_STEPS)
        self.scorer = miniature.load_scorer(folder)
        self.reader = miniature.load_reader(folder)
        self.steps = steps

    def ours(self, case: Case, metric: Metric) -> Result:
        """Tool 1; what the images say of the prompt is to be kept, in the eyes of the scorer, not of the judge."""
        keep = metrics.text_similarity(self.scorer, case.prompt)
        return optimize(
            self.generator,
            self.generator.embed(case.prompt),
            metric,
            SEEDS,
            steps=self.steps,
            keep=keep,
            unseen_seeds=UNSEEN_SEEDS,
        )

    def published(self, case: Case, metric: Metric, learning_rate: float, calls: int) -> Result:
        """The baseline, with at least as many denoiser calls up to its last score."""
        rendering = self.generator.steps * len(SEEDS)
        steps = -(-(calls - rendering) // (rendering + len(SEEDS)))
        return optimize(
            self.generator,
            self.generator.embed(case.prompt),
            metric,
            SEEDS,
            steps=steps,
            patience=steps,
            recipe="paper",
            learning_rate=learning_rate,
            unseen_seeds=UNSEEN_SEEDS,
        )

    @torch.no_grad()
    def adherence(self, embedding: Embedding, case: Case) -> float:
        """Share of the named attributes that the unseen seeds' images show."""
        shares = self.reader.adherence(self.generator.render(embedding, UNSEEN_SEEDS), case.named)
        return statistics.fmean(shares.values())

    def tally(self, into: Tally, result: Result, case: Case, metric: Metric) -> None:
        """Add what a result gained to its optimiser's tally."""
        assert result.unseen_score is not None and result.unseen_start_score is not None
        into.gains.append(metric.sign * (result.score - result.start_score))
        into.unseen_gains.append(metric.sign * (result.unseen_score - result.unseen_start_score))
        into.adherence.append(self.adherence(result.embedding, case))
        into.calls.append(result.trace[-1].calls)


def compare(bench: Bench, cases: list[Case]) -> dict[str, Any]:
    results: dict[str, Any] = {"prompts": len(cases)}
    before: list[float] = []
    after: dict[str, list[float]] = {"ours": [], "paper": [], "tuned": []}
    for name, make in metric_makers(bench.scorer).items():
        tallies = {"ours": Tally(), "paper": Tally(), "tuned": Tally()}
        rate = TUNED_LEARNING_RATES[name]
        for case in cases:
            metric = make(case)
            ours = bench.ours(case, metric)
            bench.tally(tallies["ours"], ours, case, metric)
            calls = ours.trace[-1].calls
            bench.tally(tallies["paper"], bench.published(case, metric, 0.01, calls), case, metric)
            bench.tally(tallies["tuned"], bench.published(case, metric, rate, calls), case, metric)
            before.append(bench.adherence(bench.generator.embed(case.prompt), case))
        for seen in ("gains", "unseen_gains"):
            means = {who: statistics.fmean(getattr(tally, seen)) for who, tally in tallies.items()}
            infix = "unseen_" if seen == "unseen_gains" else ""
            results[f"gain_{infix}{name}"] = means["ours"]
            for who, prefix in (("paper", "gain_ratio_"), ("tuned", "gain_ratio_tuned_")):
                results[f"gain_{who}_{infix}{name}"] = means[who]
                # A baseline that lost has no ratio to be above; its gain tells.
                results[f"{prefix}{infix}{name}"] = means["ours"] / means[who] if means[who] > 0 else None
        for who, tally in tallies.items():
            after[who] += tally.adherence
            results[f"calls_{who}_{name}"] = statistics.fmean(tally.calls)
    results["adherence_before"] = statistics.fmean(before)
    for who, infix in (("ours", ""), ("paper", "_paper"), ("tuned", "_tuned")):
        results[f"adherence_after{infix}"] = statistics.fmean(after[who])
        results[f"adherence_kept{infix}"] = statistics.fmean(after[who]) / statistics.fmean(before)
    return results


def tune(bench: Bench, cases: list[Case]) -> dict[str, Any]:
    """Mean gain of the published optimiser, by metric and learning rate, at the calls that ours may use at most."""
    calls = bench.generator.steps * len(SEEDS) * (2 * bench.steps + 1)
    return {
        name: {
            str(rate): statistics.fmean(
                make(case).sign * (result.score - result.start_score)
                for case in cases
                for result in [bench.published(case, make(case), rate, calls)]
            )
            for rate in LEARNING_RATES
        }
        for name, make in metric_makers(bench.scorer).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--model", type=Path, help="folder of a miniature; the shipped one by default")
    parser.add_argument("--prompts", type=int, default=10, help="number of prompts")
    parser.add_argument("--tune", action="store_true", help="only measure the baseline's learning rates")
    options = parser.parse_args()
    bench = Bench(options.model, STEPS)
    if options.tune:
        report(tune(bench, draw_cases(3, seed=1)), options.json)
    else:
        report(compare(bench, draw_cases(options.prompts, seed=0)), options.json)


if __name__ == "__main__":
    main()
