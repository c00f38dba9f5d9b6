"""Tables of an experiment: medians over seed pairs, as rows and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..errors import shown
from ..experiment import Contender, Outcome, Scored

__all__ = [
    "SummaryRow",
    "failure_content",
    "headings",
    "markdown_table",
    "score_content",
    "shown_figures",
    "summary_rows",
    "timing_content",
]


@dataclass(frozen=True)
class SummaryRow:
    """One contender: medians over seed pairs.

    Attributes:
        contender: What it is.
        psnr: dB on each group and on all views.
        ssim: On all views.
        seconds: Of its training or merge; None where that is unknown.
        pairs: Number of seed pairs.
    """

    contender: Contender
    psnr: dict[str, float]
    ssim: float
    seconds: float | None
    pairs: int

    @property
    def overall(self) -> float:
        """PSNR on all views, dB."""
        return self.psnr["all"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.contender.key, **self.psnr, "ssim": self.ssim, "seconds": self.seconds,
            "pairs": self.pairs,
        }  # fmt: skip


def summary_rows(outcome: Outcome) -> list[SummaryRow]:
    """One row for each contender, in the outcome's order."""
    runs_of: dict[Contender, list[Scored]] = {}
    for scored in outcome.fields:
        runs_of.setdefault(scored.contender, []).append(scored)
    return [
        SummaryRow(
            contender,
            {group: median(one.psnr[group] for one in runs) for group in groups_of(outcome)},
            median(one.ssim["all"] for one in runs),
            median_of([one.seconds for one in runs if one.seconds is not None]),
            len(runs),
        )
        for contender, runs in runs_of.items()
    ]


def median_of(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(values) if values else None


def groups_of(outcome: Outcome) -> tuple[str, ...]:
    """What fields are scored on: each parent's views, then all."""
    return (*outcome.run.settings.groups, "all")


def headings(outcome: Outcome, unit: str = "") -> tuple[str, ...]:
    """Heads of the columns of a score table."""
    return ("field", *(group + unit for group in groups_of(outcome)), "SSIM", "seconds")


def shown_figures(outcome: Outcome, row: SummaryRow) -> tuple[str, ...]:
    """A row's figures as text, in the order of the headings after the first."""
    decibels = (f"{row.psnr[group]:.2f}" for group in groups_of(outcome))
    seconds = "–" if row.seconds is None else f"{row.seconds:.1f}"
    return (*decibels, f"{row.ssim:.3f}", seconds)


def score_content(outcome: Outcome) -> dict[str, Any]:
    """Content of ``scores.json``: settings, and a row for each field and group.

    Nothing in it is measured by a clock: the same command writes the same bytes.
    """
    return {
        "settings": outcome.run.as_dict(),
        "rows": [row for scored in outcome.fields for row in scored.rows()],
        "failed": failure_content(outcome),
    }


def failure_content(outcome: Outcome) -> list[dict[str, str]]:
    """Jobs that did not come to their end, and why."""
    return [{"job": one.title, "reason": one.reason} for one in outcome.failures]


def timing_content(outcome: Outcome) -> dict[str, Any]:
    """Content of ``timings.json``: seconds of the whole, and of each field's training or merge."""
    return {
        "seconds": round(outcome.seconds, 1),
        "rows": [
            {"name": one.contender.key, "seed": one.seed, "seconds": one.seconds}
            for one in outcome.fields
        ],
    }


def markdown_table(outcome: Outcome) -> str:
    """The score table with its settings, for people and for the docs."""
    run, settings = outcome.run, outcome.run.settings
    train = settings.train
    length = f"{run.steps} steps" if train.seconds is None else f"{train.seconds} s"
    most = settings.most_views
    chosen = "the" if most is None else f"{most} evenly spread"
    lines = [
        f"PSNR in dB on {chosen} held-out test views of `{shown(run.scene)}`, "
        f"median of {settings.seeds} seed pair(s); SSIM on all views.",
        "",
        f"| {' | '.join(headings(outcome))} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {' | '.join((row.contender.title, *shown_figures(outcome, row)))} |"
        for row in summary_rows(outcome)
    ]
    config = ", ".join(f"{key} {value}" for key, value in run.config.as_dict().items())
    lines += [
        "",
        f"`{settings.field}` ({config}); parents {length} each, optimiser "
        f"{train.optimizer}, weight decay {train.weight_decay}, "
        f"initialization {train.initialization}; background {list(run.background)}; memonf "
        f"{run.version}, torch {run.torch}, {run.machine}, "
        f"{settings.workers} process(es) of one thread; {outcome.seconds:.0f} s in all.",
        "",
        f"Made by `{shown(settings.command)}`.",
        *(f"Failed: {shown(one.title)}: {shown(one.reason)}" for one in outcome.failures),
        "",
    ]
    return "\n".join(lines)
