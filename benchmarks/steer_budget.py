"""Score on unseen seeds by denoiser calls: every way to optimize a metric, at equal calls, and the paper's above all.

Prompts of the miniature name shape, colour and background. Three metrics are optimized from each: sharpness, blur, and
similarity to a text (the prompt with one attribute more, its material). All methods start from the same prompt,
optimize over the same seeds, and stop at the same number of denoiser calls, those of backward passes included.

ours: `optimize` with its defaults, a constraint and a judge included.
tuned: `recipe="paper"` at the learning rate with the largest gain while at least 0.9 of the adherence is kept; `--tune`
    finds it for each metric, on other prompts than those scored.
published: `recipe="paper"` at its published learning rate.
random: the best of random embeddings in the trust region. words: the best of the prompt with words from the list of
    prompt edits. noise: gradient ascent of the seeds' own start noise (as ReNO, arXiv 2406.04312). both: noise and
    embedding together. These two move the seeds' noise, and are scored on these seeds.

ratio_{metric}: gain on unseen seeds, mean of the prompts, ours over tuned; *_low: lower bound of its 90 % interval,
    from a bootstrap over prompts. gain_{method}_{metric}: these gains, in the metric's unit.
judge_ratio_{metric}: the same ratio of a judge that neither optimizes: for sharpness and blur the mean slope of the
    grey image (Sobel), for text the share of the target's attributes that the attribute classifier finds.
judge_ratio: the smallest of the three.
adherence_before, adherence_after, adherence_after_{method}: share of the named attributes that the attribute classifier
    finds in the unseen seeds' images, mean of prompts and metrics; adherence_after is that of ours.
gain_own_{metric}: the gain of ours on the optimized seeds, which noise and both are scored on.
curve_{method}_{metric}: with `--curve`, gains by denoiser calls.
"""

import argparse
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from common import report
from thalweg.diffusion import miniature
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.miniature.renderer import draw_attributes
from thalweg.embedding import Embedding
from thalweg.steer.metrics import clip_metrics
from thalweg.steer.metrics.image_statistics import grey
from thalweg.steer.metrics.metric import Metric
from thalweg.steer.metrics.parsing import parse
from thalweg.steer.navigation.prompt_edits import PromptTemplate
from thalweg.steer.optimization.optimize import OptimizeResult, optimize
from thalweg.steer.optimization.optimize_config import RADIUS, Move, OptimizeConfig
from thalweg.steer.trust_region import TrustRegion

