"""Guards of an optimization: judge, default constraint, and the result in words."""

import math
from dataclasses import replace

import pytest
import torch

from thalweg.errors import UsageError
from thalweg.steer.metrics import image_statistics
from thalweg.steer.metrics.metric import metric
from thalweg.steer.optimization.judge import half_resolution
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.optimization.report import describe

SEEDS = (1, 2, 3)


@pytest.fixture
def start(toy):
    return toy.embed("a red ball")


def test_the_judge_refuses_what_raises_the_score_alone(toy, start):
    contrast = image_statistics.contrast()
    fooled = metric(lambda images: -contrast(images), "its opposite")
    result = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=20, patience=3, judge=fooled))
    assert result.step == 0
    assert result.stopped == "no better score in 3 moves (the judge refused 3 that scored higher)"
    assert all(row.judge == pytest.approx(-row.score) for row in result.trace)


def test_single_pixels_do_not_convince_the_default_judge():
    flat = torch.full((1, 3, 16, 16), 0.5)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    edge = (torch.arange(16) > 7).float().expand(1, 3, 16, 16)
    judge = half_resolution(image_statistics.sharpness())
    checked, edged = flat + 0.2 * (board - 0.5), flat + 0.2 * (edge - 0.5)
    assert image_statistics.sharpness()(checked) > 10 * image_statistics.sharpness()(edged)
    assert float(judge(checked)) < 1e-6 < float(judge(edged))
    assert judge.name == "sharpness at half resolution"


def test_the_judge_is_the_metric_at_half_resolution_by_default(toy, start):
    contrast = image_statistics.contrast()
    result = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=3))
    assert result.trace[0].judge == pytest.approx(float(half_resolution(contrast)(toy.render(start, SEEDS)).mean()))
    paper = optimize(toy, start, OptimizeConfig(contrast, SEEDS, iterations=3, recipe="paper"))
    assert math.isnan(paper.trace[0].judge)


class Scorer:
    """Texts as colours: the cosine of an image's mean colour with that of a word."""

    def embed_text(self, text):
        return torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 0.0]) if "red" in text else torch.ones(3), dim=0)

    def embed_images(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)


def test_the_prompts_own_text_score_is_a_constraint(toy, start):
    config = OptimizeConfig("contrast", SEEDS, prompt="a red ball, + 2", keep="prompt", iterations=3)
    made = config.with_metrics(Scorer)
    assert made.keep.name == "text: a red ball, + 2"
    result = optimize(toy, start, made)
    assert result.trace[0].kept == pytest.approx(float(made.keep(toy.render(start, SEEDS)).mean()))
    for change, says in (({"prompt": ""}, "needs the words of the `prompt`"), ({}, "needs a scorer of texts")):
        with pytest.raises(UsageError, match=says):
            replace(config, **change).with_metrics()


def test_a_result_in_words(toy, start):
    keep = image_statistics.colourfulness()
    config = OptimizeConfig(image_statistics.contrast(), SEEDS, iterations=25, radius=2, keep=keep, unseen=(7, 8))
    result = optimize(toy, start, config)
    score, unseen, drift, lost, judge = describe(result, config)
    assert score.startswith(f"contrast: {result.start_score:.4g} -> {result.score:.4g} at step {result.step} (")
    assert unseen.endswith("of the gain holds there")
    assert drift == f"drift: {result.trace[result.step].drift:.2g}, far from the prompt"
    assert lost.startswith("lost of colourfulness: little (54.2 -> ")
    assert judge.startswith("judge, which was not optimized, contrast at half resolution: 0.0")
    first = replace(result, trace=result.trace[:1], step=0, score=result.start_score, unseen_score=0.0)
    sentences = describe(first, config)
    assert "nothing of the gain holds there" in sentences[1]
    assert sentences[2:4] == ["drift: 0, next to the prompt", "lost of colourfulness: nothing (54.2 -> 54.2)"]
    free = replace(config, keep=None)
    assert any("lost: not measured" in line for line in describe(optimize(toy, start, free), free))
