"""Fraction of unseen seeds that show an imprinted attribute, and diversity of everything else.

For each prompt, an attribute that the prompt leaves open is imprinted from one seed; 64 seeds that were neither
trained nor evaluated on are then classified by the miniature's attribute classifier. No imprint uses it.

Ours and the paper's are compared twice, each time knowing the same and with at least as many denoiser calls for the
paper's: with the aspect to copy and the scorer that finds it, the paper's being its vector and its optimizer with the
loss of the aspect; and with neither (whole), the paper's being its own schedule. The paper's learning rates are the
ones with the largest share among those that keep at least 0.9 of the adherence that the best of them keeps; `--tune`
finds them on other prompts than those scored. Prompts are drawn, and one whose first 40 seeds show no clear value of
the attribute is replaced by the next.

share_before, share_{who}, share_{who}_whole: share of unseen seeds that show the target's value, mean over the prompts;
    who is ours or paper, and whole is without the aspect. share_worst_{who}, ..._whole: the worst prompt's.
open_before, open_{who}, ..._whole: the same for all attributes that the prompt leaves open: what a whole image copies.
lead, lead_whole: share of ours less the paper's; *_low, *_high: its 90 % interval, from a bootstrap over prompts;
    open_lead_whole and its bounds: the same of open.
diversity_kept_{who}, ..._whole: entropy of the classified values of each other attribute that the prompt leaves open,
    relative to that before; mean over prompts and attributes. Attributes with almost no spread before (a tenth of a
    uniform one) are left out.
adherence_kept_{who}, ..._whole: share of seeds that show what the prompt names, relative to that before.
calls_{who}, ..._whole: denoiser calls of one imprint, and seconds of the whole benchmark.
"""

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from common import report
from thalweg.diffusion import DiffusionGenerator, miniature
from thalweg.diffusion.miniature import captions
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier, spread
from thalweg.diffusion.miniature.renderer import ATTRIBUTES, draw_attributes
from thalweg.embedding import Embedding
from thalweg.generator import Generator
from thalweg.steer.imprinting.aspect import VOCABULARIES
from thalweg.steer.imprinting.aspect_features import choose_aspect
from thalweg.steer.imprinting.aspect_objective import AspectObjective
from thalweg.steer.imprinting.imprint import draw_seeds, imprint
from thalweg.steer.imprinting.imprint_config import DESCENTS, ImprintConfig
from thalweg.steer.imprinting.seed_invariant import LOSS_SCALE, PHASES, LatentObjective, RepeatedMove
from thalweg.steer.imprinting.stochastic_descent import DescentObjective, DescentState, descend
from thalweg.steer.metrics.scorer import Scorer
from thalweg.steer.optimization.optimizers import PaperOptimizer

UNSEEN = range(10_000, 10_064)
BATCH = 16
CHAIN_STEPS = 8
CANDIDATES = 40
"""Number of seeds, from 0, among which the target is chosen."""
MIN_PROBABILITY = 0.9
"""Smallest probability of the target's value by the classifier."""
KEPT = ("colour", "background", "shape", "material")
NAMED = ("shape", "colour", "material", "size", "background")
"""Attributes that are imprinted, in turn, and those that prompts name."""
SCORED, OTHERS = 2, 1
"""Seeds of the prompts that are scored, and of those on which settings are chosen."""
LEARNING_RATES = {"": 0.1, "_whole": 0.03}
TRIED_RATES = {"": (0.01, 0.03, 0.1, 0.3), "_whole": (0.003, 0.01, 0.03, 0.1)}
"""The paper's learning rates, with the aspect and without: those that `--tune` found, and those it tries."""
TUNING_CALLS = {"": 3850, "_whole": 2830}
"""Denoiser calls of an imprint while rates are tuned: about those of ours."""
BOOTSTRAPS = 2000

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A prompt, the attribute to imprint, and the attributes that the prompt names."""

    prompt: str
    keep: str
    named: dict[str, str]


def draw_cases(seed: int) -> Iterator[Case]:
    """Yield cases without end; their prompts name one to three attributes."""
    random = torch.Generator().manual_seed(seed)
    for keep in itertools.cycle(KEPT):
        (attributes,) = draw_attributes(1, random)
        others = [name for name in NAMED if name != keep]
        count = 1 + int(torch.randint(3, (1,), generator=random))
        places = torch.randperm(len(others), generator=random)[:count].sort().values
        named = {others[place]: attributes[others[place]] for place in places}
        yield Case(captions.caption(named, random), keep, named)


@torch.no_grad()
def images_of(generator: Generator, embedding: Embedding, seeds: Sequence[int]) -> Tensor:
    return torch.cat(
        [generator.render(embedding, seeds[first : first + BATCH]) for first in range(0, len(seeds), BATCH)]
    )


def find_target(
    generator: Generator, start: Embedding, classifier: AttributeClassifier, scorer: Scorer, case: Case
) -> tuple[int, dict[str, str]] | None:
    """Return the seed, of the candidates, that most clearly shows a value of the attribute; and what it shows.

    The seed shows the attributes that the prompt names, the classifier's probability of the value is high, and the
    scorer finds the same value, with a larger lead over the next value than for any other candidate. None: no seed
    does.
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
        return None
    clearest = max(leads, key=leads.__getitem__)
    return clearest, {name: read[name][clearest] for name in ATTRIBUTES}


