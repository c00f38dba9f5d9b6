"""The picture of quality against seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memonf.utils.files import replacing

__all__ = ["draw_curves"]

COLOURS = ("#c2571a", "#7a7f8c", "#2f6fb0", "#7b4fa3")


def draw_curves(summaries: list[dict[str, Any]], path: Path) -> None:
    """One panel a case that has curves: PSNR against seconds of training, a line a round.

    A target that a side was extrapolated to is drawn as a hollow mark.
    """
    from matplotlib.figure import Figure  # heavy: only when drawn; no global state, no window

    drawn = [summary for summary in summaries if any(summary["curves"].values())]
    if not drawn:
        return
    figure = Figure(figsize=(5.2 * len(drawn), 4.4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
    for axes, summary in zip(panels, drawn, strict=True):
        for colour, side in zip(COLOURS, summary["sides"], strict=False):
            for number, curve in enumerate(summary["curves"][side]):
                axes.plot(
                    [point["seconds"] for point in curve],
                    [point["psnr"] for point in curve],
                    color=colour, marker="o", markersize=3.5,
                    label=side if number == 0 else None,
                )  # fmt: skip
            for name, own in summary["sides"][side].items():
                if own["kind"] == "extrapolated":
                    target = float(name.removeprefix("to ").partition(" ")[0])
                    axes.plot(
                        own["median"], target, color=colour, marker="o", fillstyle="none",
                        linestyle="", label=f"{side}, extrapolated",
                    )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel(f"seconds of training, {summary['threads']} thread(s)")
        axes.set_title(summary["title"])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("PSNR on held-out views, dB")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
