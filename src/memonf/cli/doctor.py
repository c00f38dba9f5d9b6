"""``memonf doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from ..doctor import Examination, examine
from ..errors import MemonfError
from .options import Switch, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf doctor
  memonf doctor --json > machine.json\
"""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Print machine, versions, extras and devices, and what is slow about them.

    Ends with status 1 if something is broken.

    Attributes:
        quiet: Accepted by every verb.
        json: Print the result as JSON.
    """

    quiet: Switch = False
    json: Switch = False


def run(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        MemonfError: Something is broken.
    """
    options = parse(Doctor, "doctor", args, EXAMPLES)
    examination = examine()
    if options.json:
        say(json.dumps(examination.as_dict()))
    else:
        for line in in_words(examination):
            say(line)
    broken = [finding for finding in examination.findings if finding.broken]
    if broken:
        raise MemonfError(f"{broken[0].what}; {broken[0].do}")


def in_words(found: Examination) -> Iterator[str]:
    """The lines to print, none wider than 80 columns."""
    machine, memory, cache = found.machine, found.machine["memory"], found.machine["cache"]
    yield "Machine"
    yield from row("processor", machine["cpu"])
    yield from row("cores", f"{machine['cores']} usable of {machine['cores_present']}, "
                            f"load {machine['load']:.1f}")  # fmt: skip
    yield from row("instructions", ", ".join(machine["instructions"]) or "unknown")
    free = f", {memory['available']} GiB available" if "available" in memory else ""
    yield from row("memory", f"{memory['total']} GiB{free}")
    yield from row("cache", f"{cache['folder']}, {cache['free']} GiB free")
    yield "Versions"
    for name, version in found.versions.items():
        yield from row(name, version)
    yield "Extras"
    for extra in found.extras:
        yield from row(extra["name"], "installed" if extra["installed"] else extra["install"])
    yield "Devices (products of 6144x128 by 128x128, billion operations a second)"
    for device in found.devices:
        memory_text = f", {device['memory']} GiB" if "memory" in device else ""
        state = f"works, {device['rate']:.0f}" if device["works"] else "DOES NOT WORK"
        yield from row(device["device"], f"{device['name']}{memory_text}: {state}")
    speeds = found.speeds
    yield from row("cpu threads", f"one {speeds['one_thread']:.0f}, all "
                   f"{speeds['all_threads']:.0f}; bfloat16 on one {speeds['bfloat16']:.0f}"
                   )  # fmt: skip
    yield "What is slow, and what to do" if found.findings else "Nothing is slow here."
    for finding in found.findings:
        mark = "!!" if finding.broken else "- "
        yield from wrap(f"{finding.what}: {finding.do}", 78, initial_indent=f"  {mark} ",
                        subsequent_indent="     ")  # fmt: skip


def row(name: str, text: str) -> list[str]:
    """A name and what there is to say of it, wrapped beside it."""
    return wrap(text, 78, initial_indent=f"  {name:<13} ", subsequent_indent=" " * 16)