def compare(case: Case, shown: dict[str, str], before: dict[str, list[str]], after: dict[str, list[str]]) -> Row:
    """Return the shares of what the target shows, and spread of open attributes and adherence relative to before."""
    shares = {name: fmean(value == shown[name] for value in after[name]) for name in ATTRIBUTES}
    kept = [
        spread(after[name], name) / spread(before[name], name)
        for name in ATTRIBUTES
        if name != case.keep and name not in case.named and spread(before[name], name) > 0.1
    ]
    adherence = [
        fmean(value == wanted for name, wanted in case.named.items() for value in read[name])
        for read in (before, after)
    ]
    return {
        "share": shares[case.keep],
        "open": fmean(shares[name] for name in ATTRIBUTES if name not in case.named),
        "kept": kept,
        "adherence": adherence[1] / adherence[0] if adherence[0] else 0.0,
    }


@dataclass(frozen=True)
class Imprinting:
    """Model, start and target of all imprints of a case."""

    generator: DiffusionGenerator
    scorer: Scorer
    start: Embedding
    target: int

    def ours(self, keep: str | None) -> Embedding:
        """Return our imprint with its defaults, of an aspect or of the whole image."""
        # Its own report is on the first unseen seed only: all of them are rendered and read by the caller.
        config = ImprintConfig(self.target, keep=keep, unseen=tuple(UNSEEN[:1]))
        return imprint(self.generator, self.start, config, scorer=self.scorer if keep else None).embedding

    def paper(self, keep: str | None, calls: int, learning_rate: float) -> Embedding:
        """Return the published vector and optimizer's embedding with at least as many calls.

        The loss is the aspect's, or without an aspect the published schedule's.
        """
        descent = DESCENTS["paper"]
        held_out = draw_seeds(descent.held_out, 0, "held out", {self.target, *UNSEEN})
        generator, chain = self.generator, self.generator.steps
        objective: DescentObjective
        if keep is None:
            # A third of the steps calls the denoiser once, twice and three times for each of its seeds, forwards and
            # again backwards; every tenth step calls it three times for each held-out seed.
            per_step = 4 * descent.batch + PHASES * descent.held_out / descent.evaluate_every
            steps = math.ceil(calls / per_step)
            objective = LatentObjective(generator, self.start, self.target, held_out, steps)
        else:
            # The images of a step's seeds, their gradient, and those under the start; now and then those held out.
            per_step = descent.batch * (2 * chain + 1) + descent.held_out * chain / descent.evaluate_every
            steps = math.ceil(calls / per_step)
            generator = generator.with_gradient("one_step")
            with torch.no_grad():
                image = generator.render(self.start, [self.target])[0]
            aspect = choose_aspect(keep, None, self.scorer)
            objective = AspectObjective(generator, self.start, aspect, (self.target, image), held_out, descent)
        move = RepeatedMove(generator, self.start)
        optimizer = PaperOptimizer(move, learning_rate, LOSS_SCALE, keep_moments=False)
        score = objective.evaluate(move.embedding(optimizer.ask()))
        state = DescentState(optimizer.ask().clone(), score, score)

        def seeds_of(step: int) -> Sequence[int]:
            return draw_seeds(descent.batch, 0, f"step {step}", {self.target, *held_out, *UNSEEN})

        descent = replace(descent, steps=steps)
        descend(state, move, objective, optimizer, descent, seeds_of, lambda: None, None)
        with torch.no_grad():
            return self.start.derive(move.embedding(state.best).floating, "imprint")


