"""Devices and floating types by name: one line where the machine lacks what is asked for."""

import torch

from thalweg.errors import UsageError

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
"""Floating types that models load in, by name."""


def available_devices() -> list[str]:
    """Return the devices of this machine by name, the CPU first."""
    found = ["cpu"]
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind)
        if backend.is_available():
            found += [f"{kind}:{index}" for index in range(backend.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def read_device(name: str | torch.device) -> torch.device:
    """Return the device `name`, such as cpu, cuda, cuda:1 or mps, in lower or upper case.

    Raises:
        UsageError: no such device exists, or this machine lacks it.
    """
    known = available_devices()
    kinds = {device.partition(":")[0] for device in known}
    text = str(name).strip().lower()
    kind, _, index = text.partition(":")
    if text in known:
        return torch.device(text)
    if text in kinds or (text == f"{kind}:0" and kind in known):
        return torch.device(kind)
    if kind == "gpu":
        hint = "; an NVIDIA or AMD GPU is called cuda, an Apple one mps"
    elif kind in kinds:
        hint = f"; there is no {kind} {index}"
    elif kind in ("cuda", "mps", "xpu"):
        hint = f"; this machine or this build of torch has no {kind}"
    else:
        hint = ""
    raise UsageError(f"expected a device of this machine ({', '.join(known)}), got {str(name)!r}{hint}")


def read_dtype(name: str | torch.dtype | None) -> torch.dtype | None:
    """Return the floating type `name`, such as float16 or torch.float16; None stays None.

    Raises:
        UsageError: another type.
    """
    if name is None:
        return None
    text = str(name).removeprefix("torch.")
    if text not in DTYPES:
        raise UsageError(f"expected dtype {', '.join(DTYPES)} or None, got {name!r}")
    return DTYPES[text]
