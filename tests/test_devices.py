"""Devices and floating types by name; absent ones raise a one-line error."""

import pytest
import torch

from thalweg.devices import available_devices, check_device_name, read_device, read_dtype
from thalweg.errors import UsageError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only."""
    for backend in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)


@pytest.fixture
def two_gpus(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["cpu", "CPU", " cpu ", "cpu:0", torch.device("cpu")])
def test_spellings_of_the_cpu(bare: None, name: str | torch.device) -> None:
    assert read_device(name) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cuda", "no cuda"),
        ("cuda:0", "no cuda"),
        ("mps", "no mps"),
        ("xpu", "no xpu"),
        ("gpu", "called cuda"),
        ("meta", ""),
        ("cuda:x", "no cuda"),
        ("cpu:1", "there is no cpu 1"),
        ("", ""),
        ("tpu", ""),
    ],
)
def test_an_absent_device_raises_one_line_error(bare: None, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"^expected a device of this machine \(cpu\), got '{name}'[^\n]*{hint}"):
        read_device(name)


def test_gpus_are_counted(two_gpus: None) -> None:
    assert available_devices() == ["cpu", "cuda:0", "cuda:1"]
    assert read_device("CUDA") == torch.device("cuda")
    assert read_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match=r"\(cpu, cuda:0, cuda:1\), got 'cuda:7'; there is no cuda 7$"):
        read_device("cuda:7")


def test_floating_types_by_name() -> None:
    assert read_dtype(None) is None
    assert read_dtype("float16") == read_dtype("torch.float16") == read_dtype(torch.float16) == torch.float16
    for other in ("half", "int8", torch.int8, 16):
        with pytest.raises(UsageError, match="expected dtype float16, bfloat16, float32, float64 or None, got "):
            read_dtype(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cpu", "CPU", "cuda", " cuda:7 ", "mps", "xpu:1"])
def test_device_names_need_no_such_device(bare: None, name: str) -> None:
    check_device_name(name)


@pytest.mark.parametrize(
    ("name", "hint"), [("gpu", "called cuda"), ("gpu:1", "called cuda"), ("tpu", ""), ("cuda:x", "")]
)
def test_an_invalid_device_name_raises_one_line_error(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"^expected a device such as cpu, [^\n]* got '{name}'[^\n]*{hint}"):
        check_device_name(name)
