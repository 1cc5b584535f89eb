"""Fraction of unseen seeds that show an imprinted attribute, and diversity of everything else.

For each prompt, an attribute that the prompt leaves open is imprinted from one seed; 64 seeds that were neither
trained nor evaluated on are then classified by the miniature's attribute classifier. No imprint uses it: imprints use
the space of the text and image encoders.

share_before, share_ours, share_paper: share of unseen seeds that show the target's value, mean over the prompts.
share_ours_worst: the worst prompt's.
diversity_kept, diversity_kept_paper: entropy of the classified values of each other attribute that the prompt leaves
    open, relative to that before; mean over prompts and attributes. Attributes with almost no spread before (a tenth of
    a uniform one) are left out.
adherence_kept, adherence_kept_paper: share of seeds that show what the prompt names, relative to that before.
seconds, seconds_ours, seconds_paper: duration of the whole, and mean duration of one imprint.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from common import arguments, report
from thalweg.diffusion import miniature
from thalweg.diffusion.miniature.attribute_classifier import AttributeClassifier, spread
from thalweg.diffusion.miniature.renderer import ATTRIBUTES
from thalweg.embedding import Embedding
from thalweg.generator import Generator
from thalweg.steer.imprinting.aspect import VOCABULARIES
from thalweg.steer.imprinting.imprint import imprint
from thalweg.steer.imprinting.imprint_config import ImprintConfig, Mode
from thalweg.steer.metrics.scorer import Scorer

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


def measure(folder: Path, case: Case) -> tuple[float, dict[Mode, dict[str, Any]]]:
    """Return the share of the target's value before, and the figures of each mode; one case, one thread."""
    torch.set_num_threads(1)
    generator, scorer = miniature.load(folder, steps=CHAIN_STEPS), miniature.load_scorer(folder)
    classifier = miniature.load_attribute_classifier()
    start = generator.embed(case.prompt)
    target, value = find_target(generator, start, classifier, scorer, case)
    before = classifier.predict(images_of(generator, start, UNSEEN))
    share_before = mean(read == value for read in before[case.keep])
    found: dict[Mode, dict[str, Any]] = {}
    modes: tuple[Mode, ...] = ("image", "paper")
    for mode in modes:
        clock = time.perf_counter()
        # Its own report is on the first unseen seed only: all of them are rendered and read here.
        result = imprint(
            generator, start, ImprintConfig(target, mode=mode, keep=case.keep, unseen=tuple(UNSEEN[:1])), scorer=scorer
        )
        seconds = time.perf_counter() - clock
        after = classifier.predict(images_of(generator, result.embedding, UNSEEN))
        row = found[mode] = {**compare(case, value, before, after), "seconds": seconds}
        print(
            f"{case.prompt}: {case.keep} {value}, {mode}: {share_before:.2f} -> {row['share']:.2f}, "
            f"diversity {mean(row['kept'].values()):.2f}, adherence {row['adherence']:.2f}, "
            f"{seconds:.0f} s, step {result.report['best_step']}",
            flush=True,
        )
    return share_before, found


def main() -> None:
    options = arguments(__doc__)
    begun = time.perf_counter()
    folder = options.model or miniature.SHIPPED
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), get_context("spawn")) as pool:
        measured = list(pool.map(measure, [folder] * len(CASES), CASES))
    before_shares = [share for share, _ in measured]
    ours, paper = ([found[mode] for _, found in measured] for mode in ("image", "paper"))
    results = {
        "prompts": len(CASES),
        "unseen_seeds": len(UNSEEN),
        "share_before": mean(before_shares),
        "share_ours": mean(row["share"] for row in ours),
        "share_ours_worst": min(row["share"] for row in ours),
        "share_paper": mean(row["share"] for row in paper),
        "diversity_kept": mean(share for row in ours for share in row["kept"].values()),
        "diversity_kept_paper": mean(share for row in paper for share in row["kept"].values()),
        "adherence_kept": mean(row["adherence"] for row in ours),
        "adherence_kept_paper": mean(row["adherence"] for row in paper),
        "seconds": time.perf_counter() - begun,
        "seconds_ours": mean(row["seconds"] for row in ours),
        "seconds_paper": mean(row["seconds"] for row in paper),
    }
    report(results, options.json)


if __name__ == "__main__":
    main()