NAMED = ("shape", "colour", "background")
ADDED = "material"
METRICS = ("sharpness", "blur", "text")
SEEDS = tuple(range(4))
UNSEEN_SEEDS = range(1000, 1006)
CHAIN_STEPS = 8
CALLS = 248
"""Denoiser calls of each method: the start and six steps of the paper optimizer."""
BUDGETS = (104, CALLS, 536)
"""The same for `--curve`: 2, 6 and 14 steps."""
BOOTSTRAPS = 2000
MOVES_NOISE = ("noise", "both")
LEARNING_RATE = 0.01
TUNED_LEARNING_RATES = {"sharpness": 1.4, "blur": 4.0, "text": 3.0}
"""Learning rates that `--tune` found."""
LEARNING_RATES = {
    "sharpness": (0.5, 1.0, 1.4, 2.0),
    "blur": (1.0, 2.0, 3.0, 4.0, 5.0),
    "text": (0.3, 1.0, 2.0, 3.0, 5.0),
}


Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A prompt, the attributes it names, and the text and the attributes that its images are to show."""

    named: dict[str, str]
    prompt: str
    target: str
    shown: dict[str, str]


def draw_cases(count: int, seed: int) -> list[Case]:
    """Return the first `count` cases of a seed."""
    random = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(count):
        (attributes,) = draw_attributes(1, random)
        named = {name: attributes[name] for name in NAMED}
        shown = {**named, ADDED: attributes[ADDED]}
        target = captions.caption(shown, random)
        cases.append(Case(named, captions.caption(named, random), target, shown))
    return cases


def slopes(images: Tensor) -> Tensor:
    """Return the mean slope (S) of the grey images (Sobel)."""
    kernel = images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    parts = functional.conv2d(grey(images), torch.stack([kernel, kernel.T])[:, None])
    return parts.square().sum(1).sqrt().mean((1, 2))


@dataclass(frozen=True)
class Found:
    """Result of a method: the embedding, its gain on the seeds, and the denoiser calls up to its last score."""

    embedding: Embedding
    gain: float
    calls: int

    @classmethod
    def of(cls, metric: Metric, result: OptimizeResult) -> "Found":
        """Return the result of an optimization."""
        return cls(result.embedding, metric.sign * (result.score - result.start_score), result.trace[-1].calls)


class Bench:
    """The miniature, its scorer and its evaluator, and the methods that are compared at equal calls."""

    def __init__(self, model: Path | None = None) -> None:
        folder = model or miniature.SHIPPED
        self.generator = miniature.load(folder, steps=CHAIN_STEPS, gradient="shortcut")
        self.scorer = miniature.load_scorer(folder)
        self.classifier = miniature.load_attribute_classifier()
        self.rendering = self.generator.steps * len(SEEDS)
        self.methods: dict[str, Callable[[Case, Metric, int], Found]] = {
            "ours": self.ours,
            "tuned": lambda case, metric, calls: self.paper(
                case, metric, calls, TUNED_LEARNING_RATES[metric.name.partition(":")[0]]
            ),
            "published": lambda case, metric, calls: self.paper(case, metric, calls, LEARNING_RATE),
            "random": self.random,
            "words": self.words,
            "noise": lambda case, metric, calls: self.ours(case, metric, calls, "noise"),
            "both": lambda case, metric, calls: self.ours(case, metric, calls, "both"),
        }

    def metric(self, name: str, case: Case) -> Metric:
        """Return one of the metrics for a case."""
        return clip_metrics.text_similarity(self.scorer, case.target) if name == "text" else parse(name)

    def steps(self, calls: int) -> int:
        """Return the points after the start that a gradient of one denoiser call per image leaves calls for."""
        return (calls - self.rendering) // (self.rendering + len(SEEDS))

    def ours(self, case: Case, metric: Metric, calls: int, move: Move = "embedding") -> Found:
        """Optimize with the defaults of `optimize`; the constraint is the prompt's own text score."""
        steps = self.steps(calls)
        keep = clip_metrics.text_similarity(self.scorer, case.prompt)
        config = OptimizeConfig(metric, SEEDS, iterations=steps, patience=steps, keep=keep, move=move)
        return Found.of(metric, optimize(self.generator, self.generator.embed(case.prompt), config))

    def paper(self, case: Case, metric: Metric, calls: int, learning_rate: float) -> Found:
        """Run the paper optimizer."""
        steps = self.steps(calls)
        config = OptimizeConfig(
            metric, SEEDS, iterations=steps, patience=steps, recipe="paper", learning_rate=learning_rate
        )
        return Found.of(metric, optimize(self.generator, self.generator.embed(case.prompt), config))

    def random(self, case: Case, metric: Metric, calls: int) -> Found:
        """Try random embeddings of the trust region."""
        start = self.generator.embed(case.prompt)
        region = TrustRegion(self.generator, start, RADIUS)
        draws = torch.Generator().manual_seed(0)
        tried = [start]
        for _ in range(calls // self.rendering - 1):
            offsets = torch.randn(region.size, generator=draws)
            drift = RADIUS * float(torch.rand((), generator=draws))
            tried.append(region.embedding(offsets * drift / region.drift(offsets)))
        return self.best(metric, tried)

    def words(self, case: Case, metric: Metric, calls: int) -> Found:
        """Try prompts that differ in one word."""
        near = PromptTemplate.of(case.prompt).variations()
        order = torch.randperm(len(near), generator=torch.Generator().manual_seed(0))[: calls // self.rendering - 1]
        prompts = [case.prompt, *(near[place].text for place in order)]
        return self.best(metric, [self.generator.embed(prompt) for prompt in prompts])

    @torch.no_grad()
    def best(self, metric: Metric, tried: list[Embedding]) -> Found:
        """Return the embedding with the best score over the seeds; the first is the start."""
        first = self.generator.calls
        scores = [metric.sign * float(metric(self.generator.render(each, SEEDS)).mean()) for each in tried]
        best = max(range(len(tried)), key=scores.__getitem__)
        return Found(tried[best], scores[best] - scores[0], self.generator.calls - first)

    @torch.no_grad()
    def unseen(self, embedding: Embedding) -> Tensor:
        """Return the embedding's images from seeds that no optimizer used."""
        return self.generator.render(embedding, UNSEEN_SEEDS)

    def evaluate(self, name: str, case: Case, metric: Metric, images: Tensor) -> dict[str, float]:
        """Return the score and the judge's score (more is better) of images, and their adherence."""
        with torch.no_grad():
            score = metric.sign * float(metric(images).mean())
            if name == "text":
                judge = statistics.fmean(self.classifier.adherence(images, case.shown).values())
            else:
                judge = metric.sign * float(slopes(images).mean())
        adherence = statistics.fmean(self.classifier.adherence(images, case.named).values())
        return {"score": score, "judge": judge, "adherence": adherence}


def run(bench: Bench, options: argparse.Namespace, methods: Sequence[str], budgets: Sequence[int]) -> list[Row]:
    """Return one row per case, metric, method and budget; rows in the file are read, others are added to it."""
    lines = options.rows.read_text().splitlines() if options.rows and options.rows.exists() else []
    known = {(row["case"], row["metric"], row["method"], row["budget"]): row for row in map(json.loads, lines)}
    rows = []
    for index, case in enumerate(draw_cases(options.prompts, options.draw)):
        start: Tensor | None = None
        for name, method, budget in itertools.product(METRICS, methods, budgets):
            row = known.get((index, name, method, budget))
            if row is None:
                start = bench.unseen(bench.generator.embed(case.prompt)) if start is None else start
                row = measure(bench, case, start, name, method, budget) | {"case": index}
                if options.rows:
                    with options.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            rows.append(row)
        print(f"{index + 1} of {options.prompts}: {case.prompt}", flush=True)
    return rows


def measure(bench: Bench, case: Case, start: Tensor, name: str, method: str, budget: int) -> Row:
    """Run one method on one case and evaluate it; `start` are the unseen seeds' images before."""
    metric = bench.metric(name, case)
    clock = time.process_time()
    found = bench.methods[method](case, metric, budget)
    seconds = time.process_time() - clock
    before = bench.evaluate(name, case, metric, start)
    after = bench.evaluate(name, case, metric, bench.unseen(found.embedding))
    return {
        **{"metric": name, "method": method, "budget": budget, "calls": found.calls, "seconds": seconds},
        **{"seen": found.gain, "gain": after["score"] - before["score"], "judge": after["judge"] - before["judge"]},
        **{"adherence_before": before["adherence"], "adherence": after["adherence"]},
    }


def bootstrap_low(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return the lower bound of the 90 % interval of the ratio of two means over the same prompts."""
    pairs = torch.tensor([ours, others], dtype=torch.float64)
    draws = torch.randint(len(ours), (BOOTSTRAPS, len(ours)), generator=torch.Generator().manual_seed(0))
    one, other = pairs[:, draws].mean(2)
    # A draw in which the baseline gains nothing has no ratio; it counts as the smallest one.
    ratios = torch.where(other > 0, one / other, -torch.inf if bool((one <= 0).any()) else torch.inf)
    return float(ratios.quantile(0.05, interpolation="lower"))


def summarize(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any]:
    """Return the figures of the rows at the budget."""
    by: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["budget"] == CALLS:
            by[row["method"], row["metric"]].append(row)

    def values(method: str, metric: str, column: str) -> list[float]:
        return [row[column] for row in by[method, metric]]

    results: dict[str, Any] = {"prompts": len(by[methods[0], METRICS[0]]), "calls": CALLS}
    for metric in METRICS:
        for method in methods:
            column = "seen" if method in MOVES_NOISE else "gain"
            results[f"gain_{method}_{metric}"] = statistics.fmean(values(method, metric, column))
        if "ours" in methods:
            results[f"gain_own_{metric}"] = statistics.fmean(values("ours", metric, "seen"))
        if {"ours", "tuned"} <= set(methods):
            for prefix, column in (("", "gain"), ("judge_", "judge")):
                ours, tuned = (values(method, metric, column) for method in ("ours", "tuned"))
                mean = statistics.fmean(tuned)
                # A baseline that lost leaves no ratio; its gain tells.
                results[f"{prefix}ratio_{metric}"] = statistics.fmean(ours) / mean if mean > 0 else None
                results[f"{prefix}ratio_{metric}_low"] = bootstrap_low(ours, tuned)
    for method in methods:
        if method not in MOVES_NOISE:
            found = [value for metric in METRICS for value in values(method, metric, "adherence")]
            results["adherence_after" + ("" if method == "ours" else f"_{method}")] = statistics.fmean(found)
    before = [row["adherence_before"] for row in rows]
    results["adherence_before"] = statistics.fmean(before)
    judged = [results.get(f"judge_ratio_{metric}") for metric in METRICS]
    results["judge_ratio"] = min((ratio for ratio in judged if ratio is not None), default=None)
    return results


def curve(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the mean gain by calls, for each method and metric."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        column = "seen" if row["method"] in MOVES_NOISE else "gain"
        found[f"curve_{row['method']}_{row['metric']}"][row["budget"]].append(row[column])
    return {name: {str(calls): statistics.fmean(gains) for calls, gains in by.items()} for name, by in found.items()}


def tune(bench: Bench, prompts: int) -> dict[str, Any]:
    """Return mean gain and kept adherence of the paper optimizer by metric and learning rate, on other prompts."""
    cases = draw_cases(prompts, seed=1)
    starts = [bench.unseen(bench.generator.embed(case.prompt)) for case in cases]
    found: dict[str, Any] = {}
    for name, rates in LEARNING_RATES.items():
        for rate in rates:
            gains, before, after = [], [], []
            for case, start in zip(cases, starts, strict=True):
                metric = bench.metric(name, case)
                result = bench.paper(case, metric, CALLS, rate)
                images = bench.unseen(result.embedding)
                evaluated = [bench.evaluate(name, case, metric, each) for each in (start, images)]
                gains.append(evaluated[1]["score"] - evaluated[0]["score"])
                before.append(evaluated[0]["adherence"])
                after.append(evaluated[1]["adherence"])
            found[f"gain_{name}_{rate}"] = statistics.fmean(gains)
            found[f"adherence_kept_{name}_{rate}"] = statistics.fmean(after) / statistics.fmean(before)
            print(f"{name} {rate}: {found[f'gain_{name}_{rate}']:.4g}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--model", type=Path, help="folder of a miniature; the shipped one by default")
    parser.add_argument("--prompts", type=int, default=2, help="number of prompts; 40 for the claim")
    parser.add_argument("--draw", type=int, default=0, help="seed of the prompts; 1 is that of --tune")
    parser.add_argument("--methods", nargs="+", help="methods to compare; all by default")
    parser.add_argument("--rows", type=Path, help="JSON lines file of the runs so far; missing ones are added to it")
    parser.add_argument("--curve", action="store_true", help="also measure with fewer and more calls")
    parser.add_argument("--tune", action="store_true", help="only measure the baseline's learning rates")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.model)
    if options.tune:
        report(tune(bench, options.prompts), options.json)
        return
    methods = options.methods or list(bench.methods)
    rows = run(bench, options, methods, BUDGETS if options.curve else (CALLS,))
    report(summarize(rows, methods) | (curve(rows) if options.curve else {}), options.json)


if __name__ == "__main__":
    main()
