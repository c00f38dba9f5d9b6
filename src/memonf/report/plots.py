"""Curves as numbers on a sheet of SVG, drawn by the page itself: they follow its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CurveLine", "CurvePlot", "plot_curves"]

WIDTH, HEIGHT = 720.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 12.0, 44.0


@dataclass(frozen=True)
class CurveLine:
    """One curve.

    Attributes:
        name: Method.
        points: SVG coordinates, as `points` of a polyline takes them.
        dots: (x, y) of each point.
        colour: Number of its colour in the page's style.
        dashed: Whether it is drawn dashed.
        barrier: Largest drop below the line between the parents, dB.
        values: At each coefficient, dB.
    """

    name: str
    points: str
    dots: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool
    barrier: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvePlot:
    """Curves over one axis.

    Attributes:
        lines: The curves.
        coefficients: Of the second parent, shared by all curves.
        x_ticks: (place, label) along the lower border.
        y_ticks: (place, label) along the left border.
        width: Of the sheet.
        height: Of the sheet.
        frame: Left, top, right and bottom border of the axes.
    """

    lines: tuple[CurveLine, ...]
    coefficients: tuple[float, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT
    frame: tuple[float, float, float, float] = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def plot_curves(
    curves: Sequence[tuple[str, Sequence[float], float]],
    coefficients: Sequence[float],
    styles: Sequence[tuple[int, bool]],
) -> CurvePlot:
    """Lay curves out.

    Args:
        curves: (name, dB at each coefficient, barrier) each, at least one.
        coefficients: Ascending, two or more.
        styles: (number of the colour, dashed) of each curve.
    """
    values = [value for _, found, _ in curves for value in found]
    step = tick_step(min(values), max(values))
    low = math.floor(min(values) / step) * step
    high = max(math.ceil(max(values) / step) * step, low + step)
    first, last = coefficients[0], coefficients[-1]

    def across(share: float) -> float:
        return round(LEFT + (share - first) / (last - first) * (WIDTH - LEFT - RIGHT), 2)

    def down(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 2)

    lines = []
    for (name, found, barrier), (colour, dashed) in zip(curves, styles, strict=True):
        dots = tuple(
            (across(share), down(value)) for share, value in zip(coefficients, found, strict=True)
        )
        points = " ".join(f"{x},{y}" for x, y in dots)
        lines.append(CurveLine(name, points, dots, colour, dashed, barrier, tuple(found)))
    ticks = round((high - low) / step)
    return CurvePlot(
        tuple(lines),
        tuple(coefficients),
        tuple((across(share), f"{share:g}") for share in coefficients),
        tuple((down(low + k * step), f"{low + k * step:g}") for k in range(ticks + 1)),
    )


def tick_step(low: float, high: float) -> float:
    """A round distance between four to ten ticks over a range."""
    rough = max(high - low, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough)) * power
