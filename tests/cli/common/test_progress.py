import pytest

from thalweg.cli.common.progress import rate_text


@pytest.mark.parametrize(
    ("speed", "text"), [(None, ""), (0.0, ""), (1500.0, "1,500 models/s"), (0.025, "40 s per model")]
)
def test_a_slow_rate_is_in_seconds_per_unit(speed: float | None, text: str):
    assert rate_text(speed, "models") == text
