"""What a measurement ran on."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

import memonf
from memonf.doctor import cpu_model
from memonf.utils.devices import cores

__all__ = ["BENCH", "SOURCE", "describe_machine", "fingerprint", "load", "versions"]

BENCH = Path(__file__).parents[1]
SOURCE = Path(memonf.__file__).parents[1]


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of what takes part."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "memonf": memonf.__version__,
    }


def load() -> float:
    """Processes that wanted to run during the last minute, on average."""
    return os.getloadavg()[0]


def fingerprint(case_file: Path) -> str:
    """Hash of all code that a case measures: the package, the references, the case's own file."""
    hashed = hashlib.sha256()
    files = [*SOURCE.glob("memonf/**/*.py"), *BENCH.glob("reference/*.py"), case_file]
    for file in sorted(files):
        hashed.update(file.name.encode())
        hashed.update(file.read_bytes())
    return hashed.hexdigest()[:12]
