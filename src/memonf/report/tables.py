"""Tables of an experiment: medians over seed pairs, as rows and as Markdown."""

from __future__ import annotations

from statistics import median
from typing import Any

from ..experiment import Outcome, Scored
from ..yardsticks import TITLES

__all__ = ["headings", "markdown_table", "score_content", "shown_figures", "summary_rows"]


def summary_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One row a field: median over seed pairs of PSNR on each group, SSIM on all, seconds."""
    by_name: dict[str, list[Scored]] = {}
    for scored in outcome.fields:
        by_name.setdefault(scored.name, []).append(scored)
    return [
        {
            "name": name,
            **{group: median(one.psnr[group] for one in runs) for group in groups_of(outcome)},
            "ssim": median(scored.ssim["all"] for scored in runs),
            "seconds": median(scored.seconds for scored in runs),
            "pairs": len(runs),
        }
        for name, runs in by_name.items()
    ]


def groups_of(outcome: Outcome) -> tuple[str, ...]:
    """What fields are scored on: each parent's views, then all."""
    return (*outcome.settings["groups"], "all")


def headings(outcome: Outcome, unit: str = "") -> tuple[str, ...]:
    """Heads of the columns of a score table."""
    return ("field", *(group + unit for group in groups_of(outcome)), "SSIM", "seconds")


def shown_figures(outcome: Outcome, row: dict[str, Any]) -> tuple[str, ...]:
    """A row's figures as text, in the order of the headings after the first."""
    decibels = (f"{row[group]:.2f}" for group in groups_of(outcome))
    return (*decibels, f"{row['ssim']:.3f}", f"{row['seconds']:.1f}")


def score_content(outcome: Outcome) -> dict[str, Any]:
    """Content of ``scores.json``: settings, and a row for each field and group."""
    return {
        "settings": outcome.settings | {"seconds": round(outcome.seconds, 1)},
        "rows": [row for scored in outcome.fields for row in scored.rows()],
    }


def markdown_table(outcome: Outcome) -> str:
    """The score table with its settings, for people and for the docs."""
    settings = outcome.settings
    train = settings["train"]
    length = f"{settings['steps']} steps" if train["seconds"] is None else f"{train['seconds']} s"
    most = settings["most_views"]
    chosen = "the" if most is None else f"{most} evenly spread"
    lines = [
        f"PSNR in dB on {chosen} held-out test views of `{settings['data_name']}`, "
        f"median of {settings['seeds']} seed pair(s); SSIM on all views.",
        "",
        f"| {' | '.join(headings(outcome))} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {' | '.join((described_name(row['name']), *shown_figures(outcome, row)))} |"
        for row in summary_rows(outcome)
    ]
    config = ", ".join(f"{key} {value}" for key, value in settings["config"].items())
    lines += [
        "",
        f"`{settings['field']}` ({config}); parents {length} each, optimiser "
        f"{train['optimizer']}, weight decay {train['weight_decay']}, "
        f"initialization {train['initialization']}; background {settings['background']}; memonf "
        f"{settings['version']}, torch {settings['torch']}, {settings['machine']}, "
        f"{settings['workers']} process(es) of one thread; {outcome.seconds:.0f} s in all.",
        "",
        f"Made by `{settings['command']}`.",
        "",
    ]
    return "\n".join(lines)


def described_name(name: str) -> str:
    """A field's name for people: methods in code type, batch norm spelt out."""
    bare = name.removesuffix("_batch_norm")
    text = TITLES.get(bare, f"`{bare}`")
    return f"{text}, batch norm" if bare != name else text
