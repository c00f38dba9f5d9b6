"""Which device work runs on."""

from __future__ import annotations

import os

import torch

from .errors import InputError

__all__ = ["cores", "pick_device"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: Not a device, or not one that this machine has.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device `{name}` cannot be used here ({reason}); leave --device out or use cpu; "
            "`memonf doctor` says what this machine has"
        ) from None
    if device.type == "meta":
        raise InputError("device `meta` holds no numbers; leave --device out or use cpu")
    return device
