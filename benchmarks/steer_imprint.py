"""Fraction of unseen seeds that show an imprinted attribute, and diversity of everything else.

For each prompt, an attribute that the prompt leaves open is imprinted from one seed; 64 seeds that were neither
trained nor evaluated on are then classified by the miniature's attribute classifier. No imprint uses it.

Ours and the paper's are compared twice, each time knowing the same and with at least as many denoiser calls for the
paper's: with the aspect to copy and the scorer that finds it, the paper's being its vector and its optimizer with the
loss of the aspect; and with neither, the paper's being its own schedule.

share_before, share_{who}, share_{who}_whole: share of unseen seeds that show the target's value, mean over the prompts;
    who is ours or paper, and whole is without the aspect.
share_ours_worst: the worst prompt's.
diversity_kept_{who}, ..._whole: entropy of the classified values of each other attribute that the prompt leaves open,
    relative to that before; mean over prompts and attributes. Attributes with almost no spread before (a tenth of a
    uniform one) are left out.
adherence_kept_{who}, ..._whole: share of seeds that show what the prompt names, relative to that before.
calls_{who}, ..._whole: denoiser calls of one imprint, and seconds of the whole benchmark.
"""

import argparse
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from common import report
from thalweg.diffusion import DiffusionGenerator, miniature
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier, spread
from thalweg.diffusion.miniature.renderer import ATTRIBUTES
from thalweg.embedding import Embedding
from thalweg.generator import Generator
from thalweg.steer.imprinting.aspect import VOCABULARIES
from thalweg.steer.imprinting.aspect_features import choose_aspect
from thalweg.steer.imprinting.aspect_objective import AspectObjective
from thalweg.steer.imprinting.imprint import draw_seeds, imprint
from thalweg.steer.imprinting.imprint_config import DESCENTS, ImprintConfig, Mode
from thalweg.steer.imprinting.seed_invariant import LEARNING_RATE, LOSS_SCALE, PHASES, RepeatedMove
from thalweg.steer.imprinting.stochastic_descent import DescentState, descend
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.optimization.optimizers import PaperOptimizer

UNSEEN = range(10_000, 10_064)
BATCH = 16
CHAIN_STEPS = 10
CANDIDATES = 40
"""Number of seeds, from 0, among which the target is chosen."""
MIN_PROBABILITY = 0.9
"""Smallest probability of the target's value by the classifier."""


@dataclass(frozen=True)
class Case:
    """A prompt, the attribute to imprint, and the attributes that the prompt names."""

    prompt: str
    keep: str
    named: dict[str, str]


CASES = (
    Case("single colour ball", "colour", {"shape": "ball"}),
    Case("a cone", "colour", {"shape": "cone"}),
    Case(
        "a glossy ring on a white background", "colour", {"shape": "ring", "material": "glossy", "background": "white"}
    ),
    Case("a large cube", "colour", {"shape": "cube", "size": "large"}),
    Case("a striped cylinder", "colour", {"shape": "cylinder", "material": "striped"}),
    Case("a ball in the centre", "colour", {"shape": "ball", "position": "centre"}),
    Case("a red ball", "background", {"shape": "ball", "colour": "red"}),
    Case("a small blue cube", "background", {"shape": "cube", "colour": "blue", "size": "small"}),
    Case("a yellow object", "shape", {"colour": "yellow"}),
    Case("a green ring on a black background", "material", {"shape": "ring", "colour": "green", "background": "black"}),
)


