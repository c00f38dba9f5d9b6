"""Interpolation curves: how good the fields between two parents are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluation.evaluate import barrier
from ..experiment import Outcome
from ..typing import PathLike
from ..utils.files import replacing
from ..visualization.images import drawn_text

__all__ = ["curve_content", "curve_styles", "draw_curves"]

COLOURS = {
    "average": "#7a7f8c",
    "weight_matching": "#2f6fb0",
    "activation_matching": "#c2571a",
    "combined_matching": "#7b4fa3",
}
#: Of methods without a colour of their own, one after the other.
OTHERS = ("#4c8c4a", "#b8860b", "#008b8b", "#a0305a")
REPAIR = "_repair"


def curve_content(outcome: Outcome) -> list[dict[str, Any]]:
    """Content of ``curves.json``; the barrier is the largest drop below the parents' line, dB."""
    return [
        {
            "method": curve.method,
            "coefficients": list(curve.coefficients),
            "psnr": list(curve.psnr),
            "barrier": barrier(curve.coefficients, curve.psnr),
        }
        for curve in outcome.curves
    ]


def curve_styles(names: Sequence[str]) -> list[tuple[int, bool]]:
    """Colour and dashes of curves: one colour an alignment, dashed without REPAIR.

    Returns:
        For each name its colour's place in `COLOURS` and then `OTHERS`, and whether it is dashed;
        a method that has no twin with REPAIR is drawn through.
    """
    bare = [name.removesuffix(REPAIR) for name in names]
    places = [*COLOURS, *dict.fromkeys(name for name in bare if name not in COLOURS)]
    return [
        (
            min(places.index(own), len(COLOURS) + places.index(own) % len(OTHERS)),
            own == name and own in COLOURS,
        )
        for name, own in zip(names, bare, strict=True)
    ]


def draw_curves(outcome: Outcome, path: PathLike) -> None:
    """Draw the curves as PNG: one colour an alignment, dashed without REPAIR."""
    from matplotlib.figure import Figure  # heavy: only when drawn; no global state, no window

    figure = Figure(figsize=(7.6, 5.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    contents = curve_content(outcome)
    styles = curve_styles([content["method"] for content in contents])
    for content, style in zip(contents, styles, strict=True):
        name = content["method"]
        place, dashed = style
        axes.plot(
            content["coefficients"],
            content["psnr"],
            color=[*COLOURS.values(), *OTHERS][place],
            linestyle="--" if dashed else "-",
            marker="o",
            markersize=3.5,
            label=f"{drawn_text(name)}  (barrier {content['barrier']:.1f} dB)",
        )
    axes.set_xlabel(f"coefficient of the {drawn_text(outcome.run.settings.groups[1])} parent")
    axes.set_ylabel("PSNR on held-out views of both halves, dB")
    axes.set_title(f"Between the parents: {drawn_text(outcome.run.scene)}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