def measure(folder: Path, case: Case, rates: Mapping[str, Sequence[float]] | None = None) -> Row | None:
    """Return the figures of each imprint of one case; None: it has no target. One thread.

    With `rates`, the figures are those of the paper's imprint at each of these learning rates.
    """
    torch.set_num_threads(1)
    generator, scorer = miniature.load(folder, steps=CHAIN_STEPS), miniature.load_scorer(folder)
    classifier = miniature.load_attribute_classifier()
    start = generator.embed(case.prompt)
    found = find_target(generator, start, classifier, scorer, case)
    if found is None:
        return None
    target, shown = found
    imprinting = Imprinting(generator, scorer, start, target)
    before = classifier.predict(images_of(generator, start, UNSEEN))
    row: Row = {"before": compare(case, shown, before, before)}

    def add(name: str, embedding: Embedding, calls: int) -> None:
        after = classifier.predict(images_of(generator, embedding, UNSEEN))
        row[name] = compare(case, shown, before, after) | {"calls": calls}

    for suffix, keep in (("", case.keep), ("_whole", None)):
        if rates is not None:
            for rate in rates[suffix]:
                add(f"{rate}{suffix}", imprinting.paper(keep, TUNING_CALLS[suffix], rate), TUNING_CALLS[suffix])
            continue
        first = generator.calls
        embedding = imprinting.ours(keep)
        calls = generator.calls - first
        add(f"ours{suffix}", embedding, calls)
        first = generator.calls
        embedding = imprinting.paper(keep, calls, LEARNING_RATES[suffix])
        add(f"paper{suffix}", embedding, generator.calls - first)
    return row


def run(folder: Path, count: int, seed: int, tune: bool, file: Path | None) -> list[Row]:
    """Return the rows of the first `count` cases with a target; rows in the file are read, others are added to it."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    known = [json.loads(line) for line in lines]
    cases = itertools.islice(draw_cases(seed), len(known), None)
    rows = [row for row in known if row is not None][:count]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), get_context("spawn")) as pool:
        while len(rows) < count:
            batch = list(itertools.islice(cases, count - len(rows)))
            measured = pool.map(partial(measure, folder, rates=TRIED_RATES if tune else None), batch)
            for case, row in zip(batch, measured, strict=True):
                if file is not None:
                    with file.open("a") as lines_file:
                        lines_file.write(json.dumps(row) + "\n")
                if row is not None:
                    rows.append(row)
                    shares = ", ".join(f"{who} {found['share']:.2f}" for who, found in row.items())
                    print(f"{case.prompt}: {case.keep}: {shares}", flush=True)
    return rows


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return the 90 % interval of the mean of values."""
    draws = torch.randint(len(values), (BOOTSTRAPS, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = torch.tensor(values, dtype=torch.float64)[draws].mean(1).quantile(torch.tensor([0.05, 0.95]).double())
    return float(low), float(high)


def summarize(rows: Sequence[Row]) -> Row:
    """Return the means over the rows and, where both were measured, the leads over the paper's."""
    results: Row = {"prompts": len(rows), "unseen_seeds": len(UNSEEN)}
    for who in rows[0]:
        found = [row[who] for row in rows]
        results[f"share_{who}"] = fmean(each["share"] for each in found)
        results[f"open_{who}"] = fmean(each["open"] for each in found)
        if who == "before":
            continue
        results[f"share_worst_{who}"] = min(each["share"] for each in found)
        results[f"diversity_kept_{who}"] = fmean(share for each in found for share in each["kept"])
        results[f"adherence_kept_{who}"] = fmean(each["adherence"] for each in found)
        results[f"calls_{who}"] = fmean(each["calls"] for each in found)
    leads = (("lead", "share", ""), ("lead_whole", "share", "_whole"), ("open_lead_whole", "open", "_whole"))
    for name, figure, suffix in leads:
        if "ours" in rows[0]:
            differences = [row[f"ours{suffix}"][figure] - row[f"paper{suffix}"][figure] for row in rows]
            results[name] = fmean(differences)
            results[f"{name}_low"], results[f"{name}_high"] = bootstrap(differences)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--model", type=Path, help="folder of a miniature; the shipped one by default")
    parser.add_argument("--prompts", type=int, default=2, help="number of prompts; 40 for the claim")
    parser.add_argument("--draw", type=int, default=SCORED, help="seed of the prompts; 1 is that of --tune")
    parser.add_argument("--rows", type=Path, help="JSON lines file of the prompts so far; missing ones are added to it")
    parser.add_argument("--tune", action="store_true", help="only measure the paper's learning rates, on other prompts")
    options = parser.parse_args()
    begun = time.perf_counter()
    seed = OTHERS if options.tune else options.draw
    rows = run(options.model or miniature.SHIPPED, options.prompts, seed, options.tune, options.rows)
    report(summarize(rows) | {"seconds": time.perf_counter() - begun}, options.json)


if __name__ == "__main__":
    main()
