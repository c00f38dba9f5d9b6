"""Which device work runs on, and what it has room and time for.

Long work asks first: `check_memory` refuses what does not fit, with the figure, before any memory
is taken; `seconds_of` says how long a number of multiplications takes here. Estimates are of the
order, meant to tell what cannot be done from what can.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import InputError

__all__ = [
    "available_memory",
    "check_memory",
    "cores",
    "limit_memory",
    "pick_device",
    "seconds_of",
    "within_memory",
]

#: Bytes that this process may take in all; None for what the machine has.
_limit: int | None = None
#: Bytes that a thread reserves for its stack, and hardly takes.
STACK = 8 << 20
#: Folder of a control group's files, by version: limit, use, and what of the use is given back.
GROUPS = {
    "": (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    "memory": (
        Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}  # fmt: skip


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


def limit_memory(most: int | None) -> None:
    """Let this process take at most so many bytes of memory in all; None for what there is."""
    global _limit
    _limit = most


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that this process may still take on a device; None if the system does not tell.

    On the CPU that is the least of what the machine has free, what control groups (containers) and
    the shell's limits leave, and what `limit_memory` allows. Nothing is counted as free that would
    have to be swapped.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    rooms = [*machine_room(), *group_rooms(), *shell_rooms()]
    if _limit is not None:
        rooms.append(_limit - taken("VmRSS"))
    return max(0, min(rooms)) if rooms else None


def check_memory(needed: float, what: str, advice: str, device: torch.device | str = "cpu") -> None:
    """Refuse work that needs more memory than there is, before it begins.

    Args:
        needed: Bytes.
        what: What is asked for, as it is typed.
        advice: What to ask for instead.
        device: Where it is needed.

    Raises:
        InputError: Less is available; the message names both figures.
    """
    available = available_memory(device)
    if available is not None and needed > available:
        where = "this machine" if torch.device(device).type != "cuda" else f"device {device}"
        raise InputError(
            f"{what}: needs about {in_words(needed)} of memory, {where} has {in_words(available)} "
            f"available; {advice}"
        )


@contextmanager
def within_memory() -> Iterator[None]:
    """Turn memory that is not there into an error, before the system ends the process for it.

    What one asks for may be too much in ways that no estimate foresaw. On Linux the process is
    kept, within this block, from growing by more than what is available now; where a GPU is used it
    is not, since drivers claim address space that they never use.

    Raises:
        InputError: Memory ran out.
    """
    try:
        with fenced():
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        asked = re.search(r"allocate (\d+) bytes", str(error))
        more = f" ({in_words(int(asked[1]))} more were asked for)" if asked else ""
        raise InputError(
            f"memory ran out{more}, this machine has "
            f"{in_words(available_memory() or 0)} available; ask for less: a smaller size, fewer "
            "rays or points, a smaller network"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error).lower()
    return any(words in said for words in ("can't allocate memory", "out of memory",
                                           "not enough memory"))  # fmt: skip


@contextmanager
def fenced() -> Iterator[None]:
    """Keep the process from growing by more than what is available; on Linux, without a GPU."""
    room = available_memory()
    if (
        room is None
        or not taken("VmData")
        or not sys.platform.startswith("linux")
        or torch.cuda.is_available()
    ):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = taken("VmData") + room + STACK * 2 * cores()
    if before[1] != resource.RLIM_INFINITY:
        most = min(most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def in_words(count: float) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def machine_room() -> Iterator[int]:
    """Free memory of the machine; all of it where free memory is not told."""
    known = entries("/proc/meminfo")
    if "MemAvailable" in known:
        yield known["MemAvailable"]
    elif sys.platform == "win32":
        yield windows_room()
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def windows_room() -> int:
    """Free memory by Windows' own count."""
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                    *((name, ctypes.c_ulonglong) for name in "abcdefg")]  # fmt: skip

    status = Status(ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.b)  # total, then available


def group_rooms() -> Iterator[int]:
    """What each control group of this process leaves, from its own up to the outermost."""
    for line in text_of("/proc/self/cgroup").splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        for controller in controllers.split(","):
            if controller not in GROUPS:
                continue
            top, most, used, given_back = GROUPS[controller]
            folder = top / path.lstrip("/")
            for place in (folder, *folder.parents):
                if not place.is_relative_to(top):
                    break
                limit, use = text_of(place / most), text_of(place / used)
                if limit.isdigit() and use.isdigit():
                    reclaimed = entries(place / "memory.stat", unit=1).get(given_back, 0)
                    yield int(limit) - int(use) + reclaimed


def shell_rooms() -> Iterator[int]:
    """What `ulimit` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, kind in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        most = resource.getrlimit(getattr(resource, name))[0]
        if most != resource.RLIM_INFINITY:
            yield most - taken(kind)


def taken(kind: str) -> int:
    """Bytes that this process has, of one kind of /proc/self/status; 0 where that is not told."""
    return entries("/proc/self/status").get(kind, 0)


def entries(path: str | Path, unit: int = 1024) -> dict[str, int]:
    """Whole numbers by name in a file of the system, times a unit."""
    found = {}
    for line in text_of(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0]] = int(words[1]) * unit
    return found


def text_of(path: str | Path) -> str:
    """Text of a small file of the system; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def seconds_of(multiplications: float, device: torch.device | str = "cpu") -> float:
    """About how long it takes to multiply and add so many times in products of matrices."""
    return multiplications / rate(str(device))


@functools.cache
def rate(device: str) -> float:
    """Multiplications a second in products of matrices, measured once for some milliseconds."""
    matrix = torch.ones(512, 512, device=device)
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        best = max(best, len(matrix) ** 3 / (time.perf_counter() - started))
    return best
