"""Figures of runs, what can be said of several of them, and what is claimed of two sides.

Not every figure is measured to its end: one may be extrapolated, or only a bound. Each carries its
kind, and whatever is computed from figures carries what follows from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal, TypeAlias

__all__ = ["Claim", "Figure", "Kind", "Measured", "Spread", "claimed", "reaching", "spread_of"]

Kind: TypeAlias = Literal["measured", "extrapolated", "at least", "at most", "unknown"]

SIGNS: dict[Kind, str] = {
    "measured": "", "extrapolated": "≈ ", "at least": "≥ ", "at most": "≤ ", "unknown": "? ",
}  # fmt: skip
#: Digits after the point, where the unit decides them.
DIGITS = {"dB": 2, "steps": 0}
TURNED: dict[Kind, Kind] = {"at least": "at most", "at most": "at least"}


@dataclass(frozen=True)
class Figure:
    """One number of one run.

    Attributes:
        value: In its unit.
        unit: ``s``, ``dB``, …
        kind: Measured, extrapolated, or a bound.
    """

    value: float
    unit: str = "s"
    kind: Kind = "measured"


@dataclass(frozen=True)
class Measured:
    """What one side gave in one round.

    Attributes:
        figures: By name.
        curve: Points of quality against time: ``seconds`` of training, ``whole`` seconds of the
            process, ``steps``, ``psnr``.
        notes: How a figure came about, for people.
    """

    figures: dict[str, Figure]
    curve: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measured:
        """The inverse of `as_dict`."""
        figures = {name: Figure(**figure) for name, figure in values["figures"].items()}
        return cls(figures, values["curve"], values["notes"])


@dataclass(frozen=True)
class Spread:
    """Several figures of one name: their median and range."""

    median: float
    least: float
    most: float
    unit: str
    kind: Kind
    values: tuple[float, ...]

    def text(self) -> str:
        """For people: ``≥ 12.3 (11 to 15)``; no range where there is one run."""
        shown = f"{SIGNS[self.kind]}{number(self.median, self.unit)}"
        return f"{shown} ({self.range_text()})" if len(self.values) > 1 else shown

    def range_text(self) -> str:
        """For people: ``11 to 15``."""
        return f"{number(self.least, self.unit)} to {number(self.most, self.unit)}"


def number(value: float, unit: str) -> str:
    """Three significant digits and never an exponent; decibels to hundredths, counts whole."""
    if unit in DIGITS:
        return f"{value:.{DIGITS[unit]}f}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def joint_kind(kinds: Iterable[Kind]) -> Kind:
    """What can be said of a number that rests on figures of these kinds."""
    found = set(kinds) - {"measured"}
    if "unknown" in found or {"at least", "at most"} <= found:
        return "unknown"
    ranked: tuple[Kind, ...] = ("at least", "at most", "extrapolated")
    return next((kind for kind in ranked if kind in found), "measured")


def spread_of(figures: Sequence[Figure]) -> Spread:
    """Median and range of one or more figures."""
    values = tuple(figure.value for figure in figures)
    kind = joint_kind(figure.kind for figure in figures)
    return Spread(median(values), min(values), max(values), figures[0].unit, kind, values)


@dataclass(frozen=True)
class Claim:
    """What a case is to show.

    Attributes:
        figure: Name of the figure.
        ours: Side that it is claimed of.
        theirs: Side that it is compared with; None for the figure itself.
        by: ``ratio``: theirs / ours, so many times less of it; ``difference``: ours - theirs;
            ``value``: the figure itself.
        goal: What the number should reach; None if it is only shown.
    """

    figure: str
    ours: str
    theirs: str | None = None
    by: Literal["ratio", "difference", "value"] = "ratio"
    goal: float | None = None


def claimed(claim: Claim, ours: Sequence[Figure], theirs: Sequence[Figure]) -> Spread:
    """The number of a claim: of the medians, its range over the rounds, pair by pair.

    Args:
        claim: How the two are compared.
        ours: Figure of our side in each round.
        theirs: Of the other side; heeded unless the claim is of a value.
    """
    own = spread_of(ours)
    if claim.by == "value":
        return own
    other = spread_of(theirs)
    pairs = [(a.value, b.value) for a, b in zip(ours, theirs, strict=False)]
    kind = joint_kind((TURNED.get(own.kind, own.kind), other.kind))
    if claim.by == "ratio":
        values = tuple(b / a for a, b in pairs)
        return Spread(other.median / own.median, min(values), max(values), "×", kind, values)
    values = tuple(a - b for a, b in pairs)
    kind = joint_kind((own.kind, TURNED.get(other.kind, other.kind)))
    return Spread(own.median - other.median, min(values), max(values), own.unit, kind, values)


def is_met(goal: float | None, reached: Spread) -> bool | None:
    """Whether a goal is met; None where there is none, or where a bound does not decide it."""
    if goal is None or reached.kind == "unknown":
        return None
    met = reached.median >= goal
    undecided: Kind = "at most" if met else "at least"
    return None if reached.kind == undecided else met


def reaching(points: Sequence[tuple[float, float]], target: float) -> Figure:
    """When a curve first reaches a target, interpolated in the logarithm of the seconds.

    Args:
        points: (seconds, quality), seconds ascending and > 0; at least one.
        target: Quality asked for.

    Returns:
        Seconds; a bound where the first point is above the target or none is.
    """
    before: tuple[float, float] | None = None
    for seconds, quality in points:
        if quality >= target:
            if before is None:
                return Figure(seconds, kind="at most")
            share = (target - before[1]) / (quality - before[1])
            return Figure(before[0] * (seconds / before[0]) ** share)
        before = seconds, quality
    return Figure(points[-1][0], kind="at least")
