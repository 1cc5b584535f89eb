"""Does an imprint make unseen seeds show what one seed shows, and leave everything else to chance?

For each prompt, an attribute that the prompt leaves open is imprinted from one seed; 64 seeds that nothing was trained
or judged on are then read by the miniature's attribute classifier, which no imprint sees: it follows the text and image
encoders' space.

share_before, share_ours, share_paper: share of unseen seeds that show the target's value, mean over the prompts.
share_ours_worst: the worst prompt's.
diversity_kept, diversity_kept_paper: entropy of what the classifier reads of each other attribute that the prompt leaves
    open, relative to that before; mean over prompts and attributes. An attribute of which there was next to no spread
    before (a tenth of a uniform one) counts for nothing.
adherence_kept, adherence_kept_paper: share of seeds that show what the prompt names, relative to that before.
seconds, seconds_ours, seconds_paper: of the whole, and of one imprint in the mean.
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
"""Seeds from 0 on among which the target is sought."""
SURE = 0.9
"""What a person would call clear: the classifier's probability of the target's value."""


@dataclass(frozen=True)
class Case:
    """A prompt, the attribute to imprint, and what the prompt names."""

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

    It shows what the prompt names, the classifier is sure of the value, and by the scorer, too, it is that value, further
    ahead of the next one than in any other candidate: nobody picks a seed for a colour between two.
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
        and float(sure[seed]) >= SURE
        and vocabulary.words[int(best.indices[seed, 0])] == read[case.keep][seed]
    }
    if not leads:
        raise SystemExit(f"{case.prompt}: none of {CANDIDATES} seeds shows it and a clear {case.keep}")
    clearest = max(leads, key=leads.__getitem__)
    return clearest, read[case.keep][clearest]


def compare(case: Case, value: str, before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, Any]:
    """Share that shows the value, spread of the open attributes relative to before, adherence relative to before."""
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
    """Return the share that shows the target's value before, and what each mode does; one case, one thread."""
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
