"""Devices and floating types by name: what a machine lacks is refused in one line."""

import re
from typing import TYPE_CHECKING

from thalweg.errors import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("float16", "bfloat16", "float32", "float64")
"""Floating types that models load in, by name."""

_DEVICE = re.compile(r"(?:cpu|cuda|mps|xpu)(?::\d+)?", re.IGNORECASE)


def check_device_name(name: str) -> None:
    """Check that `name` is the name of a device, whether or not this machine has it; imports no torch.

    Raises:
        UsageError: no such name.
    """
    if not _DEVICE.fullmatch(name.strip()):
        raise UsageError(f"expected a device such as cpu, cuda, cuda:1, mps or xpu, got {name!r}{_hint(name)}")


def available_devices() -> list[str]:
    """Return the devices of this machine by name, the CPU first."""
    import torch

    found = ["cpu"]
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind)
        if backend.is_available():
            found += [f"{kind}:{index}" for index in range(backend.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def read_device(name: "str | torch.device") -> "torch.device":
    """Return the device `name`, such as cpu, cuda, cuda:1 or mps, in lower or upper case.

    Raises:
        UsageError: no such device exists, or this machine lacks it.
    """
    import torch

    known = available_devices()
    kinds = {device.partition(":")[0] for device in known}
    text = str(name).strip().lower()
    kind, _, index = text.partition(":")
    if text in known:
        return torch.device(text)
    if text in kinds or (text == f"{kind}:0" and kind in known):
        return torch.device(kind)
    hint = _hint(text)
    if kind in kinds:
        hint = f"; there is no {kind} {index}"
    elif kind in ("cuda", "mps", "xpu"):
        hint = f"; this machine or this build of torch has no {kind}"
    raise UsageError(f"expected a device of this machine ({', '.join(known)}), got {str(name)!r}{hint}")


def read_dtype(name: "str | torch.dtype | None") -> "torch.dtype | None":
    """Return the floating type `name`, such as float16 or torch.float16; None stays None.

    Raises:
        UsageError: another type.
    """
    import torch

    if name is None:
        return None
    text = str(name).removeprefix("torch.")
    if text not in DTYPES:
        raise UsageError(f"expected dtype {', '.join(DTYPES)} or None, got {name!r}")
    dtype: torch.dtype = getattr(torch, text)
    return dtype


def _hint(name: str) -> str:
    """Return the names that a GPU has, where the user wrote "gpu"."""
    is_gpu = name.strip().lower().partition(":")[0] == "gpu"
    return "; an NVIDIA or AMD GPU is called cuda, an Apple one mps" if is_gpu else ""
