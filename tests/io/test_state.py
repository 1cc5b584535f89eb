"""Resume state: what is written is read back exactly; damage and other parameters are refused."""

from pathlib import Path

import pytest
import torch

from thalweg.errors import MissingPathError, UsageError
from thalweg.io.state import STATE, check_request, read_state, write_state

VALUES = {"request": {"steps": 3, "seeds": [0, 1]}, "done": 2, "best": 0.1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shared = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    return write_state(tmp_path / "run" / STATE, {"point": shared, "transposed": shared.T}, VALUES)


def test_a_state_is_read_back_exactly(path: Path) -> None:
    tensors, values = read_state(path)
    assert values == VALUES
    assert tensors["point"].dtype == torch.float16
    assert torch.equal(tensors["transposed"], tensors["point"].T)


def test_a_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="can't be read: it is no file"):
        read_state(tmp_path / STATE)


def test_a_damaged_or_changed_state_is_refused(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(UsageError, match=r"state\.safetensors can't be read .*begin a new run"):
        read_state(path)
    changed = content.replace(b'steps\\": 3', b'steps\\": 4')
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(UsageError, match="it was changed"):
        read_state(path)


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    begun = {"steps": 3, "seeds": [0, 1]}
    check_request(tmp_path, begun, {"seeds": (0, 1), "steps": 3})
    for asked, words in (
        ({"seeds": (0, 1), "steps": 4}, "the run began with steps 3, asked for is 4"),
        ({"seeds": (0, 1)}, "steps 3, asked for is None"),
        ({**begun, "radius": 0.5}, "radius None, asked for is 0.5"),
    ):
        with pytest.raises(UsageError, match=words):
            check_request(tmp_path, begun, asked)