@torch.no_grad()
def images_of(generator: Generator, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
    return torch.cat(
        [generator.render(embedding, seeds[first : first + BATCH]) for first in range(0, len(seeds), BATCH)]
    )


def find_target(
    generator: Generator, start: Embedding, classifier: AttributeClassifier, scorer: Scorer, case: Case
) -> tuple[int, str]:
    """Return the seed, of the candidates, that most clearly shows a value of the attribute; and the value.

    The seed shows the attributes that the prompt names, the classifier's probability of the value is high, and the
    scorer finds the same value, with a larger lead over the next value than for any other candidate.
    """
    vocabulary = VOCABULARIES[case.keep]
    texts = torch.stack([scorer.embed_text(text) for text in vocabulary.texts])
    images = images_of(generator, start, range(CANDIDATES))
    with torch.no_grad():
        read, sure = classifier.predict(images), classifier.probabilities(images)[case.keep].amax(1)
        best = (scorer.embed_images(images) @ texts.T).topk(2, dim=1)
    leads = {
        seed: float(best.values[seed, 0] - best.values[seed, 1])
        for seed in range(CANDIDATES)
        if all(read[name][seed] == value for name, value in case.named.items())
        and float(sure[seed]) >= MIN_PROBABILITY
        and vocabulary.words[int(best.indices[seed, 0])] == read[case.keep][seed]
    }
    if not leads:
        raise SystemExit(f"{case.prompt}: none of {CANDIDATES} seeds shows it and a clear {case.keep}")
    clearest = max(leads, key=leads.__getitem__)
    return clearest, read[case.keep][clearest]


def compare(case: Case, value: str, before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, Any]:
    """Return the share of the value, and spread of open attributes and adherence relative to before."""
    kept = {}
    for name in ATTRIBUTES:
        if name != case.keep and name not in case.named and spread(before[name], name) > 0.1:
            kept[name] = spread(after[name], name) / spread(before[name], name)
    adherence = [
        mean(read[name][place] == wanted for name, wanted in case.named.items() for place in range(len(UNSEEN)))
        for read in (before, after)
    ]
    return {
        "share": mean(read == value for read in after[case.keep]),
        "kept": kept,
        "adherence": adherence[1] / adherence[0] if adherence[0] else 0.0,
    }


@dataclass(frozen=True)
class Imprinting:
    """Model, start and target of all imprints of a case."""

    generator: DiffusionGenerator
    scorer: Scorer
    start: Embedding
    case: Case
    target: int

    def ours(self, keep: str | None, calls: int = 0) -> Embedding:
        """Return our imprint, of an aspect or of the whole image; its calls are its own."""
        return self._imprint("image", keep, None)

    def paper_schedule(self, keep: str | None, calls: int) -> Embedding:
        """Return the published schedule's embedding, with at least as many calls; it knows no aspect."""
        # A third of the steps calls the denoiser once, twice and three times for each of its seeds, forwards and again
        # backwards; every tenth step calls it three times for each held-out seed.
        descent = DESCENTS["paper"]
        per_step = 4 * descent.batch + PHASES * descent.held_out / descent.evaluate_every
        return self._imprint("paper", None, math.ceil(calls / per_step))

    def paper_aspect(self, keep: str | None, calls: int) -> Embedding:
        """Return the embedding of the published vector and optimizer with the loss of the aspect."""
        descent = DESCENTS["paper"]
        aspect = choose_aspect(keep, None, self.scorer)
        held_out = draw_seeds(descent.held_out, 0, "held out", {self.target})
        move = RepeatedMove(self.generator, self.start)
        model = self.generator.with_gradient("one_step")
        with torch.no_grad():
            target = model.render(self.start, [self.target])[0]
        objective = AspectObjective(model, self.start, aspect, target, held_out, descent.rest_weight)
        # The images of a step's seeds, their gradient, and those under the start; now and then those held out.
        chain = self.generator.steps
        per_step = descent.batch * (2 * chain + 1) + descent.held_out * chain / descent.evaluate_every
        descent = replace(descent, steps=math.ceil(calls / per_step))
        optimizer = PaperOptimizer(move, LEARNING_RATE, LOSS_SCALE, keep_moments=False)
        score = objective.evaluate(move.embedding(optimizer.ask()))
        state = DescentState(optimizer.ask().clone(), score, score)

        def seeds_of(step: int) -> Sequence[int]:
            return draw_seeds(descent.batch, 0, f"step {step}", {self.target, *held_out, *UNSEEN})

        descend(state, move, objective, optimizer, descent, seeds_of, lambda: None, None)
        with torch.no_grad():
            return self.start.derive(move.embedding(state.best).floating, "imprint")

    def _imprint(self, mode: Mode, keep: str | None, iterations: int | None) -> Embedding:
        # Its own report is on the first unseen seed only: all of them are rendered and read here.
        config = ImprintConfig(self.target, mode=mode, keep=keep, iterations=iterations, unseen=tuple(UNSEEN[:1]))
        scorer = self.scorer if keep else None
        return imprint(self.generator, self.start, config, scorer=scorer).embedding


def measure(folder: Path, case: Case) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return the share of the target's value before, and the figures of each imprint; one case, one thread."""
    torch.set_num_threads(1)
    generator, scorer = miniature.load(folder, steps=CHAIN_STEPS), miniature.load_scorer(folder)
    classifier = miniature.load_attribute_classifier()
    start = generator.embed(case.prompt)
    target, value = find_target(generator, start, classifier, scorer, case)
    before = classifier.predict(images_of(generator, start, UNSEEN))
    share_before = mean(read == value for read in before[case.keep])
    imprinting = Imprinting(generator, scorer, start, case, target)
    found: dict[str, dict[str, Any]] = {}
    ways = {"": (case.keep, imprinting.paper_aspect), "_whole": (None, imprinting.paper_schedule)}
    for suffix, (keep, paper) in ways.items():
        calls = 0
        for who, way in (("ours", imprinting.ours), ("paper", paper)):
            first = generator.calls
            embedding = way(keep, calls)
            calls = generator.calls - first
            after = classifier.predict(images_of(generator, embedding, UNSEEN))
            row = found[who + suffix] = {**compare(case, value, before, after), "calls": calls}
            print(
                f"{case.prompt}: {case.keep} {value}, {who}{suffix}: {share_before:.2f} -> {row['share']:.2f}, "
                f"diversity {mean(row['kept'].values()):.2f}, adherence {row['adherence']:.2f}, {calls} calls",
                flush=True,
            )
    return share_before, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--model", type=Path, help="folder of a miniature; the shipped one by default")
    parser.add_argument("--prompts", type=int, default=len(CASES), help="number of prompts")
    options = parser.parse_args()
    begun = time.perf_counter()
    cases = CASES[: options.prompts]
    folder = options.model or miniature.SHIPPED
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), get_context("spawn")) as pool:
        measured = list(pool.map(measure, [folder] * len(cases), cases))
    results: dict[str, Any] = {
        "prompts": len(cases),
        "unseen_seeds": len(UNSEEN),
        "share_before": mean(share for share, _ in measured),
        "share_ours_worst": min(found["ours"]["share"] for _, found in measured),
    }
    for who in measured[0][1]:
        rows = [found[who] for _, found in measured]
        results[f"share_{who}"] = mean(row["share"] for row in rows)
        results[f"diversity_kept_{who}"] = mean(share for row in rows for share in row["kept"].values())
        results[f"adherence_kept_{who}"] = mean(row["adherence"] for row in rows)
        results[f"calls_{who}"] = mean(row["calls"] for row in rows)
    report(results | {"seconds": time.perf_counter() - begun}, options.json)


if __name__ == "__main__":
    main()
