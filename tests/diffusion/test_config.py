"""Model configs: invalid values are refused before anything is loaded, and without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thalweg.diffusion.config import ModelConfig
from thalweg.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scheduler": "eulr"}, r"^scheduler 'eulr': expected ddim, .*; did you mean euler\?$"),
        ({"steps": 0}, "steps to be a whole number from 1 to 100,000, got 0"),
        ({"guidance": -1.0}, "guidance_scale to be a number from 0 to 1000"),
        ({"gradient": "some"}, "gradient full, last_k, one_step, shortcut, random, auto or None, got 'some'"),
        ({"device": "gpu"}, "expected a device such as cpu, .*called cuda"),
        ({"model": "no-such-model"}, "'no-such-model', which is neither"),
        ({"clip": "no-such-model"}, "'no-such-model', which is neither"),
        ({"clip": __file__}, "expected a model's folder as `clip`, got the file '.*: give the folder with its files"),
        ({"lpips": __file__}, "expected a model's folder as `lpips`, got the file"),
        ({"dreamsim": ""}, "expected a model's folder as `dreamsim`, got nothing"),
    ],
)
def test_invalid_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelConfig(**values)


def test_another_model_needs_its_own_scorer() -> None:
    with pytest.raises(UsageError, match="expected `clip` to score images of owner/model with"):
        ModelConfig(model="owner/model").load_scorer()


def test_a_config_is_checked_without_torch() -> None:
    program = (
        "import sys\n"
        "from thalweg.diffusion.config import ModelConfig; ModelConfig(scheduler='euler', device='cuda:1')\n"
        "from thalweg.prompts import check_prompt_or_file; check_prompt_or_file('a ball')\n"
        "from thalweg.app.security.hosts import check_access; check_access('127.0.0.1', None)\n"
        "import thalweg.diffusion.miniature\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'gradio', 'fastapi'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_scorer_is_known_for_the_miniature_and_where_one_is_named(tmp_path: Path) -> None:
    assert ModelConfig().has_scorer
    assert ModelConfig(clip="openai/clip-vit-base-patch32").has_scorer
    assert not ModelConfig(model="openai/some-model").has_scorer
