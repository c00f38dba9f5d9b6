"""Measures the sides of a case in turn, and keeps what is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memonf.utils.files import write_json

from .case import Case
from .figures import Figure, Measured
from .machine import describe_machine, fingerprint, load, versions
from .processes import Run

__all__ = ["Turn", "figures_of", "identity", "measure"]


@dataclass(frozen=True)
class Turn:
    """One side, measured once.

    Attributes:
        round: Number of the round, from 0.
        side: Name of the side.
        load: Of the machine just before.
        measured: What came out.
    """

    round: int
    side: str
    load: float
    measured: Measured


def identity(case: Case, settings: dict[str, Any], threads: int) -> dict[str, Any]:
    """What must be the same for a measurement to be kept: settings, code, versions, machine."""
    file = sys.modules[type(case).__module__].__file__
    shown = {key: Path(value).name if key == "data" else value for key, value in settings.items()}
    return {
        "case": case.name,
        "settings": json.loads(json.dumps(shown)),
        "threads": threads,
        "code": fingerprint(Path(str(file))),
        "versions": versions(),
        "machine": describe_machine(),
    }


def measure(
    case: Case,
    settings: dict[str, Any],
    run: Run,
    log: Path,
    *,
    threads: int,
    repeats: int,
    fresh: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Turn]:
    """All rounds of a case: side after side, then the next round.

    Args:
        case: The case.
        settings: Of `Case.settings`.
        run: How jobs are run.
        log: JSON file; turns that stand there under the same `identity` are kept, new ones are
            added as they are measured.
        threads: Threads of each job.
        repeats: Number of rounds, >= 1.
        fresh: Keep nothing.
        tell: Called with a line for people before each turn.
    """
    same = identity(case, settings, threads)
    turns = [] if fresh else kept_turns(log, same)
    done = {(turn.round, turn.side) for turn in turns}
    for number in range(repeats):
        for side, measure_side in case.sides(settings).items():
            if (number, side) in done:
                continue
            before = load()
            tell(f"{case.name}, round {number + 1} of {repeats}: {side} (load {before:.1f})")
            turns.append(Turn(number, side, before, measure_side(run)))
            write_json(log, {**same, "turns": [as_dict(turn) for turn in turns]})
    return [turn for turn in turns if turn.round < repeats]


def as_dict(turn: Turn) -> dict[str, Any]:
    """Plain values for JSON."""
    return {**vars(turn), "measured": turn.measured.as_dict()}


def kept_turns(log: Path, same: dict[str, Any]) -> list[Turn]:
    """What a log holds, if it is of the same case under the same conditions."""
    if not log.exists():
        return []
    content = json.loads(log.read_text(encoding="utf-8"))
    if {key: content.get(key) for key in same} != same:
        return []
    return [
        Turn(**{**turn, "measured": Measured.from_dict(turn["measured"])})
        for turn in content["turns"]
    ]


def figures_of(turns: list[Turn], side: str, name: str) -> list[Figure]:
    """One figure of one side in every round that has it, in the order of the rounds."""
    own = sorted((turn for turn in turns if turn.side == side), key=lambda turn: turn.round)
    return [turn.measured.figures[name] for turn in own if name in turn.measured.figures]
