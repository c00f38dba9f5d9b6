"""What is slow or broken, in plain words, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "findings"]

#: Less than this many GiB is little: of memory, and of room for pictures.
LITTLE_MEMORY, LITTLE_ROOM = 2.0, 1.0


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        what: What was found.
        do: What to do about it.
        broken: Whether something does not work, rather than being slow.
    """

    what: str
    do: str
    broken: bool = False


def findings(
    machine: dict[str, Any],
    versions: dict[str, str],
    devices: list[dict[str, Any]],
    speeds: dict[str, Any],
) -> list[Finding]:
    """All findings, of the devices first."""  # fmt: skip
    return [
        *of_devices(devices, versions),
        *of_speeds(machine, speeds),
        *of_memory(machine),
    ]


def of_devices(devices: list[dict[str, Any]], versions: dict[str, str]) -> Iterator[Finding]:
    """Broken devices, no GPU, no films."""
    for device in devices:
        if not device["works"]:
            yield Finding(
                f"{device['device']} ({device['name']}) is found but fails: {device['error']}",
                "use --device cpu, or match the driver to this build of torch",
                broken=True,
            )
    if len(devices) == 1:
        yield Finding(
            f"there is no GPU that torch can use (CUDA of this build: {versions['cuda']})",
            "nothing, fields are small; with a GPU, install the torch built for it",
        )
    if versions["x264"] == "no":
        yield Finding("films cannot be written as .mp4", "write .gif or .webp instead")


def of_speeds(machine: dict[str, Any], speeds: dict[str, Any]) -> Iterator[Finding]:
    """Threads, other work, narrow instructions and bfloat16."""
    cores = machine["cores"]
    if speeds["threads"] > cores:
        yield Finding(
            f"{speeds['threads']} threads on {cores} cores wait for each other",
            f"set OMP_NUM_THREADS={cores}",
        )
    elif speeds["threads"] < cores:
        yield Finding(
            f"torch uses {speeds['threads']} of {cores} cores (OMP_NUM_THREADS or a limit)",
            f"set OMP_NUM_THREADS={cores} where one training runs alone",
        )
    if cores > 1 and speeds["all_threads"] < speeds["one_thread"]:
        yield Finding(
            f"products on {cores} threads are slower than on one",
            "set OMP_NUM_THREADS=1 while other work runs, as `memonf compare` does for its workers",
        )
    if machine["load"] > 0.5 * cores:
        yield Finding(
            f"other work keeps {machine['load']:.1f} of {cores} cores busy (load average); "
            "the rates above are lower for it",
            "wait or end that work before you measure",
        )
    if not {"AVX2", "NEON"} & set(machine["instructions"]) and "x86" in machine["system"]:
        yield Finding("the processor has no AVX2", "expect a third of the speed, or less")
    share = speeds["bfloat16"] / speeds["one_thread"]
    if share > 1.2:
        yield Finding(
            f"bfloat16 products are {share:.1f} times as fast as float32",
            "try `memonf train --precision bfloat16`",
        )
    elif share < 1:
        yield Finding(
            f"bfloat16 products run at {share:.2f} times the speed of float32",
            "keep --precision float32, the default",
        )
    if machine["governor"] == "powersave":
        yield Finding("the processor saves power", "set its governor to `performance`")


def of_memory(machine: dict[str, Any]) -> Iterator[Finding]:
    """Too little memory or room, swap in use, a cache that cannot be written."""
    memory, cache = machine["memory"], machine["cache"]
    if memory.get("available", LITTLE_MEMORY) < LITTLE_MEMORY:
        yield Finding(
            f"only {memory['available']} GiB of memory are free", "end other programs first"
        )
    if "limit" in memory:
        yield Finding(
            f"this container may use {memory['limit']} of {memory['total']} GiB of memory",
            "fewer --workers for `memonf compare` if it is killed",
        )
    if memory.get("swap_used", 0) > LITTLE_ROOM:
        yield Finding(
            f"{memory['swap_used']} GiB of memory are swapped out", "end other programs first"
        )
    if not cache["writable"]:
        yield Finding(
            f"{cache['folder']} cannot be written, large data sets need it",
            "name another folder in MEMONF_CACHE",
            broken=True,
        )
    elif cache["free"] < LITTLE_ROOM:
        yield Finding(
            f"{cache['folder']} has {cache['free']} GiB of room, large data sets need more",
            "make room, or name another folder in MEMONF_CACHE",
        )
