"""Processor, memory, limits and folders, as far as the system tells."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from ..data.storage import cache_folder
from ..utils.devices import cores

__all__ = ["cpu_model", "describe_machine"]

#: Flags of /proc/cpuinfo whose instructions speed up products of matrices.
INSTRUCTIONS = {
    "avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16", "asimd": "NEON", "sve": "SVE", "bf16": "BF16",
}  # fmt: skip
#: Where containers write their memory limit, in bytes or `max`.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def read(path: str) -> str:
    """Text of a small system file; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def of_cpuinfo(*keys: str) -> str:
    """The first value by one of these names in the processor's description."""
    for line in read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def cpu_model() -> str:
    """Name of the processor."""
    return of_cpuinfo("model name") or platform.processor() or platform.machine()


def memory() -> dict[str, float]:
    """GiB: total, available, swap in use, and the container's limit where there is one."""
    lines = (line.split() for line in read("/proc/meminfo").splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines}
    if kib:
        found = {
            "total": kib["MemTotal"] / 2**20,
            "available": kib.get("MemAvailable", kib["MemFree"]) / 2**20,
            "swap_used": (kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)) / 2**20,
        }
    else:
        found = {"total": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30}
    for path in LIMITS:
        limit = read(path)
        if limit.isdigit() and int(limit) / 2**30 < found["total"]:
            found["limit"] = int(limit) / 2**30
    return {name: round(value, 1) for name, value in found.items()}


def cache() -> dict[str, Any]:
    """The folder for pictures: whether it can be written, and its free room in GiB."""
    folder = cache_folder()
    there = folder
    while not there.exists():
        there = there.parent
    return {
        "folder": str(folder),
        "writable": os.access(there, os.W_OK),
        "free": round(shutil.disk_usage(there).free / 2**30, 1),
    }


def describe_machine() -> dict[str, Any]:
    """All of it; memory in GiB."""
    flags = of_cpuinfo("flags", "Features").split()
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "cores_present": os.cpu_count() or 1,
        "load": round(os.getloadavg()[0], 2),
        "instructions": [name for flag, name in INSTRUCTIONS.items() if flag in flags],
        "governor": read(GOVERNOR),
        "memory": memory(),
        "cache": cache(),
        "system": f"{platform.system()} {platform.machine()}",
    }
